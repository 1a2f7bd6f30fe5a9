/* The writer of trees in two files: unpack.c makes entries, unpack_dirs.c sees to what they lie in. */
#pragma once

#include "layers/hash.h"
#include "layers/tree.h"
#include "layers/unpack.h"

/* Something to be done to a path when all entries are there. */
struct unpack_mark {
	char *path;
	int64_t mtime; /* of a directory, when type is UNPACK_DIR */
	enum unpack_type type;
};

struct unpack {
	int root;
	struct unpack_options options;
	uint64_t bytes, entries, skipped;
	uint64_t names; /* bytes of paths */

	int parent; /* of the last entry; most entries share it with the one before */
	char parent_path[TREE_PATH_MAX + 1];

	int file;
	struct unpack_entry open; /* the open file's; its strings are not ours */
	uint64_t at;		  /* so much of the open file was hashed */
	uint64_t end;		  /* of what was written of it: zeros are left out */
	char open_path[TREE_PATH_MAX + 1];
	struct digest *digest;
	struct digests digests;

	struct unpack_mark *marks;
	size_t nmarks, cap_marks, marks_memory;
	struct inotab opaque;
};

int unpack_count_entry(struct unpack *u, struct err *err);

/* unpack_charge - count bytes against the bound. @what: for the message. Return: 0 or -EFBIG. */
int unpack_charge(struct unpack *u, uint64_t bytes, const char *path, struct err *err);

/* unpack_mark - remember for unpack_finish(). */
int unpack_mark(struct unpack *u, enum unpack_type type, const char *path, int64_t mtime, struct err *err);

/*
 * unpack_enter_parent - split off the last component of a clean path that is not "", and see to its parent.
 * Return: 0 with u->parent and *ret_name, or -errno.
 */
int unpack_enter_parent(struct unpack *u, const char *path, const char **ret_name, struct err *err);

/* unpack_apply_marks - opaque directories, whiteouts, times; in this order. */
int unpack_apply_marks(struct unpack *u, struct err *err);
