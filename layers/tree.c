/*
 * Directory trees through directory fds. Runs as root (removal, creation of the store) and inside the sandboxed
 * helpers (listing). A tree that is removed may have been made by a stranger: every step is one name relative to
 * an fd, with O_NOFOLLOW, and depth costs neither stack nor fds without bound.
 */
#include "layers/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse.h"
#include "base/sys.h"
#include "layers/store_internal.h"

int tree_random_name(char ret[TREE_RANDOM_NAME_MAX])
{
	uint8_t bytes[16];
	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	format_hex(bytes, sizeof(bytes), ret);
	return 0;
}

int tree_open_dir(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_plainly(int dir, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
	return sys_openat2(dir, *path ? path : ".", &how);
}

int tree_open_beneath(int dir, const char *path, int flags)
{
	_cleanup_close_ int at = -1;
	char part[PATH_MAX];
	/* What the kernel does not take at once is opened in parts, each of them beneath the one before. */
	while (strlen(path) >= sizeof(part)) {
		memcpy(part, path, sizeof(part));
		char *slash = memrchr(part, '/', sizeof(part));
		if (!slash || slash == part)
			return -ENAMETOOLONG;
		*slash = '\0';
		int next = open_plainly(at >= 0 ? at : dir, part, O_PATH | O_DIRECTORY);
		if (next < 0)
			return next;
		cleanup_close(&at);
		at = next;
		path += slash - part + 1;
	}
	return open_plainly(at >= 0 ? at : dir, path, flags);
}

void tree_put_aside(struct tree_place *place, unsigned depth)
{
	struct stat st;
	if (depth < TREE_KEPT_FDS || place->fd < 0 || fstat(place->fd, &st) < 0)
		return;
	place->dev = st.st_dev;
	place->ino = st.st_ino;
	cleanup_close(&place->fd);
}

int tree_return(struct tree_place *place, int root, const char *path)
{
	struct stat st;
	if (place->fd >= 0)
		return 0;
	_cleanup_close_ int fd = tree_open_beneath(root, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != place->dev || st.st_ino != place->ino)
		return -ESTALE;
	place->fd = TAKE_FD(fd);
	return 0;
}

int tree_clean_path(const char *path, char ret[TREE_PATH_MAX + 1], struct err *err)
{
	size_t len = 0;
	unsigned depth = 0;
	if (path[0] == '/')
		return err_say(err, EINVAL, "entry '%.200s': its path is absolute", path);
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.')
			return err_say(err, EINVAL, "entry '%.200s': its path has a '..'", path);
		if (n > 255 || len + n + 1 > TREE_PATH_MAX)
			return err_say(err, ENAMETOOLONG, "entry '%.200s…': its path is too long", path);
		if (n > 0 && !(n == 1 && p[0] == '.')) {
			if (++depth > TREE_DEPTH_MAX)
				return err_say(err, ENAMETOOLONG, "entry '%.200s…': nested deeper than %u directories",
					path, TREE_DEPTH_MAX);
			if (len > 0)
				ret[len++] = '/';
			memcpy(ret + len, p, n);
			len += n;
		}
		p += n;
		p += *p == '/';
	}
	ret[len] = '\0';
	return 0;
}

