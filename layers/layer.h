/* A layer in the making, and its publication: shared by import and commit. Not for other folders. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "layers/canonical.h"
#include "layers/jail.h"
#include "layers/store.h"
#include "layers/tree.h"
#include "layers/unpack.h"

/* layers/tmp/<random>/: locked while in use, removed by layer_temp_clear() unless published. */
struct layer_temp {
	struct store *store; /* NULL: nothing to clear */
	char name[TREE_RANDOM_NAME_MAX];
	int fd;	  /* the temporary directory, root's */
	int diff; /* diff/ in it: owned by the store's uid 0, mode 0755 */
	int tree; /* the empty file `tree` in it, root's, to be read and written */
};

#define LAYER_TEMP_INIT ((struct layer_temp){.store = NULL, .fd = -1, .diff = -1, .tree = -1})

int layer_temp_begin(struct store *store, struct layer_temp *ret, struct err *err);
void layer_temp_clear(struct layer_temp *temp);

struct layer_bounds {
	uint64_t bytes;
	uint64_t entries;
};

/* layer_bounds_get - what an import may take: the fixed bounds, or what the store's filesystem has free. */
int layer_bounds_get(struct store *store, struct layer_bounds *ret, struct err *err);

/*
 * layer_describe - in a helper: write the description of the tree at JAIL_ROOT that u has finished to fd.
 * @hash: fed with it, or NULL. Sets the sums of the report, no digests.
 */
int layer_describe(struct unpack *u, const struct layer_bounds *bounds, int fd, struct hash *hash, struct jail_report *report,
	struct err *err);

/* A tree that was made, before it is a layer. */
struct layer_made {
	uint8_t id[16];
	uint8_t sha256[32]; /* of `tree` */
	uint64_t bytes;
	uint64_t entries;
	bool packed, opaque;
};

/*
 * layer_read_tree - read `tree` as a helper left it: id, SHA-256, entries and opaque of *made; and give the opaque
 * directories of diff/ overlayfs's mark, which only root can.
 */
int layer_read_tree(struct layer_temp *temp, struct layer_made *made, struct err *err);

/* layer_take - load and hold a layer that must be there. Return: 0 with *ret, -ENOENT, or -errno. */
int layer_take(struct store *store, const uint8_t id[16], struct layer_info *ret, struct err *err);

/*
 * layer_find - whether the tree is there already. What a power cut has damaged is moved out of the way.
 * Return: 1 with *ret held, 0 when it is not there, -EEXIST when another tree has its id, or -errno.
 */
int layer_find(struct store *store, const struct layer_made *made, struct layer_info *ret, struct err *err);

/*
 * layer_displace - move a layer that turned out not to be what its description says out of the way, so that its id can be
 * published anew. @info: held; let go of in any case.
 * Return: 0, also when it is gone already, -EBUSY when somebody else holds it, or -errno.
 */
int layer_displace(struct store *store, struct layer_info *info, struct err *err);

/* layer_move_away - what a power cut left of an unsynced commit, or an earlier version's: into layers/tmp, for the sweep. Return: 0 or -errno. */
int layer_move_away(struct store *store, const char *hex, struct err *err);

/*
 * layer_publish - write layer.json and rename the temporary directory to its id.
 * A layer with that id and the same SHA-256 is shared, and ours dropped; with another one, -EEXIST.
 * @sync: make all of it durable first.
 */
int layer_publish(struct layer_temp *temp, const struct layer_made *made, bool sync, struct layer_info *ret,
	struct err *err);
