/*
 * The sweep: temporary trees and files that a crash left behind go. Root, at a worker's start and in verbs that clean up.
 *
 * What is in use is locked by its maker, flock(2), which ends with the process however it ends. Between the making of an entry
 * and its lock its maker holds the directory's lock, shared; the sweep takes that one exclusively while it tries the entries, and
 * lets go of it before it removes those that it got.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "layers/store_internal.h"
#include "layers/tree.h"

#define BATCH 64u /* entries, and so fds, at a time */
#define NAMES_MAX 1000000u

int sweep_hold_off(int dirfd)
{
	/* An open file of its own: locks belong to those, and the store's are shared with children. */
	_cleanup_close_ int fd = tree_open_dir(dirfd, ".");
	int r = fd < 0 ? fd : store_lock(fd, LOCK_SH);
	return r < 0 ? r : TAKE_FD(fd);
}

struct batch {
	size_t n;
	int fds[BATCH];
	const char *names[BATCH];
};

/* Nothing else than a plain file or directory is ever made there: links, FIFOs and the like go unopened. */
static bool try_entry(int dirfd, const char *name, struct batch *batch)
{
	struct stat st;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	_cleanup_close_ int fd = -1;
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
		fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
			return false;
	}
	batch->fds[batch->n] = TAKE_FD(fd);
	batch->names[batch->n++] = name;
	return true;
}

static uint64_t remove_batch(int dirfd, struct batch *batch)
{
	uint64_t removed = 0;
	for (size_t i = 0; i < batch->n; i++) {
		struct err err = ERR_INIT;
		if (tree_remove(dirfd, batch->names[i], &err) == 0)
			removed++;
		else
			log_warn("sweep: %s, ignoring", err_msg(&err));
	}
	fd_close_many(batch->fds, batch->n);
	return removed;
}

static bool any_name(const char *name)
{
	(void)name;
	return true;
}

static bool is_random(const char *digits)
{
	return store_is_hex(digits, TREE_RANDOM_NAME_MAX - 1);
}

/* tree_replace_file()'s: a dot and 32 hex digits. */
static bool hidden_name(const char *name)
{
	return name[0] == '.' && is_random(name + 1);
}

/* What becomes the store's secret by a link. */
static bool secret_name(const char *name)
{
	return strncmp(name, "secret.", 7) == 0 && is_random(name + 7);
}

static uint64_t sweep_dir(int dirfd, bool (*ours)(const char *name))
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	uint64_t removed = 0;
	if (tree_list(dirfd, NAMES_MAX, &names) < 0)
		return 0;
	for (size_t i = 0; i < names.count;) {
		struct batch batch = {.n = 0};
		_cleanup_close_ int gate = tree_open_dir(dirfd, ".");
		if (gate < 0 || store_lock(gate, LOCK_EX) < 0) {
			log_debug("sweep: somebody keeps a directory locked, ignoring");
			break;
		}
		for (; i < names.count && batch.n < BATCH; i++)
			if (ours(names.names[i]))
				(void)try_entry(dirfd, names.names[i], &batch);
		cleanup_close(&gate);
		removed += remove_batch(dirfd, &batch);
	}
	return removed;
}

uint64_t store_sweep(struct store *store)
{
	return sweep_dir(store->layers_tmp, any_name) + sweep_dir(store->blobs_tmp, any_name) +
		sweep_dir(store->images, hidden_name) + sweep_dir(store->fd, secret_name);
}
