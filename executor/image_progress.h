/* What `petri image import` says on stderr while it works: a bar on a terminal, a line a layer elsewhere. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "layers/store.h"

struct import_progress {
	const char *name;
	bool terminal;
	bool drawn;	  /* a bar stands in the current line */
	uint64_t last_us; /* when it was drawn */
	uint64_t read;	  /* bytes of the source's layers */
	unsigned layers, existed;
};

void import_progress_begin(struct import_progress *p, const char *name);
/* import_progress_on - struct image_import's callback; ctx is the struct. */
void import_progress_on(void *ctx, const struct image_progress *now);
/* import_progress_end - and the one line that sums it all up, if it was good. */
void import_progress_end(struct import_progress *p, bool good);
