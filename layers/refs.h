/* Which images name which layers: what gc must leave alone, and what `petri layer list` shows. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "layers/store.h"

struct refs_image {
	char *name;
	struct image_identity identity;
	size_t nlayers;
	uint8_t (*layers)[16];
};

struct refs {
	struct refs_image *images; /* sorted by name */
	size_t n;
};

#define REFS_INIT ((struct refs){NULL, 0})

/*
 * refs_load - read the images; those that did not change since the last call on *refs are not read again.
 * An image that cannot be read is an error: what it names is not known, and must not be removed. *refs is then as before.
 */
int refs_load(struct store *store, struct refs *refs, struct err *err);
/* refs_next - the name of the at'th or a later image that has this layer, *at moving behind it; NULL: none. Start with 0. */
const char *refs_next(const struct refs *refs, const uint8_t id[16], size_t *at);
void refs_clear(struct refs *refs);
