/*
 * The spool (process: petri, on the event loop; its directory is made by the supervisor, as root). A file: magic, the number
 * of records and the bytes of the body, its XXH3, then the body: length and bytes of each record. Numbers are the
 * machine's own: no other reads them. fsync(2) runs in the ring, so no deadline waits for a disk.
 */
#include "executor/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#define MAGIC "petrisp1"
#define NAME_CAP 48
#define LOCK_TRIES 50
#define LOCK_TRY_MS 20

struct header {
	char magic[8];
	uint64_t records, bytes, hash;
};

struct spool {
	struct loop *loop;
	int dir;
	uint64_t bytes, max_bytes, number;
	struct spool_batch *writing; /* the one that is on its way to the disk */
	struct spool_batch *batches; /* all */
	bool closing;
};

struct spool_batch {
	struct spool *spool;
	struct spool_batch *next, **at;
	char name[NAME_CAP];
	char *body;
	size_t len, cap;
	uint64_t records, left; /* all; those that are needed still */
	bool kept;		/* its file is there */
	/* being written */
	struct loop_op op;
	struct loop_timer failed;
	int fd, error;
	bool renamed;
	void (*fn)(void *data, int error);
	void *data;
};

/* ---- the directory ---- */

int spool_make_dir(int statefd, const char *name, uid_t uid, struct err *err)
{
	char path[300];
	if (mkdirat(statefd, "spool", 0711) < 0 && errno != EEXIST)
		return err_set(err, errno, "make spool");
	(void)snprintf(path, sizeof(path), "spool/results-%.200s", name);
	if (strchr(name, '/'))
		return err_say(err, EINVAL, "'%s' cannot name a directory", name);
	bool made = mkdirat(statefd, path, 0700) == 0;
	if (!made && errno != EEXIST)
		return err_set(err, errno, "make %s", path);
	_cleanup_close_ int fd = openat(statefd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "open %s", path);
	if ((st.st_uid != uid || st.st_gid != uid) && fchown(fd, uid, uid) < 0)
		return err_set(err, errno, "give %s to the worker", path);
	/* Processes of a supervisor that was killed have the lock with it, and end a moment after it. */
	int r = flock(fd, LOCK_EX | LOCK_NB);
	for (int i = 0; r < 0 && errno == EWOULDBLOCK && i < LOCK_TRIES; i++) {
		(void)poll(NULL, 0, LOCK_TRY_MS);
		r = flock(fd, LOCK_EX | LOCK_NB);
	}
	if (r < 0)
		return errno == EWOULDBLOCK ? err_say(err, EBUSY, "another worker of this name and state directory runs") : err_set(err, errno, "lock %s", path);
	return TAKE_FD(fd);
}

int spool_open(struct loop *loop, int dir, uint64_t max_bytes, struct spool **ret, struct err *err)
{
	struct spool *spool = calloc(1, sizeof(*spool));
	if (!spool)
		return err_set(err, ENOMEM, "spool");
	*spool = (struct spool){.loop = loop, .dir = dir, .max_bytes = max_bytes};
	*ret = spool;
	return 0;
}

/* ---- batches ---- */

static void batch_free(struct spool_batch *batch)
{
	*batch->at = batch->next;
	if (batch->next)
		batch->next->at = batch->at;
	cleanup_close(&batch->fd);
	free(batch->body);
	free(batch);
}

struct spool_batch *spool_begin(struct spool *spool)
{
	struct spool_batch *batch = calloc(1, sizeof(*batch));
	if (!batch)
		return NULL;
	batch->spool = spool;
	batch->fd = -1;
	batch->next = spool->batches;
	batch->at = &spool->batches;
	if (batch->next)
		batch->next->at = &batch->next;
	spool->batches = batch;
	return batch;
}

int spool_add(struct spool_batch *batch, const void *record, size_t len)
{
	uint64_t size = len;
	size_t need = batch->len + sizeof(size) + len;
	if (batch->spool->bytes + need > batch->spool->max_bytes)
		return -ENOSPC;
	if (need > batch->cap) {
		size_t cap = MAX(need, batch->cap * 2);
		char *body = realloc(batch->body, cap);
		if (!body)
			return -ENOMEM;
		batch->body = body;
		batch->cap = cap;
	}
	memcpy(batch->body + batch->len, &size, sizeof(size));
	memcpy(batch->body + batch->len + sizeof(size), record, len);
	batch->len = need;
	batch->records++;
	batch->left++;
	return 0;
}

