/*
 * The directories of a tree in the making: parents that no entry was seen for, and what can be done only when all
 * entries are there. Runs in the helper. Every parent comes from openat2(2) beneath the root and through no link.
 */
#include "layers/unpack_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"

#define MARKS_MEMORY_MAX (256u << 20) /* of the remembered names */
#define NAMES_MAX (1ull << 30)	      /* of all paths: the description of the tree has each of them in full */

#define RECORD_BYTES 128u /* of an entry in a directory and in the description, beside its name */

int unpack_count_entry(struct unpack *u, struct err *err)
{
	if (++u->entries > u->options.max_entries)
		return err_say(err, EFBIG, "it has more than %" PRIu64 " entries", u->options.max_entries);
	return 0;
}

int unpack_charge(struct unpack *u, uint64_t bytes, const char *path, struct err *err)
{
	uint64_t block = u->options.block, total = bytes;
	size_t len = strlen(path);
	u->names += len;
	if (u->names > NAMES_MAX)
		return err_say(err, EFBIG, "entry '%.200s': the names of all entries take more than %llu bytes", path,
			NAMES_MAX);
	if (block > 0 && bytes > 0 && __builtin_add_overflow(total, block - 1, &total))
		total = UINT64_MAX;
	else if (block > 0)
		total = total - total % block + len + RECORD_BYTES;
	if (__builtin_add_overflow(u->bytes, total, &total) || total > u->options.max_bytes)
		return err_say(err, EFBIG, "entry '%.200s': it all takes more than the %" PRIu64 " bytes allowed or free", path,
			u->options.max_bytes);
	u->bytes = total;
	return 0;
}

int unpack_mark(struct unpack *u, enum unpack_type type, const char *path, int64_t mtime, struct err *err)
{
	if (u->nmarks == u->cap_marks) {
		size_t cap = u->cap_marks ? u->cap_marks * 2 : 64;
		struct unpack_mark *bigger = reallocarray(u->marks, cap, sizeof(*bigger));
		if (!bigger)
			return err_set(err, ENOMEM, "unpack");
		u->marks = bigger;
		u->cap_marks = cap;
	}
	u->marks_memory += strlen(path) + sizeof(struct unpack_mark) + 16;
	char *copy = u->marks_memory > MARKS_MEMORY_MAX ? NULL : strdup(path);
	if (!copy)
		return err_say(err, EFBIG, "entry '%.200s': too many directories with long names", path);
	u->marks[u->nmarks++] = (struct unpack_mark){.path = copy, .mtime = mtime, .type = type};
	return 0;
}

/* A directory that no entry has described yet. */
static int note_parent(struct unpack *u, const char *path, struct err *err)
{
	int r = unpack_count_entry(u, err);
	if (r == 0)
		r = unpack_charge(u, u->options.block, path, err);
	return r < 0 ? r : unpack_mark(u, UNPACK_DIR, path, 0, err);
}

/* Make the missing directories of a clean path, one after another. Return: an fd of the last one, or -errno. */
static int make_parents(struct unpack *u, const char *path, struct err *err)
{
	_cleanup_close_ int dir = tree_open_beneath(u->root, "", O_PATH | O_DIRECTORY);
	if (dir < 0)
		return err_set(err, dir, "open the tree");
	char name[256], whole[TREE_PATH_MAX + 1];
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		memcpy(name, p, n);
		name[n] = '\0';
		p += n;
		memcpy(whole, path, (size_t)(p - path));
		whole[p - path] = '\0';
		if (mkdirat(dir, name, 0700) == 0) {
			/* fchmodat: the helper's umask may be tight, and no other process is in this tree. */
			if (fchmodat(dir, name, 0755, 0) < 0)
				return err_set(err, errno, "entry '%.200s'", whole);
			int r = note_parent(u, whole, err);
			if (r < 0)
				return r;
		} else if (errno != EEXIST) {
			return err_set(err, errno, "entry '%.200s'", whole);
		}
		int next = tree_open_beneath(dir, name, O_PATH | O_DIRECTORY);
		if (next < 0)
			return err_say(err, next, "entry '%.200s': its parent '%.100s' is no directory", path, whole);
		(void)close(dir);
		dir = next;
		p += *p == '/';
	}
	return TAKE_FD(dir);
}

