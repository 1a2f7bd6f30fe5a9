/*
 * Taking layers and blobs out of the store, with everything that could use them kept away; see gc.h. Root.
 *
 * The order for a layer: lock its last use exclusively, so that nobody holds it and nobody can begin to; look at the images and
 * pins again, since whoever held it until now may have named it there; rename the layer to layers/tmp; let go; delete.
 * Whoever waited for the lock finds that the path does not lead to its file any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "layers/gc_internal.h"
#include "layers/pin.h"
#include "layers/tree.h"
#include "layers/usage.h"
#include "layers/use.h"

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static void failed(struct gc *gc, const char *what, const char *hex, const struct err *err)
{
	gc->sums->failed++;
	log_warn("gc: the %s xxh128:%s stays: %s", what, hex, err_msg(err));
}

/* ---- layers ---- */

/* Return: the locked fd, or -errno: it is in use, gone, or was used since it was listed. */
static int lock_layer(struct gc *gc, const struct gc_item *item, const char hex[33])
{
	char path[33 + sizeof("/" LAYER_USED)];
	struct stat st, there;
	(void)snprintf(path, sizeof(path), "%.32s/" LAYER_USED, hex);
	_cleanup_close_ int fd = openat(gc->store->layers, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool without = fd < 0 && errno == ENOENT;
	if (without) { /* of an earlier petri: nobody holds it, or will before it has this file */
		_cleanup_close_ int dir = tree_open_dir(gc->store->layers, hex);
		fd = dir < 0 ? dir : openat(dir, LAYER_USED, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (dir >= 0 && fd < 0 && (errno == ENOSPC || errno == EDQUOT)) { /* gc is what makes room: the directory serves as well */
			fd = TAKE_FD(dir);
			path[32] = '\0';
		}
	}
	if (fd < 0)
		return -ENOENT;
	if (without && path[32] && fchown(fd, STORE_WORKER_UID, STORE_WORKER_UID) < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0 ||
		fstatat(gc->store->layers, path, &there, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (st.st_ino != there.st_ino || st.st_dev != there.st_dev)
		return -ENOENT;
	if (!without && !same_time(&st.st_mtim, &item->used))
		return -EBUSY;
	return TAKE_FD(fd);
}

struct doomed {
	char temp[TREE_RANDOM_NAME_MAX];
	int used; /* with the exclusive lock; -1: it stays */
	int dir;  /* the directory, locked against sweeps */
	uint64_t bytes;
};

/* It is nobody's, and nobody can come by it any more. Return: 0 or -errno. */
static int move_away(struct gc *gc, const char *hex, struct doomed *d, struct err *err)
{
	int r = tree_random_name(d->temp);
	struct stat st;
	if (r == 0 && fstat(d->used, &st) == 0 && S_ISDIR(st.st_mode)) /* it is locked itself */
		d->dir = fcntl(d->used, F_DUPFD_CLOEXEC, 0);
	else
		d->dir = r < 0 ? r : tree_open_dir(gc->store->layers, hex);
	if (d->dir < 0)
		return err_set(err, d->dir == -1 ? errno : d->dir, "open it");
	if (flock(d->dir, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, errno, "lock it");
	if (renameat(gc->store->layers, hex, gc->store->layers_tmp, d->temp) < 0)
		return err_set(err, errno, "move it away");
	return 0;
}

static bool keep(struct gc *gc, const struct gc_item *item)
{
	size_t at = 0;
	return refs_next(&gc->refs, item->id, &at) || pin_there(gc->store, item->id) != 0;
}

/* @elsewhere: names that its files may have outside of it, and go nevertheless. */
static uint64_t bytes_of(int parent, const char *name, unsigned elsewhere)
{
	_cleanup_(usage_clear) struct usage usage = USAGE_INIT;
	return usage_add(&usage, parent, name, NULL) < 0 ? 0 : usage_own(&usage, elsewhere);
}

/* Delete what was moved away, and count. */
static void destroy(struct gc *gc, const struct gc_item *item, const char *hex, struct doomed *d)
{
	struct err err = ERR_INIT;
	if (d->used < 0)
		return;
	cleanup_close(&d->used);
	uint64_t bytes = bytes_of(gc->store->layers_tmp, d->temp, 0);
	if (tree_remove(gc->store->layers_tmp, d->temp, &err) < 0)
		failed(gc, "layer", hex, &err);
	else
		gc_removed(gc, item, bytes);
	cleanup_close(&d->dir);
}

int gc_take_layers(struct gc *gc, const struct gc_item *items, size_t n, struct err *err)
{
	struct doomed doomed[GC_BATCH];
	char hex[GC_BATCH][33];
	n = MIN(n, (size_t)GC_BATCH);
	for (size_t i = 0; i < n; i++) {
		format_hex(items[i].id, 16, hex[i]);
		doomed[i].dir = -1;
		doomed[i].used = lock_layer(gc, &items[i], hex[i]);
	}
	/* Only now: an import lets go of a layer after its image is there. */
	int r = refs_load(gc->store, &gc->refs, err);
	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;
		if (doomed[i].used < 0)
			continue;
		if (r < 0 || keep(gc, &items[i])) {
			cleanup_close(&doomed[i].used);
		} else if (gc->options->dry_run) {
			cleanup_close(&doomed[i].used);
			/* A file's object would go with the last layer that has it. */
			gc_removed(gc, &items[i], bytes_of(gc->store->layers, hex[i], 1));
		} else if (move_away(gc, hex[i], &doomed[i], &why) < 0) {
			failed(gc, "layer", hex[i], &why);
			cleanup_close(&doomed[i].used);
			cleanup_close(&doomed[i].dir);
		}
	}
	/* The renames first, which whoever waits for a lock waits for; the deleting takes long. */
	for (size_t i = 0; i < n; i++)
		destroy(gc, &items[i], hex[i], &doomed[i]);
	return r;
}

/* ---- blobs ---- */
static int remove_name(int dir, const char *name)
{
	return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

void gc_take_blob(struct gc *gc, const struct gc_item *item)
{
	char fan[3], hex[33], record[48];
	struct stat st, rec = {.st_blocks = 0};
	struct err why = ERR_INIT;
	format_hex(item->id, 1, fan);
	format_hex(item->id, 16, hex);
	(void)snprintf(record, sizeof(record), "%s.sha256", hex);
	_cleanup_close_ int dir = tree_open_dir(gc->store->blobs, fan);
	int r = dir < 0 ? dir : store_lock(dir, LOCK_EX);
	if (r < 0) {
		(void)err_set(&why, r, "lock its directory");
		failed(gc, "blob", hex, &why);
		return;
	}
	/* Whoever shares it has noted the use, under this lock. */
	if (fstatat(dir, hex, &st, AT_SYMLINK_NOFOLLOW) < 0 || !same_time(&st.st_mtim, &item->used) || pin_there(gc->store, item->id) != 0)
		return;
	(void)fstatat(dir, record, &rec, AT_SYMLINK_NOFOLLOW);
	uint64_t bytes = st.st_nlink > 1 ? 0 : (uint64_t)(st.st_blocks + rec.st_blocks) * 512;
	if (!gc->options->dry_run) {
		r = remove_name(dir, hex);
		if (r == 0)
			r = remove_name(dir, record);
	}
	if (r < 0) {
		(void)err_set(&why, r, "remove it");
		failed(gc, "blob", hex, &why);
		return;
	}
	gc_removed(gc, item, bytes);
}