void spool_drop(struct spool_batch *batch)
{
	batch_free(batch);
}

static void unlink_file(struct spool_batch *batch)
{
	struct spool *spool = batch->spool;
	batch->kept = false;
	spool->bytes -= MIN(spool->bytes, batch->len);
	if (unlinkat(spool->dir, batch->name, 0) < 0)
		log_warn("spool: cannot remove %s: %s, ignoring", batch->name, strerror(errno));
}

void spool_done(struct spool_batch *batch)
{
	if (--batch->left || !batch->kept)
		return; /* one that is still being written goes when it is there */
	unlink_file(batch);
	batch_free(batch);
}

/* ---- writing ---- */

static void temporary(const struct spool_batch *batch, char out[NAME_CAP + 8])
{
	(void)snprintf(out, NAME_CAP + 8, "%s.new", batch->name);
}

/* Told from the loop, and never twice. */
static void written(struct spool_batch *batch, int error)
{
	struct spool *spool = batch->spool;
	cleanup_close(&batch->fd);
	spool->writing = NULL;
	if (error < 0) {
		char name[NAME_CAP + 8];
		temporary(batch, name);
		(void)unlinkat(spool->dir, batch->renamed ? batch->name : name, 0);
		batch->fn(batch->data, error);
		batch_free(batch);
		return;
	}
	batch->kept = true;
	spool->bytes += batch->len;
	free(TAKE_PTR(batch->body));
	bool needed = batch->left > 0;
	batch->left++; /* kept here while fn may let go of it */
	batch->fn(batch->data, needed ? 0 : -ECANCELED);
	spool_done(batch);
}

static void on_synced(struct loop_op *op, int res)
{
	struct spool_batch *batch = op->data;
	struct spool *spool = batch->spool;
	if (spool->closing) { /* spool_free() left this one to us */
		bool last = !batch->next && batch->at == &spool->batches;
		batch_free(batch);
		if (last) {
			cleanup_close(&spool->dir);
			free(spool);
		}
		return;
	}
	if (res == 0 && !batch->renamed) {
		char name[NAME_CAP + 8];
		temporary(batch, name);
		batch->renamed = renameat(spool->dir, name, spool->dir, batch->name) == 0;
		if (batch->renamed) {
			loop_sync(spool->loop, &batch->op, spool->dir);
			return;
		}
		res = -errno;
	}
	written(batch, res);
}

static void on_failed(struct loop_timer *timer)
{
	struct spool_batch *batch = timer->data;
	written(batch, batch->error);
}

