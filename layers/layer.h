/* A layer in the making, and its publication: shared by import and commit. Not for other folders. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "layers/jail.h"
#include "layers/store.h"
#include "layers/tree.h"

/* layers/tmp/<random>/: locked while in use, removed by layer_temp_clear() unless published. */
struct layer_temp {
	struct store *store; /* NULL: nothing to clear */
	char name[TREE_RANDOM_NAME_MAX];
	int fd;	  /* the temporary directory, root's */
	int diff; /* diff/ in it: owned by the store's uid 0, mode 0755 */
};

#define LAYER_TEMP_INIT ((struct layer_temp){.store = NULL, .fd = -1, .diff = -1})

int layer_temp_begin(struct store *store, struct layer_temp *ret, struct err *err);
void layer_temp_clear(struct layer_temp *temp);

struct layer_bounds {
	uint64_t bytes;
	uint64_t entries;
};

/* layer_bounds_get - what an import may take: the fixed bounds, or what the store's filesystem has free. */
int layer_bounds_get(struct store *store, struct layer_bounds *ret, struct err *err);

/* layer_hash - in a helper: the id (unsalted), SHA-256 and sums of the tree at JAIL_ROOT. */
int layer_hash(const struct layer_bounds *bounds, struct jail_report *report, struct err *err);

/*
 * layer_publish - write layer.json and rename the temporary directory to its id.
 * A layer with that id and the same SHA-256 is shared, and ours dropped; with another one, -EEXIST.
 * @sync: make all of it durable first.
 */
int layer_publish(struct layer_temp *temp, const struct jail_report *report, bool sync, struct layer_info *ret,
	struct err *err);
