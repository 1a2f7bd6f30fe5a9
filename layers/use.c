/*
 * Holding layers; see the header. In the worker (unprivileged), in imports and verify (root). What is opened here is one
 * file beneath the store's directory fd: the file is the worker's, its directory root's.
 */
#include "layers/use.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "layers/store_internal.h"

#define LOOKS_MAX 100 /* for a lock, a millisecond apart */
#define BUCKETS 256u  /* a power of two */

int store_lock(int fd, int how)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	for (int i = 0; i < LOOKS_MAX; i++) {
		if (flock(fd, how | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		(void)nanosleep(&pause, NULL);
	}
	return -EBUSY;
}

int layer_hold(struct store *store, const uint8_t id[16], struct err *err)
{
	char hex[33], path[33 + sizeof("/" LAYER_USED)];
	struct stat st, there;
	format_hex(id, 16, hex);
	(void)snprintf(path, sizeof(path), "%s/" LAYER_USED, hex);
	_cleanup_close_ int fd = openat(store->layers, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && faccessat(store->layers, hex, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_say(err, ENOENT, "the layer xxh128:%s was made by an earlier petri; import it again", hex);
	if (fd < 0 && errno == ENOENT)
		return err_say(err, ENOENT, "there is no layer xxh128:%s", hex);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "open the layer xxh128:%s", hex);
	if (!S_ISREG(st.st_mode))
		return err_say(err, EUCLEAN, "the layer xxh128:%s is damaged: its '" LAYER_USED "' is no file", hex);
	int r = store_lock(fd, LOCK_SH);
	if (r == -EBUSY)
		return err_say(err, EBUSY, "the layer xxh128:%s is about to be removed", hex);
	if (r < 0)
		return err_set(err, r, "lock the layer xxh128:%s", hex);
	/* It may have been moved away between the open and the lock. From now on it cannot be. */
	if (fstatat(store->layers, path, &there, AT_SYMLINK_NOFOLLOW) < 0 || there.st_dev != st.st_dev || there.st_ino != st.st_ino)
		return err_say(err, ENOENT, "there is no layer xxh128:%s any more", hex);
	return TAKE_FD(fd);
}

int layer_hold_new(int dirfd, struct err *err)
{
	_cleanup_close_ int fd = openat(dirfd, LAYER_USED, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, errno, "make '" LAYER_USED "' of a layer");
	if (fchown(fd, STORE_WORKER_UID, STORE_WORKER_UID) < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0)
		return err_set(err, errno, "lock '" LAYER_USED "' of a layer");
	return TAKE_FD(fd);
}

void layer_touch(int fd)
{
	const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	struct stat st;
	time_t at = time(NULL);
	/* A time in the future, of a clock that was set back, would keep the layer for ever. */
	if (fstat(fd, &st) == 0 && (st.st_mtim.tv_sec + LAYER_TOUCH_S <= at || st.st_mtim.tv_sec > at))
		(void)futimens(fd, now);
}

/* ---- the table ---- */
struct layer_use {
	uint8_t id[16];
	int fd;
	unsigned count;
	time_t touched;
	struct layer_use *next;
};

struct layer_uses {
	struct store *store;
	struct layer_use *buckets[BUCKETS];
};

int layer_uses_new(struct store *store, struct layer_uses **ret, struct err *err)
{
	struct layer_uses *uses = calloc(1, sizeof(*uses));
	if (!uses)
		return err_set(err, ENOMEM, "uses of layers");
	uses->store = store;
	*ret = uses;
	return 0;
}

static void touch(struct layer_use *use)
{
	time_t now = time(NULL);
	if (use->touched + LAYER_TOUCH_S > now && use->touched <= now)
		return;
	use->touched = now;
	layer_touch(use->fd);
}

static void let_go(struct layer_use *use)
{
	touch(use);
	cleanup_close(&use->fd);
	free(use);
}

void layer_uses_free(struct layer_uses *uses)
{
	for (unsigned i = 0; uses && i < BUCKETS; i++) {
		for (struct layer_use *use = uses->buckets[i], *next; use; use = next) {
			next = use->next;
			let_go(use);
		}
	}
	free(uses);
}

/* Where the layer's entry hangs, or the end of its chain. Ids are digests: their last byte is as good as any other. */
static struct layer_use **find(struct layer_uses *uses, const uint8_t id[16])
{
	struct layer_use **at = &uses->buckets[id[15] & (BUCKETS - 1)];
	while (*at && memcmp((*at)->id, id, sizeof((*at)->id)) != 0)
		at = &(*at)->next;
	return at;
}

int layer_uses_hold(struct layer_uses *uses, const uint8_t id[16], struct layer_use **ret, struct err *err)
{
	struct layer_use **at = find(uses, id), *use = *at;
	if (!use) {
		int fd = layer_hold(uses->store, id, err);
		if (fd < 0)
			return fd;
		use = calloc(1, sizeof(*use));
		if (!use) {
			(void)close(fd);
			return err_set(err, ENOMEM, "uses of layers");
		}
		memcpy(use->id, id, sizeof(use->id));
		use->fd = fd;
		*at = use;
	}
	use->count++;
	touch(use);
	*ret = use;
	return 0;
}

void layer_uses_drop(struct layer_uses *uses, struct layer_use *use)
{
	if (--use->count > 0)
		return;
	struct layer_use **at = find(uses, use->id);
	*at = use->next;
	let_go(use);
}
