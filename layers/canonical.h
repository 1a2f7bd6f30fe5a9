/* The canonical serialisation of a layer's tree: what its id and its SHA-256 are computed over. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "layers/hash.h"

struct canonical {
	uint64_t bytes; /* of regular files, each inode once */
	uint64_t entries;
};

/*
 * canonical_hash - feed the tree beneath root into hash.
 * Also the last judge of what an unpacking left: anything but regular files, directories and symbolic links, any
 * setuid or setgid bit, a hard link to outside of the tree, or more than the bounds is an error.
 * For a process that may read all of the tree; uids and gids are hashed as that process sees them.
 */
int canonical_hash(int root, uint64_t max_bytes, uint64_t max_entries, struct hash *hash, struct canonical *ret,
	struct err *err);