/* Return: an fd (O_PATH) of the directory at a clean path, made if need be; or -errno. */
static int enter(struct unpack *u, const char *path, const char *entry, struct err *err)
{
	int fd = tree_open_beneath(u->root, path, O_PATH | O_DIRECTORY);
	if (fd == -ENOENT)
		return make_parents(u, path, err);
	if (fd == -ELOOP || fd == -ENOTDIR || fd == -EXDEV)
		return err_say(err, fd, "entry '%.200s': it would lead through a link or a file", entry);
	if (fd < 0)
		return err_set(err, fd, "entry '%.200s': open its directory", entry);
	return fd;
}

int unpack_enter_parent(struct unpack *u, const char *path, const char **ret_name, struct err *err)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	*ret_name = slash ? slash + 1 : path;
	if (u->parent >= 0 && strlen(u->parent_path) == len && memcmp(u->parent_path, path, len) == 0)
		return 0;
	cleanup_close(&u->parent);
	memcpy(u->parent_path, path, len);
	u->parent_path[len] = '\0';
	int fd = enter(u, u->parent_path, path, err);
	if (fd < 0)
		return fd;
	u->parent = fd;
	return 0;
}

/* ---- at the end ---- */

static int mark_opaque(struct unpack *u, int dir, const char *path, struct err *err)
{
	struct stat st;
	uint64_t there;
	if (fstat(dir, &st) < 0)
		return err_set(err, errno, "entry '%.200s'", path);
	int r = inotab_put(&u->opaque, st.st_dev, st.st_ino, 1, &there);
	return r < 0 ? err_set(err, r, "entry '%.200s'", path) : 0;
}

static int apply_opaque(struct unpack *u, const char *path, struct err *err)
{
	_cleanup_close_ int dir = enter(u, path, path, err);
	return dir < 0 ? dir : mark_opaque(u, dir, path, err);
}

static int apply_whiteout(struct unpack *u, const char *path, struct err *err)
{
	const char *name;
	struct stat st;
	int r = unpack_enter_parent(u, path, &name, err);
	if (r < 0)
		return r;
	if (fstatat(u->parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT || mknodat(u->parent, name, S_IFCHR, makedev(0, 0)) < 0)
			return err_set(err, errno, "entry '%.200s': make a whiteout", path);
		return 0;
	}
	/* The layer has something of its own there, which stays; but a directory must not show what lies below. */
	if (!S_ISDIR(st.st_mode))
		return 0;
	_cleanup_close_ int dir = tree_open_beneath(u->parent, name, O_PATH | O_DIRECTORY);
	return dir < 0 ? err_set(err, dir, "entry '%.200s'", path) : mark_opaque(u, dir, path, err);
}

static int apply_time(struct unpack *u, const struct unpack_mark *mark, struct err *err)
{
	const struct timespec times[2] = {{.tv_sec = mark->mtime}, {.tv_sec = mark->mtime}};
	_cleanup_close_ int fd = tree_open_beneath(u->root, mark->path, O_RDONLY | O_DIRECTORY);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return 0; /* replaced by a later entry */
	if (fd < 0 || futimens(fd, times) < 0)
		return err_set(err, fd < 0 ? fd : errno, "entry '%.200s'", mark->path);
	return 0;
}

int unpack_apply_marks(struct unpack *u, struct err *err)
{
	const char *name;
	int r = 0;
	/* All directories first: a whiteout must not come to lie where another one's parent belongs. Making parents adds marks. */
	for (size_t i = 0; i < u->nmarks && r == 0; i++) {
		if (u->marks[i].type == UNPACK_OPAQUE)
			r = apply_opaque(u, u->marks[i].path, err);
		else if (u->marks[i].type == UNPACK_WHITEOUT)
			r = unpack_enter_parent(u, u->marks[i].path, &name, err);
	}
	for (size_t i = 0; i < u->nmarks && r == 0; i++)
		if (u->marks[i].type == UNPACK_WHITEOUT)
			r = apply_whiteout(u, u->marks[i].path, err);
	for (size_t i = 0; i < u->nmarks && r == 0; i++)
		if (u->marks[i].type == UNPACK_DIR)
			r = apply_time(u, &u->marks[i], err);
	return r;
}
