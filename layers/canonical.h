/* The canonical serialisation of a layer's tree (docs/store.md): what its id and its SHA-256 are computed over. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "layers/digests.h"
#include "layers/hash.h"
#include "layers/inotab.h"

struct canonical {
	uint64_t bytes; /* of regular files, each inode once */
	uint64_t entries;
};

struct canonical_tree {
	int root;
	uint64_t max_bytes, max_entries;
	struct digests *digests;     /* of the files; NULL: each file is read */
	const struct inotab *opaque; /* directories that are; NULL: none */
	bool whiteouts;		     /* 0/0 devices are welcome */
	/* Somebody's own directory, described as the layer that an import would make of it: without what a layer leaves out. */
	bool foreign;
	bool sums_only; /* no content is read: only the sums are of use */
};

/*
 * canonical_write - serialise the tree into out (a file's fd, or -1) and hash (or NULL).
 * Also the last judge of what an unpacking left: anything but regular files, directories, symbolic links and whiteouts, any
 * setuid or setgid bit, a hard link to outside of the tree, or more than the bounds is an error.
 * For a process that may read all of the tree, which nobody writes to any more; uids and gids are as that process sees them.
 */
int canonical_write(const struct canonical_tree *tree, int out, struct hash *hash, struct canonical *ret, struct err *err);