static int write_file(struct spool_batch *batch)
{
	struct spool *spool = batch->spool;
	char name[NAME_CAP + 8];
	struct header header = {.records = batch->records, .bytes = batch->len, .hash = XXH3_64bits(batch->body, batch->len)};
	memcpy(header.magic, MAGIC, sizeof(header.magic));
	(void)snprintf(batch->name, sizeof(batch->name), "%016llx-%08llx", (unsigned long long)wall_us(),
		(unsigned long long)spool->number++);
	temporary(batch, name);
	batch->fd = openat(spool->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (batch->fd < 0)
		return -errno;
	int r = fd_write_all(batch->fd, &header, sizeof(header));
	return r < 0 ? r : fd_write_all(batch->fd, batch->body, batch->len);
}

void spool_commit(struct spool_batch *batch, void (*fn)(void *data, int error), void *data)
{
	struct spool *spool = batch->spool;
	spool->writing = batch;
	batch->fn = fn;
	batch->data = data;
	batch->op = (struct loop_op){.fn = on_synced, .data = batch};
	batch->failed = (struct loop_timer){.fn = on_failed, .data = batch};
	batch->error = write_file(batch);
	if (batch->error < 0)
		loop_timer_set(spool->loop, &batch->failed, 0);
	else
		loop_sync(spool->loop, &batch->op, batch->fd);
}

bool spool_busy(const struct spool *spool)
{
	return spool->writing != NULL;
}

void spool_free(struct spool *spool)
{
	if (!spool)
		return;
	spool->closing = true;
	struct spool_batch *busy = spool->writing && spool->writing->op.armed ? spool->writing : NULL;
	for (struct spool_batch *b = spool->batches, *next; b; b = next) {
		next = b->next;
		loop_timer_clear(spool->loop, &b->failed);
		if (b != busy)
			batch_free(b);
	}
	if (busy) {
		loop_cancel(spool->loop, &busy->op); /* its memory is the ring's until it completes */
		return;
	}
	cleanup_close(&spool->dir);
	free(spool);
}

/* ---- reading ---- */

/* Return: whether the file is what was written, with its body in the batch. */
static bool read_file(struct spool_batch *batch)
{
	struct header header;
	struct stat st;
	_cleanup_close_ int fd = openat(batch->spool->dir, batch->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(header) ||
		(uint64_t)st.st_size > (uint64_t)batch->spool->max_bytes + sizeof(header))
		return false;
	batch->len = (size_t)st.st_size - sizeof(header);
	batch->body = malloc(batch->len + 1);
	if (!batch->body || fd_read_all(fd, &header, sizeof(header)) != (ssize_t)sizeof(header) ||
		fd_read_all(fd, batch->body, batch->len) != (ssize_t)batch->len)
		return false;
	batch->records = header.records;
	return memcmp(header.magic, MAGIC, sizeof(header.magic)) == 0 && header.bytes == batch->len &&
		header.hash == XXH3_64bits(batch->body, batch->len);
}

/* Return: the records of the body, or 0 when it is not made of so many. */
static uint64_t count_records(const struct spool_batch *batch)
{
	uint64_t n = 0, size;
	for (size_t at = 0; at < batch->len; at += sizeof(size) + (size_t)size, n++) {
		if (batch->len - at < sizeof(size))
			return 0;
		memcpy(&size, batch->body + at, sizeof(size));
		if (size > batch->len - at - sizeof(size))
			return 0;
	}
	return n == batch->records ? n : 0;
}

static void load_file(struct spool *spool, const char *name, spool_record_fn fn, void *data)
{
	struct spool_batch *batch = spool_begin(spool);
	if (!batch) {
		log_error("spool: out of memory for %s, ignoring", name);
		return;
	}
	(void)snprintf(batch->name, sizeof(batch->name), "%s", name);
	if (!read_file(batch) || !count_records(batch)) {
		char aside[NAME_CAP + 8];
		(void)snprintf(aside, sizeof(aside), "%s.torn", name);
		log_warn("spool: %s is torn or not ours; kept as %s, ignoring", name, aside);
		(void)renameat(spool->dir, name, spool->dir, aside);
		batch_free(batch);
		return;
	}
	uint64_t size;
	_cleanup_free_ char *body = TAKE_PTR(batch->body);
	batch->kept = true;
	batch->left = batch->records + 1;
	spool->bytes += batch->len;
	size_t len = batch->len;
	for (size_t at = 0; at < len; at += sizeof(size) + (size_t)size) {
		memcpy(&size, body + at, sizeof(size));
		fn(data, batch, body + at + sizeof(size), (size_t)size);
	}
	spool_done(batch);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of batches only; what a crash left half-written, and what was torn at the last start but one, goes. */
static bool ours(struct spool *spool, const char *name)
{
	const char *end = strrchr(name, '.');
	if (name[0] == '.')
		return false;
	if (end && (strcmp(end, ".new") == 0 || strcmp(end, ".torn") == 0)) {
		(void)unlinkat(spool->dir, name, 0);
		return false;
	}
	return strlen(name) < NAME_CAP;
}

void spool_load(struct spool *spool, spool_record_fn fn, void *data)
{
	int fd = openat(spool->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	char **names = NULL;
	size_t n = 0, cap = 0;
	if (!dir) {
		log_warn("spool: cannot read the directory: %s, ignoring", strerror(errno));
		cleanup_close(&fd);
		return;
	}
	for (struct dirent *d; (d = readdir(dir));) {
		if (!ours(spool, d->d_name))
			continue;
		if (n == cap) {
			char **more = reallocarray(names, cap ? cap * 2 : 64, sizeof(*names));
			if (!more)
				break;
			names = more;
			cap = cap ? cap * 2 : 64;
		}
		names[n] = strdup(d->d_name);
		n += names[n] != NULL;
	}
	if (n)
		qsort(names, n, sizeof(*names), compare_names);
	for (size_t i = 0; i < n; i++) {
		load_file(spool, names[i], fn, data);
		free(names[i]);
	}
	free(names);
}
