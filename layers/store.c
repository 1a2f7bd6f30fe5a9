/*
 * The store's directories and its secret. Opened by root (petri's commands, the supervisor), which then may hand the
 * struct to a process without privileges: that one still reads images and layers and writes blobs through the fds.
 *
 * Who owns what: the state directory is root's and 0700, so that no path leads into the store for anyone else;
 * blobs/ is the worker's; layers/ and images/ are root's, and readable through the fds; layers/tmp and slots are root's alone.
 */
#include "layers/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "layers/hash.h"
#include "layers/store_internal.h"
#include "layers/tree.h"

#define SECRET "secret"
#define SECRET_TEMP "secret." /* and random digits */

static bool may_be_there(const char *name)
{
	static const char *const known[] = {".", "..", "blobs", "layers", "objects", "images", "slots", "pins", "lost+found"};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(name, known[i]) == 0)
			return true;
	return strncmp(name, SECRET, strlen(SECRET)) == 0;
}

/* A directory without a secret becomes a store only if nothing else lies in it: --state /root must not. */
static int check_fresh(int fd, const char *path, struct err *err)
{
	if (faccessat(fd, SECRET, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	int copy = tree_open_dir(fd, ".");
	_cleanup_closedir_ DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir)
		return err_set(err, copy < 0 ? copy : errno, "list %s", path);
	for (struct dirent *d; (d = readdir(dir));)
		if (!may_be_there(d->d_name))
			return err_say(err, ENOTEMPTY,
				"%s is neither empty nor a petri store (it holds '%.100s'); choose another directory", path,
				d->d_name);
	return 0;
}

/* The state directory, checked. Trailing slashes are cut off: with one, O_NOFOLLOW would follow a link. */
static int open_state(char *path, struct err *err)
{
	for (size_t len = strlen(path); len > 1 && path[len - 1] == '/'; len--)
		path[len - 1] = '\0';
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		if (errno == EACCES || errno == EPERM)
			return err_say(err, errno, "the store %s cannot be made by this user; run petri as root", path);
		return err_set(err, errno, "make the store %s", path);
	}
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		if (errno == EACCES)
			return err_say(err, EACCES, "the store %s cannot be opened by this user; run petri as root", path);
		if (errno == ELOOP || errno == ENOTDIR)
			return err_say(err, errno, "the store %s is a symbolic link or no directory", path);
		return err_set(err, errno, "open the store %s", path);
	}
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat the store %s", path);
	if (st.st_uid != geteuid())
		return err_say(err, EPERM, "the store %s belongs to uid %u, not to this user", path, st.st_uid);
	if (st.st_mode & 022)
		return err_say(err, EPERM, "the store %s can be written by others (mode %04o); make it 0700", path,
			st.st_mode & 07777);
	if (geteuid() != 0)
		return err_say(err, EPERM, "the store %s can only be opened by root", path);
	int r = check_fresh(fd, path, err);
	if (r < 0)
		return r;
	if ((st.st_mode & 07777) != 0700 && fchmod(fd, 0700) < 0)
		return err_set(err, errno, "make the store %s private", path);
	return TAKE_FD(fd);
}

/* Written under another name and linked: whoever opens the store at the same time sees the whole secret or none. */
static int make_secret(int state, struct err *err)
{
	uint8_t secret[STORE_SECRET_LEN];
	char temp[sizeof(SECRET_TEMP) + TREE_RANDOM_NAME_MAX] = SECRET_TEMP;
	if (getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret))
		return err_set(err, EIO, "get random bytes");
	int r = tree_random_name(temp + strlen(SECRET_TEMP));
	if (r < 0)
		return err_set(err, r, "get random bytes");
	_cleanup_close_ int gate = sweep_hold_off(state);
	_cleanup_close_ int fd = gate < 0 ? gate : openat(state, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, gate < 0 ? gate : errno, "make the store's secret");
	cleanup_close(&gate);
	r = fd_write_all(fd, secret, sizeof(secret));
	explicit_bzero(secret, sizeof(secret));
	if (r == 0 && (fchown(fd, STORE_WORKER_UID, STORE_WORKER_UID) < 0 || fchmod(fd, 0400) < 0 || fsync(fd) < 0 || (linkat(state, temp, state, SECRET, 0) < 0 && errno != EEXIST)))
		r = -errno;
	(void)unlinkat(state, temp, 0);
	if (r == 0 && fsync(state) < 0)
		r = -errno;
	return r < 0 ? err_set(err, r, "make the store's secret") : 0;
}

