/*
 * Writing a layer's tree; see the header. Runs in the helper, as uid 0 of its user namespace.
 *
 * Every access names one component relative to a parent fd, and every parent comes from openat2(2) with
 * RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS: an entry cannot be written through a link that an earlier one made.
 * Errors name the entry. After an error the tree is thrown away as a whole.
 */
#include "layers/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "layers/store.h"
#include "layers/tree.h"

#define TIMES_MEMORY_MAX (256u << 20) /* of the remembered directories' names */

struct dir_time {
	char *path;
	int64_t mtime;
};

struct unpack {
	int root;
	struct unpack_options options;
	uint64_t bytes, entries, skipped;

	int parent; /* of the last entry; most entries share it with the one before */
	char parent_path[TREE_PATH_MAX + 1];

	int file;
	struct unpack_entry open; /* the open file's; its strings are not ours */
	char open_path[TREE_PATH_MAX + 1];

	struct dir_time *times;
	size_t ntimes, cap_times, times_memory;
};

static int remember_time(struct unpack *u, const char *path, int64_t mtime, struct err *err);

int unpack_new(int root, const struct unpack_options *options, struct unpack **ret, struct err *err)
{
	struct unpack *u = calloc(1, sizeof(*u));
	if (!u)
		return err_set(err, ENOMEM, "unpack");
	u->root = root;
	u->options = *options;
	u->parent = u->file = -1;
	int r = remember_time(u, "", 0, err); /* unless an entry for the root says otherwise */
	if (r < 0)
		unpack_free(u);
	else
		*ret = u;
	return r;
}

void unpack_free(struct unpack *u)
{
	if (!u)
		return;
	cleanup_close(&u->parent);
	cleanup_close(&u->file);
	for (size_t i = 0; i < u->ntimes; i++)
		free(u->times[i].path);
	free(u->times);
	free(u);
}

uint64_t unpack_skipped(const struct unpack *u)
{
	return u->skipped;
}

static int count_entry(struct unpack *u, struct err *err)
{
	if (++u->entries > u->options.max_entries)
		return err_say(err, EFBIG, "it has more than %" PRIu64 " entries", u->options.max_entries);
	return 0;
}

static int remember_time(struct unpack *u, const char *path, int64_t mtime, struct err *err)
{
	if (u->ntimes == u->cap_times) {
		size_t cap = u->cap_times ? u->cap_times * 2 : 64;
		struct dir_time *bigger = reallocarray(u->times, cap, sizeof(*bigger));
		if (!bigger)
			return err_set(err, ENOMEM, "unpack");
		u->times = bigger;
		u->cap_times = cap;
	}
	u->times_memory += strlen(path) + sizeof(struct dir_time) + 16;
	char *copy = u->times_memory > TIMES_MEMORY_MAX ? NULL : strdup(path);
	if (!copy)
		return err_say(err, EFBIG, "entry '%.200s': too many directories with long names", path);
	u->times[u->ntimes++] = (struct dir_time){.path = copy, .mtime = mtime};
	return 0;
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
			/* fchmodat: the helper's umask is tight, and no other process is in this tree. */
			if (fchmodat(dir, name, 0755, 0) < 0)
				return err_set(err, errno, "entry '%.200s'", whole);
			int r = count_entry(u, err);
			if (r == 0)
				r = remember_time(u, whole, 0, err);
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

/* Split off the last component and see to its parent. Return: 0 with u->parent, *ret_name; or -errno. */
static int enter_parent(struct unpack *u, const char *path, const char **ret_name, struct err *err)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	*ret_name = slash ? slash + 1 : path;
	if (u->parent >= 0 && strlen(u->parent_path) == len && memcmp(u->parent_path, path, len) == 0)
		return 0;
	cleanup_close(&u->parent);
	memcpy(u->parent_path, path, len);
	u->parent_path[len] = '\0';
	int fd = tree_open_beneath(u->root, u->parent_path, O_PATH | O_DIRECTORY);
	if (fd == -ENOENT)
		fd = make_parents(u, u->parent_path, err);
	else if (fd < 0)
		return err_say(err, fd, "entry '%.200s': it would lead through a link or a file", path);
	if (fd < 0)
		return fd;
	u->parent = fd;
	return 0;
}

/* ---- entries ---- */

