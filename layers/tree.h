/* Directory trees through directory fds: nothing here ever follows a symbolic link or takes an absolute path. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define TREE_RANDOM_NAME_MAX 33
#define TREE_DEPTH_MAX 3000u /* directories nest no deeper than this in a layer */
#define TREE_PATH_MAX 65535u /* of an entry in a layer: more than the kernel takes at once (PATH_MAX) */
#define TREE_LINK_MAX 4095u  /* of a symbolic link's target: all that the kernel takes */

/* tree_random_name - 32 hex digits from getrandom(2). Return: 0 or -errno. */
int tree_random_name(char ret[TREE_RANDOM_NAME_MAX]);

/* tree_open_dir - open a directory directly beneath parent, not through a link. Return: fd or -errno. */
int tree_open_dir(int parent, const char *name);

/*
 * tree_open_beneath - open a relative path beneath dir ("" is dir itself): through no symbolic link, no "..", and into
 * no other mount. @flags: of open(2); O_CLOEXEC is added. A path may be longer than PATH_MAX, but has no "..".
 * Return: fd or -errno (-ELOOP, -EXDEV).
 */
int tree_open_beneath(int dir, const char *path, int flags);

/*
 * tree_clean_path - a stranger's path without "." and empty components; "" is the root itself.
 * Absolute ones, any with "..", too long or too deep ones are refused; the message names the entry.
 */
int tree_clean_path(const char *path, char ret[TREE_PATH_MAX + 1], struct err *err);

/* A place in a tree that is walked: fds are kept for the upper levels only, so that depth costs no fds without bound. */
#define TREE_KEPT_FDS 128u
struct tree_place {
	int fd; /* the directory, or -1 while it is put aside */
	dev_t dev;
	ino_t ino;
};

/* tree_put_aside - before a walk goes down from a directory at this depth: close its fd if it lies deep. */
void tree_put_aside(struct tree_place *place, unsigned depth);
/*
 * tree_return - have place->fd again: opened anew beneath root by the path, if it was put aside.
 * Return: 0, -ESTALE when another directory lies there now, or -errno.
 */
int tree_return(struct tree_place *place, int root, const char *path);

/*
 * tree_ensure_dir - make (or find) a directory with exactly this mode and owner.
 * Safe against others doing the same at once. A directory that belongs to somebody else than root or uid is refused.
 * Return: its fd (caller owns), or -errno.
 */
int tree_ensure_dir(int parent, const char *name, mode_t mode, uid_t uid, struct err *err);

/* tree_remove - remove name beneath parent, whatever it is, however deep. Return: 0 (also if absent) or -errno. */
int tree_remove(int parent, const char *name, struct err *err);

/*
 * tree_replace_file - write a whole file beneath dirfd under a temporary name, then rename it to name.
 * @sync: fsync the file before and the directory after the rename.
 */
int tree_replace_file(int dirfd, const char *name, const void *data, size_t len, mode_t mode, bool sync,
	struct err *err);

struct tree_names {
	char **names; /* sorted by bytes */
	size_t count;
};

#define TREE_NAMES_INIT ((struct tree_names){NULL, 0})

/* tree_list - the names in a directory without "." and "..", sorted. @max: more is -EFBIG. Return: 0 or -errno. */
int tree_list(int dirfd, size_t max, struct tree_names *ret);
void tree_names_clear(struct tree_names *names);
