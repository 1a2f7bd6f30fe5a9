/*
 * Garbage collection: layers and blobs that no image, no pin and no process needs, and what is left of others.
 *
 * Safe beside everything else: a layer is taken with the exclusive lock on its last use (layers/use.h), after which the images
 * and pins are looked at once more, and is then renamed away before it is deleted. A blob is taken under its directory's lock.
 * Killed at any moment, it leaves whole layers, and temporary trees for the next sweep.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "layers/store.h"

struct gc_options {
	uint64_t keep_s;    /* what was used within so many seconds stays */
	uint64_t max_bytes; /* on disk: beyond, what is unused goes, however young, the oldest use first; UINT64_MAX: no bound */
	bool dry_run;	    /* only count; without leftovers and objects */
	/* Told of each layer and blob that goes ("layer xxh128:…"); or NULL. */
	void (*removed)(void *ctx, const char *what, uint64_t bytes);
	void *ctx;
};

struct gc_sums {
	uint64_t layers, blobs, objects, sources, leftovers; /* how many went */
	uint64_t bytes;					     /* on disk, that they took and nothing else does */
	uint64_t size_bytes;				     /* with a bound: of the store afterwards */
	uint64_t failed;				     /* that could not be removed; logged */
};

/* gc_run - as root. An image that cannot be read ends it before anything is removed. Return: 0 or -errno. */
int gc_run(struct store *store, const struct gc_options *options, struct gc_sums *ret, struct err *err);

/* gc_remove_layer - one layer, now. Return: 0, -ENOENT, -EBUSY with what uses it in err, or -errno. */
int gc_remove_layer(struct store *store, const uint8_t id[16], struct err *err);

/* ---- lists, for the verbs and for gc ---- */
struct gc_item {
	uint8_t id[16];
	struct timespec used; /* the last use */
	bool blob, pinned, damaged;
	uint64_t bytes; /* of content */
	uint64_t entries;
};

struct gc_list {
	struct gc_item *items; /* ordered by id */
	size_t n, cap;
};

#define GC_LIST_INIT ((struct gc_list){NULL, 0, 0})

int gc_list_layers(struct store *store, struct gc_list *ret, struct err *err);
/* gc_load_layer - one of them. Return: 0, -ENOENT or -errno. */
int gc_load_layer(struct store *store, const uint8_t id[16], struct gc_item *ret, struct err *err);
int gc_list_blobs(struct store *store, struct gc_list *ret, struct err *err);
void gc_list_clear(struct gc_list *list);
