/* One way into the store for trees from outside. Not for other folders. */
#pragma once

#include <stdbool.h>

#include "layers/store.h"
#include "layers/stream.h"
#include "layers/unpack.h"

#define IMPORT_MAX_BYTES (64ull << 30)
#define IMPORT_MAX_ENTRIES 2000000ull

struct import_source {
	/* A tar: the helper reads it from fd. */
	int fd;
	/* Or, when set, a walk in the caller, which the helper unpacks. */
	int (*walk)(void *ctx, struct stream *stream, struct err *err);
	void *ctx;
	bool refuse_archives_of_images; /* OCI layouts and docker-save archives are tars too, but no root file system */
};

/* import_run - unpack in one helper, hash in a second one, publish. As root. */
int import_run(struct store *store, const struct import_source *source, struct layer_info *ret, struct err *err);

/* import_tar_unpack - parse a tar (plain, gzip, zstd, xz) from fd into u. In the helper, and the fuzz target's entry. */
int import_tar_unpack(int fd, struct unpack *u, struct err *err);

/* import_dir_walk - write the tree beneath dirfd to a stream. With root's rights. */
int import_dir_walk(int dirfd, struct stream *stream, struct err *err);