int tree_ensure_dir(int parent, const char *name, mode_t mode, uid_t uid, struct err *err)
{
	if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return err_set(err, errno, "make the directory %s", name);
	_cleanup_close_ int fd = tree_open_dir(parent, name);
	if (fd < 0)
		return err_set(err, fd, "open the directory %s", name);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat %s", name);
	/* One that root owns was just made, by us or by somebody opening the store at the same time. */
	if (st.st_uid != uid && st.st_uid != 0)
		return err_say(err, EPERM, "%s belongs to uid %u, not to %u", name, st.st_uid, uid);
	if ((st.st_uid != uid || st.st_gid != uid) && fchown(fd, uid, uid) < 0)
		return err_set(err, errno, "change the owner of %s", name);
	if ((st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
		return err_set(err, errno, "change the mode of %s", name);
	return TAKE_FD(fd);
}

#define REMOVE_DEPTH_MAX 64

/*
 * Remove everything beneath fd (owned by this call). Beyond REMOVE_DEPTH_MAX levels a directory is not entered but moved
 * up to the top, where a later round finds it: depth costs neither stack nor fds without bound.
 * Return: 0, 1 when something was moved to the top, or -errno.
 */
static int empty_dir(int fd, int top, unsigned depth)
{
	_cleanup_closedir_ DIR *dir = fdopendir(fd);
	if (!dir) {
		int r = -errno;
		(void)close(fd);
		return r;
	}
	int moved = 0;
	for (;;) {
		errno = 0;
		struct dirent *d = readdir(dir);
		if (!d)
			return errno ? -errno : moved;
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, d->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno != EISDIR)
			return -errno;
		if (depth >= REMOVE_DEPTH_MAX) {
			char name[TREE_RANDOM_NAME_MAX];
			int r = tree_random_name(name);
			if (r < 0)
				return r;
			if (renameat(fd, d->d_name, top, name) < 0)
				return -errno;
			moved = 1;
			continue;
		}
		int sub = tree_open_dir(fd, d->d_name);
		if (sub < 0)
			return sub;
		int r = empty_dir(sub, top, depth + 1);
		if (r < 0)
			return r;
		moved |= r;
		/* A directory that the walk has missed something in is met again in the next round. */
		if (unlinkat(fd, d->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
			if (errno != ENOTEMPTY)
				return -errno;
			moved = 1;
		}
	}
}

int tree_remove(int parent, const char *name, struct err *err)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return err_set(err, errno, "remove %s", name);
	_cleanup_close_ int top = tree_open_dir(parent, name);
	if (top < 0)
		return err_set(err, top, "open %s to remove it", name);
	for (;;) {
		int fd = tree_open_dir(top, ".");
		if (fd < 0)
			return err_set(err, fd, "open %s to remove it", name);
		int r = empty_dir(fd, top, 0);
		if (r < 0)
			return err_set(err, r, "remove what is in %s", name);
		if (r > 0)
			continue;
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY)
			return err_set(err, errno, "remove %s", name);
	}
}

/* Locked, so that no sweep takes it for a dead process's. */
static int make_temp(int dirfd, const char *temp)
{
	_cleanup_close_ int gate = sweep_hold_off(dirfd);
	if (gate < 0)
		return gate;
	_cleanup_close_ int fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int write_temp(int fd, const void *data, size_t len, mode_t mode, bool sync)
{
	int r = fd_write_all(fd, data, len);
	if (r < 0)
		return r;
	if (fchmod(fd, mode) < 0 || (sync && fsync(fd) < 0))
		return -errno;
	return 0;
}

int tree_replace_file(int dirfd, const char *name, const void *data, size_t len, mode_t mode, bool sync,
	struct err *err)
{
	char temp[TREE_RANDOM_NAME_MAX + 1] = ".";
	int r = tree_random_name(temp + 1);
	if (r < 0)
		return err_set(err, r, "name a temporary file");
	_cleanup_close_ int fd = make_temp(dirfd, temp);
	r = fd < 0 ? fd : write_temp(fd, data, len, mode, sync);
	if (r == 0 && renameat(dirfd, temp, dirfd, name) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(dirfd, temp, 0);
		return err_set(err, r, "write %s", name);
	}
	if (sync && fsync(dirfd) < 0)
		return err_set(err, errno, "sync the directory of %s", name);
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int append_name(struct tree_names *names, size_t *cap, const char *name)
{
	if (names->count == *cap) {
		size_t more = *cap ? *cap * 2 : 32;
		char **bigger = reallocarray(names->names, more, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		names->names = bigger;
		*cap = more;
	}
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	names->names[names->count++] = copy;
	return 0;
}

int tree_list(int dirfd, size_t max, struct tree_names *ret)
{
	int fd = tree_open_dir(dirfd, ".");
	if (fd < 0)
		return fd;
	_cleanup_closedir_ DIR *dir = fdopendir(fd);
	if (!dir) {
		int r = -errno;
		(void)close(fd);
		return r;
	}
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	size_t cap = 0;
	for (;;) {
		errno = 0;
		struct dirent *d = readdir(dir);
		if (!d && errno)
			return -errno;
		if (!d)
			break;
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (names.count >= max)
			return -EFBIG;
		int r = append_name(&names, &cap, d->d_name);
		if (r < 0)
			return r;
	}
	if (names.count > 1)
		qsort(names.names, names.count, sizeof(*names.names), compare_names);
	*ret = names;
	names = TREE_NAMES_INIT;
	return 0;
}

void tree_names_clear(struct tree_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->names[i]);
	free(names->names);
	*names = TREE_NAMES_INIT;
}