static int check_entry(const struct unpack_entry *e, struct err *err)
{
	if (e->uid < 0 || e->uid >= STORE_UID_COUNT || e->gid < 0 || e->gid >= STORE_UID_COUNT)
		return err_say(err, EINVAL, "entry '%.200s': owner %" PRId64 ":%" PRId64 " is not within 0..65535", e->path,
			e->uid, e->gid);
	if (e->type == UNPACK_FILE && e->size < 0)
		return err_say(err, EINVAL, "entry '%.200s': its size is negative", e->path);
	if (e->type == UNPACK_SYMLINK && (!e->target || !*e->target || strlen(e->target) > TREE_PATH_MAX))
		return err_say(err, EINVAL, "entry '%.200s': its link target is empty or too long", e->path);
	if (e->type == UNPACK_HARDLINK && (!e->target || !*e->target))
		return err_say(err, EINVAL, "entry '%.200s': a hard link to nothing", e->path);
	return 0;
}

static int set_attributes(struct unpack *u, int fd, const struct unpack_entry *e, mode_t mask)
{
	const struct timespec times[2] = {{.tv_sec = e->mtime}, {.tv_sec = e->mtime}};
	/* Owner first: a change of owner takes mode bits away. */
	if (u->options.keep_owner && fchown(fd, (uid_t)e->uid, (gid_t)e->gid) < 0)
		return -errno;
	if (fchmod(fd, e->mode & mask) < 0 || futimens(fd, times) < 0)
		return -errno;
	return 0;
}