static int load_secret(struct store *store, struct err *err)
{
	_cleanup_close_ int fd = openat(store->fd, SECRET, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		int r = make_secret(store->fd, err);
		if (r < 0)
			return r;
		fd = openat(store->fd, SECRET, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	}
	if (fd < 0)
		return err_set(err, errno, "open the store's secret");
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat the store's secret");
	if (!S_ISREG(st.st_mode) || st.st_size != STORE_SECRET_LEN || (st.st_mode & 077) ||
		(st.st_uid != STORE_WORKER_UID && st.st_uid != 0))
		return err_say(err, EINVAL, "%s/" SECRET " is damaged or not private", store->path);
	ssize_t n = fd_read_all(fd, store->secret, sizeof(store->secret));
	if (n != (ssize_t)sizeof(store->secret))
		return err_set(err, n < 0 ? (int)n : EIO, "read the store's secret");
	return 0;
}

static int open_dirs(struct store *store, struct err *err)
{
	static const struct {
		size_t parent, ret;
		const char *name;
		mode_t mode;
		uid_t uid;
	} dirs[] = {
		{offsetof(struct store, fd), offsetof(struct store, blobs), "blobs", 0700, STORE_WORKER_UID},
		{offsetof(struct store, blobs), offsetof(struct store, blobs_tmp), "tmp", 0700, STORE_WORKER_UID},
		{offsetof(struct store, fd), offsetof(struct store, layers), "layers", 0711, 0},
		{offsetof(struct store, layers), offsetof(struct store, layers_tmp), "tmp", 0700, 0},
		{offsetof(struct store, layers), offsetof(struct store, by_source), "by-source", 0700, 0},
		{offsetof(struct store, fd), offsetof(struct store, objects), "objects", 0700, 0},
		{offsetof(struct store, fd), offsetof(struct store, images), "images", 0755, 0},
	};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		int parent = *(int *)(void *)((char *)store + dirs[i].parent);
		int fd = tree_ensure_dir(parent, dirs[i].name, dirs[i].mode, dirs[i].uid, err);
		if (fd < 0)
			return fd;
		*(int *)(void *)((char *)store + dirs[i].ret) = fd;
	}
	_cleanup_close_ int slots = tree_ensure_dir(store->fd, "slots", 0700, 0, err);
	if (slots < 0)
		return slots;
	/* A store of an earlier petri that is full has none: gc must be able to open it, and takes it that nothing is pinned. */
	_cleanup_close_ int pins = tree_ensure_dir(store->fd, "pins", 0700, 0, err);
	return pins < 0 && pins != -ENOSPC && pins != -EDQUOT && pins != -EROFS ? pins : 0;
}

int store_open(const char *path, struct store **ret, struct err *err)
{
	struct store *store = calloc(1, sizeof(*store));
	if (!store)
		return err_set(err, ENOMEM, "open the store");
	store->fd = store->blobs = store->blobs_tmp = store->layers = store->layers_tmp = store->by_source = store->objects = store->images = -1;
	int r = -ENOMEM;
	store->path = strdup(path);
	if (!store->path || !*path)
		r = err_set(err, *path ? ENOMEM : EINVAL, "open the store '%s'", path);
	else
		r = store->fd = open_state(store->path, err);
	if (r >= 0)
		r = open_dirs(store, err);
	if (r >= 0)
		r = load_secret(store, err);
	if (r < 0) {
		if (store->fd >= 0)
			(void)err_wrap(err, "the store %s", path);
		store_free(store);
		return r;
	}
	*ret = store;
	return 0;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	int *fds[] = {&store->images, &store->objects, &store->by_source, &store->layers_tmp, &store->layers, &store->blobs_tmp, &store->blobs, &store->fd};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		cleanup_close(fds[i]);
	explicit_bzero(store->secret, sizeof(store->secret));
	free(store->path);
	free(store);
}

int store_fd(const struct store *store)
{
	return store->fd;
}

int store_layers_fd(const struct store *store)
{
	return store->layers;
}

const char *store_path(const struct store *store)
{
	return store->path;
}

void store_warm(void)
{
	hash_prepare();
}

bool store_is_hex(const char *name, size_t n)
{
	return strlen(name) == n && strspn(name, "0123456789abcdef") == n;
}

bool store_parse_hex(const char *name, uint8_t ret[16])
{
	char text[ID128_TEXT_MAX];
	if (!store_is_hex(name, 32))
		return false;
	(void)snprintf(text, sizeof(text), "xxh128:%s", name);
	return parse_id128(text, ret, NULL) == 0;
}
