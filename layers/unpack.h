/*
 * The one writer of layer trees. Archives, the directory walker's stream and commits all go through it, inside a
 * helper; whatever names, sizes and types they bring, it writes beneath its root only, follows no link, makes
 * nothing but files, directories, links and whiteouts, and stops at its bounds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "layers/attrs.h"
#include "layers/digests.h"
#include "layers/inotab.h"

enum unpack_type {
	UNPACK_FILE,
	UNPACK_DIR,
	UNPACK_SYMLINK,
	UNPACK_HARDLINK,
	UNPACK_WHITEOUT, /* path: what is hidden in the layers below */
	UNPACK_OPAQUE,	 /* path: the directory that hides all of what lies below it */
	UNPACK_TYPE_MAX
};

struct unpack_entry {
	enum unpack_type type;
	const char *path;   /* relative; "./" and empty components are dropped, ".." and a leading "/" refused */
	const char *target; /* of a link; a hard link's is a path in the tree */
	uint32_t mode;	    /* setuid and setgid are dropped */
	int64_t uid;
	int64_t gid;
	int64_t mtime;		   /* seconds */
	int64_t size;		   /* bytes of a file */
	const struct attrs *attrs; /* of a file or directory; NULL: none */
};

struct unpack_options {
	uint64_t max_bytes;   /* sum of all sizes, holes included */
	uint64_t max_entries; /* including replaced ones and parents that had to be made */
	uint32_t block;	      /* each file and directory counts in whole ones of these, and names count too; 0: sizes alone */
	bool keep_owner;      /* false only where there is no right to chown: the fuzzer */
	bool oci;	      /* whiteouts are welcome, and a file takes the place of a directory with all that is in it */
};

struct unpack;

/* unpack_new - write beneath the directory root (borrowed, empty). */
int unpack_new(int root, const struct unpack_options *options, struct unpack **ret, struct err *err);
void unpack_free(struct unpack *u);

/*
 * unpack_entry - one entry; an existing non-directory at its path is replaced. A file is then open for unpack_data().
 * Whiteouts take effect in unpack_finish(), whatever their place among the entries: one of a name that this tree has too
 * makes a directory opaque, and means nothing to a file.
 */
int unpack_entry(struct unpack *u, const struct unpack_entry *entry, struct err *err);
/* unpack_data - bytes of the open file at an offset, which only grows; what was never written is a hole. */
int unpack_data(struct unpack *u, const void *data, size_t len, uint64_t offset, struct err *err);
/* unpack_file_end - finish the open file: its size, owner, mode, time. */
int unpack_file_end(struct unpack *u, struct err *err);
/* unpack_skip - count an entry that a layer cannot hold. */
int unpack_skip(struct unpack *u, struct err *err);
/* unpack_finish - make the whiteouts, set the directories' times. Last of all. */
int unpack_finish(struct unpack *u, struct err *err);
uint64_t unpack_skipped(const struct unpack *u);
/* After unpack_finish(), until unpack_free(): the files' digests, and the opaque directories (values are 1). */
struct digests *unpack_digests(struct unpack *u);
const struct inotab *unpack_opaque(const struct unpack *u);