/* A directory at name: an existing one is kept, anything else replaced. */
static int make_dir(int parent, const char *name)
{
	struct stat st;
	if (mkdirat(parent, name, 0700) == 0)
		return 0;
	if (errno != EEXIST || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return 0;
	return unlinkat(parent, name, 0) < 0 || mkdirat(parent, name, 0700) < 0 ? -errno : 0;
}

static int unpack_dir(struct unpack *u, const struct unpack_entry *e, const char *path, struct err *err)
{
	_cleanup_close_ int fd = -1;
	if (*path) {
		const char *name;
		int r = enter_parent(u, path, &name, err);
		if (r < 0)
			return r;
		r = make_dir(u->parent, name);
		if (r < 0)
			return err_set(err, r, "entry '%.200s'", path);
		fd = tree_open_beneath(u->parent, name, O_RDONLY | O_DIRECTORY);
	} else {
		fd = tree_open_beneath(u->root, "", O_RDONLY | O_DIRECTORY);
	}
	int r = fd < 0 ? fd : set_attributes(u, fd, e, 01777);
	if (r < 0)
		return err_set(err, r, "entry '%.200s'", path);
	return remember_time(u, path, e->mtime, err);
}

/* Take away what lies at name. A directory goes only when it is empty. */
static int clear_place(struct unpack *u, const char *path, const char *name, struct err *err)
{
	if (unlinkat(u->parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return err_set(err, errno, "entry '%.200s'", path);
	if (unlinkat(u->parent, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno == ENOTEMPTY || errno == EEXIST)
		return err_say(err, EISDIR, "entry '%.200s': a directory with content is there already", path);
	return err_set(err, errno, "entry '%.200s'", path);
}

static int unpack_file(struct unpack *u, const struct unpack_entry *e, const char *path, const char *name,
	struct err *err)
{
	uint64_t total;
	if (__builtin_add_overflow(u->bytes, (uint64_t)e->size, &total) || total > u->options.max_bytes)
		return err_say(err, EFBIG, "entry '%.200s': it all takes more than the %" PRIu64 " bytes allowed or free", path,
			u->options.max_bytes);
	int r = clear_place(u, path, name, err);
	if (r < 0)
		return r;
	u->file = openat(u->parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (u->file < 0)
		return err_set(err, errno, "entry '%.200s'", path);
	u->bytes = total;
	u->open = *e;
	memcpy(u->open_path, path, strlen(path) + 1);
	return 0;
}

static int unpack_symlink(struct unpack *u, const struct unpack_entry *e, const char *path, const char *name,
	struct err *err)
{
	const struct timespec times[2] = {{.tv_sec = e->mtime}, {.tv_sec = e->mtime}};
	int r = clear_place(u, path, name, err);
	if (r < 0)
		return r;
	if (symlinkat(e->target, u->parent, name) < 0 ||
		(u->options.keep_owner &&
			fchownat(u->parent, name, (uid_t)e->uid, (gid_t)e->gid, AT_SYMLINK_NOFOLLOW) < 0) ||
		utimensat(u->parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, errno, "entry '%.200s'", path);
	return 0;
}

static int unpack_hardlink(struct unpack *u, const struct unpack_entry *e, const char *path, const char *name,
	struct err *err)
{
	char target[TREE_PATH_MAX + 1];
	int r = tree_clean_path(e->target, target, err);
	if (r < 0)
		return err_wrap(err, "entry '%.100s': a hard link", path);
	char *slash = strrchr(target, '/');
	const char *last = slash ? slash + 1 : target;
	if (slash)
		*slash = '\0';
	_cleanup_close_ int dir = tree_open_beneath(u->root, slash ? target : "", O_PATH | O_DIRECTORY);
	struct stat st, there;
	if (dir < 0 || fstatat(dir, last, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_say(err, ENOENT, "entry '%.200s': a hard link to '%.100s', which is not in the tree", path,
			e->target);
	if (!S_ISREG(st.st_mode))
		return err_say(err, EINVAL, "entry '%.200s': a hard link to '%.100s', which is no regular file", path,
			e->target);
	/* A link to itself: clearing the place would take the file away. */
	if (fstatat(u->parent, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_ino == st.st_ino &&
		there.st_dev == st.st_dev)
		return 0;
	r = clear_place(u, path, name, err);
	if (r < 0)
		return r;
	if (linkat(dir, last, u->parent, name, 0) < 0)
		return err_set(err, errno, "entry '%.200s'", path);
	return 0;
}

int unpack_entry(struct unpack *u, const struct unpack_entry *e, struct err *err)
{
	char path[TREE_PATH_MAX + 1];
	path[0] = '\0';
	int r = u->file >= 0 ? unpack_file_end(u, err) : 0;
	if (r == 0)
		r = count_entry(u, err);
	if (r == 0)
		r = tree_clean_path(e->path, path, err);
	if (r == 0)
		r = check_entry(e, err);
	if (r < 0)
		return r;
	if (e->type == UNPACK_DIR)
		return unpack_dir(u, e, path, err);
	if (!*path)
		return err_say(err, EINVAL, "entry '%.200s': the root can only be a directory", e->path);
	const char *name;
	r = enter_parent(u, path, &name, err);
	if (r < 0)
		return r;
	/* If a directory gives way to this entry, the cached parent cannot be it: that one holds `name`. */
	switch (e->type) {
	case UNPACK_FILE:
		return unpack_file(u, e, path, name, err);
	case UNPACK_SYMLINK:
		return unpack_symlink(u, e, path, name, err);
	case UNPACK_HARDLINK:
		return unpack_hardlink(u, e, path, name, err);
	case UNPACK_DIR:
	case UNPACK_TYPE_MAX:
		break;
	}
	return err_say(err, EINVAL, "entry '%.200s': an unknown type", path);
}

int unpack_data(struct unpack *u, const void *data, size_t len, uint64_t offset, struct err *err)
{
	uint64_t end;
	if (u->file < 0)
		return err_say(err, EINVAL, "data without a file");
	if (__builtin_add_overflow(offset, len, &end) || end > (uint64_t)u->open.size)
		return err_say(err, EINVAL, "entry '%.200s': more bytes than its size says", u->open_path);
	for (const char *p = data; len > 0;) {
		ssize_t n = pwrite(u->file, p, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, n < 0 ? errno : EIO, "entry '%.200s'", u->open_path);
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int unpack_file_end(struct unpack *u, struct err *err)
{
	if (u->file < 0)
		return 0;
	int r = ftruncate(u->file, u->open.size) < 0 ? -errno : set_attributes(u, u->file, &u->open, 0777);
	cleanup_close(&u->file);
	return r < 0 ? err_set(err, r, "entry '%.200s'", u->open_path) : 0;
}

int unpack_skip(struct unpack *u, struct err *err)
{
	int r = u->file >= 0 ? unpack_file_end(u, err) : 0;
	u->skipped++;
	return r < 0 ? r : count_entry(u, err);
}

int unpack_finish(struct unpack *u, struct err *err)
{
	int r = unpack_file_end(u, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < u->ntimes; i++) {
		const struct timespec times[2] = {{.tv_sec = u->times[i].mtime}, {.tv_sec = u->times[i].mtime}};
		_cleanup_close_ int fd = tree_open_beneath(u->root, u->times[i].path, O_RDONLY | O_DIRECTORY);
		if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
			continue; /* replaced by a later entry */
		if (fd < 0 || futimens(fd, times) < 0)
			return err_set(err, fd < 0 ? fd : errno, "entry '%.200s'", u->times[i].path);
	}
	return 0;
}
