/* One way into the store for trees from outside; import.c has the processes. Not for other folders. */
#pragma once

#include <stdbool.h>

#include "layers/store.h"
#include "layers/stream.h"
#include "layers/unpack.h"

#define IMPORT_MAX_BYTES (64ull << 30)
#define IMPORT_MAX_ENTRIES 2000000ull
#define IMPORT_BLOCK 4096u /* what a file or directory takes at least, for the bound of bytes */

struct import_source {
	/* A walk in the caller, when set. */
	int (*walk)(void *ctx, struct stream *stream, struct err *err);
	void *ctx;
	/* Else an archive: `size` bytes of fd from `offset` on; at its current offset to its end when it is no regular file. */
	const struct layer_source *archive;
};

/* import_run - as layer_import(), for whatever source. As root. */
int import_run(struct store *store, const struct import_source *source, struct layer_info *ret, struct err *err);

/* ---- import_feed.c: the raw bytes, in the caller ---- */

struct import_raw {
	const struct layer_source *source;
	bool regular;
	uint64_t size; /* 0 when it is not regular */
};

/* import_raw_open - look at the source and check its bounds against the file. */
int import_raw_open(const struct layer_source *source, struct import_raw *ret, struct err *err);
/*
 * import_raw_read - read all of it, with progress, into a socket (or nowhere, sock -1) and a SHA-256.
 * Return: 0, -EPIPE when the reader of the socket went away, or -errno.
 */
int import_raw_read(const struct import_raw *raw, int sock, uint8_t ret_sha256[32], uint64_t *ret_bytes, struct err *err);

/* ---- import_known.c: layers/by-source ---- */

struct import_known {
	uint8_t id[16];
	uint64_t size;	  /* of the raw bytes */
	char diff_id[65]; /* "" when it was not asked for */
};

/* import_known_find - what a source with this SHA-256 became. Return: whether there is a sound record. */
bool import_known_find(struct store *store, const char *sha256, bool oci, struct import_known *ret);
/* import_known_size - whether any record is of a source with so many bytes. */
bool import_known_size(struct store *store, uint64_t size, bool oci);
/* import_known_note - record it, best effort: without it the next import does the work again. */
void import_known_note(struct store *store, const char *sha256, bool oci, const struct import_known *known);

/* ---- import_tar.c: in the parser ---- */

/* What becomes of the entries: a stream in the parser, the tree itself in the fuzz target. Offsets only grow. */
struct import_sink {
	int (*entry)(void *to, const struct unpack_entry *entry, struct err *err);
	int (*data)(void *to, const void *data, size_t len, uint64_t offset, struct err *err);
	int (*file_end)(void *to, struct err *err);
	int (*skip)(void *to, struct err *err);
	void *to;
};

struct import_sink import_sink_stream(struct stream *stream);
struct import_sink import_sink_unpack(struct unpack *u);

/*
 * import_tar_parse - parse a tar (plain, gzip, zstd, xz) from fd, to the last byte.
 * @oci: names beginning with .wh. are whiteouts. @max_bytes: of one file. @ret_diff_id: SHA-256 of the uncompressed bytes, or NULL.
 */
int import_tar_parse(int fd, bool oci, uint64_t max_bytes, const struct import_sink *sink, uint8_t ret_diff_id[32],
	struct err *err);

/* ---- import_dir.c ---- */

/* import_dry - whether the tree beneath dirfd is a layer already: *ret, held. Writes nothing. (import_dry.c) */
bool import_dry(struct store *store, int dirfd, struct layer_info *ret);
/* import_dir_walk - write the tree beneath dirfd to a stream. With root's rights. */
int import_dir_walk(int dirfd, struct stream *stream, struct err *err);
