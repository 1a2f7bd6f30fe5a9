/*
 * The one writer of layer trees. Archives, the directory walker's stream and commits all go through it, inside the
 * helper; whatever names, sizes and types they bring, it writes beneath its root only, follows no link, makes
 * nothing but files, directories and links, and stops at its bounds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum unpack_type {
	UNPACK_FILE,
	UNPACK_DIR,
	UNPACK_SYMLINK,
	UNPACK_HARDLINK,
	UNPACK_TYPE_MAX
};

struct unpack_entry {
	enum unpack_type type;
	const char *path;   /* relative; "./" and empty components are dropped, ".." and a leading "/" refused */
	const char *target; /* of a link; a hard link's is a path in the tree */
	uint32_t mode;	    /* setuid and setgid are dropped */
	int64_t uid;
	int64_t gid;
	int64_t mtime; /* seconds */
	int64_t size;  /* bytes of a file */
};

struct unpack_options {
	uint64_t max_bytes;   /* sum of all sizes, holes included */
	uint64_t max_entries; /* including replaced ones and parents that had to be made */
	bool keep_owner;      /* false only where there is no right to chown: the fuzzer */
};

struct unpack;

/* unpack_new - write beneath the directory root (borrowed, empty). */
int unpack_new(int root, const struct unpack_options *options, struct unpack **ret, struct err *err);
void unpack_free(struct unpack *u);

/* unpack_entry - one entry; an existing non-directory at its path is replaced. A file is then open for unpack_data(). */
int unpack_entry(struct unpack *u, const struct unpack_entry *entry, struct err *err);
/* unpack_data - bytes of the open file at an offset; what was never written is a hole. */
int unpack_data(struct unpack *u, const void *data, size_t len, uint64_t offset, struct err *err);
/* unpack_file_end - finish the open file: its size, owner, mode, time. */
int unpack_file_end(struct unpack *u, struct err *err);
/* unpack_skip - count an entry that a layer cannot hold. */
int unpack_skip(struct unpack *u, struct err *err);
/* unpack_finish - set the directories' times, last of all. */
int unpack_finish(struct unpack *u, struct err *err);
uint64_t unpack_skipped(const struct unpack *u);
