/* What the files of gc share. Not for other folders. */
#pragma once

#include "layers/gc.h"
#include "layers/refs.h"
#include "layers/store_internal.h"

struct gc {
	struct store *store;
	const struct gc_options *options;
	struct gc_sums *sums;
	struct refs refs;
};

/*
 * gc_take_layers - remove those of n layers that are unused now: locked, and again without image or pin, and not used since they
 * were listed. The others are passed over. Return: 0 or -errno, when the images cannot be read any more.
 */
#define GC_BATCH 32u
int gc_take_layers(struct gc *gc, const struct gc_item *items, size_t n, struct err *err);
/* gc_take_blob - the same of one blob. */
void gc_take_blob(struct gc *gc, const struct gc_item *item);
/* gc_rest - objects without another link, sources of layers that are gone, records of blobs that are gone, leftovers. */
int gc_rest(struct gc *gc, struct err *err);
void gc_removed(struct gc *gc, const struct gc_item *item, uint64_t bytes);
