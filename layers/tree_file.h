/*
 * Reading `layers/<hex>/tree`, the canonical description of a layer (docs/store.md). The file was written by a helper
 * that had a stranger's tree before it, so nothing in it is believed: sizes are bounded before memory is taken, and order,
 * parents, names and attributes are checked. What this reader accepts is in canonical form: no two descriptions of one tree.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "layers/hash.h"

#define TREE_FILE_MAGIC "petri-layer-2\n"
#define TREE_FILE_NAME_MAX 255u
#define TREE_FILE_PATH_MAX 65535u
#define TREE_FILE_TARGET_MAX 4095u
#define TREE_FILE_XATTR_NAME_MAX 255u
#define TREE_FILE_XATTR_VALUE_MAX 65536u
#define TREE_FILE_XATTRS_MAX 10000u	  /* of one entry */
#define TREE_FILE_XATTRS_BYTES (4u << 20) /* of one entry, names and values */
#define TREE_FILE_ENTRIES_MAX 16000000ull /* more than any import may have */
#define TREE_FILE_SIZE_MAX INT64_MAX	  /* of a file, bytes */
#define TREE_FILE_ID_MAX 65535u		  /* of an owner */

enum tree_file_type {
	TREE_FILE_DIR = 'd',
	TREE_FILE_OPAQUE = 'o', /* a directory that hides what lies below it */
	TREE_FILE_REG = 'f',
	TREE_FILE_LINK = 'l',
	TREE_FILE_WHITEOUT = 'w',
};

struct tree_file_xattr {
	const char *name; /* NUL-terminated */
	const uint8_t *value;
	size_t len;
};

struct tree_file_entry {
	enum tree_file_type type;
	uint32_t mode, uid, gid; /* the mode without type, setuid and setgid; ids as in the layer, not on disk */
	const char *path;	 /* NUL-terminated, relative; "" is the root, the first entry */
	size_t path_len, parent_len;
	const char *name; /* the last part of path */
	const struct tree_file_xattr *xattrs;
	size_t nxattrs;
	uint64_t size;	    /* of a file */
	uint8_t sha256[32]; /* of its content */
	const char *target; /* of a link, NUL-terminated */
};

struct tree_file;

/*
 * tree_file_open - read from fd (borrowed, at its beginning).
 * @hash: what is fed with each byte that is read, or NULL. After the last entry it has seen the whole file.
 * Return: 0, -EUCLEAN when it is no such description, or -errno.
 */
int tree_file_open(int fd, struct hash *hash, struct tree_file **ret, struct err *err);
void tree_file_free(struct tree_file *t);

/*
 * tree_file_next - the next entry; what it points to is good until the next call.
 * Return: 1 with an entry, 0 at the end, -EUCLEAN when it is damaged (no more entries must be asked for), or -errno.
 */
int tree_file_next(struct tree_file *t, struct tree_file_entry *ret, struct err *err);

static inline bool tree_file_is_dir(const struct tree_file_entry *e)
{
	return e->type == TREE_FILE_DIR || e->type == TREE_FILE_OPAQUE;
}

/*
 * tree_file_show - a path for people: printable ASCII stays, a backslash is doubled, any other byte is \xNN; the root is ".".
 * What does not fit is cut off and ends in "...". Return: ret. @cap: at least 8.
 */
const char *tree_file_show(const char *path, size_t len, char *ret, size_t cap);
