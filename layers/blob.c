/*
 * Blobs: content-addressed files, put and opened by the unprivileged worker or by root's commands.
 *
 * blobs/ab/<hex> is the content; blobs/ab/<hex>.sha256 says "<sha256> <bytes>". The second is put in place first, so that
 * an object without it, or of another size, can only be what a power cut left of an unsynced write: such a one is
 * refused when opened, and replaced when it is put again.
 *
 * blobs/ belongs to the worker, so root, when it writes here, trusts no name in it: single names, O_NOFOLLOW, O_EXCL.
 */
#include "layers/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "layers/hash.h"
#include "layers/store_internal.h"
#include "layers/tree.h"
#include "layers/use.h"

#define BLOB_BUFFER (128u << 10)
#define RECORD_SUFFIX ".sha256"
#define RECORD_MAX 96

struct blob_names {
	char dir[3];
	char object[33];
	char record[33 + sizeof(RECORD_SUFFIX)];
};

static void blob_name(const uint8_t id[16], struct blob_names *ret)
{
	format_hex(id, 1, ret->dir);
	format_hex(id, 16, ret->object);
	(void)snprintf(ret->record, sizeof(ret->record), "%s" RECORD_SUFFIX, ret->object);
}

/* A temporary file of this process in blobs/tmp; unlinked at the end of the scope. */
struct temp {
	int dir;
	int fd;
	char name[TREE_RANDOM_NAME_MAX];
};

static void temp_clear(struct temp *temp)
{
	if (temp->fd < 0)
		return;
	(void)unlinkat(temp->dir, temp->name, 0);
	cleanup_close(&temp->fd);
}

static int temp_open(struct store *store, struct temp *ret, struct err *err)
{
	int r = tree_random_name(ret->name);
	if (r < 0)
		return err_set(err, r, "name a temporary blob");
	ret->dir = store->blobs_tmp;
	_cleanup_close_ int gate = sweep_hold_off(ret->dir);
	if (gate < 0)
		return err_set(err, gate, "make a temporary blob");
	ret->fd = openat(ret->dir, ret->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (ret->fd < 0)
		return err_set(err, errno, "make a temporary blob");
	(void)flock(ret->fd, LOCK_EX | LOCK_NB); /* tells store_sweep() that it is in use */
	if (geteuid() == 0 && fchown(ret->fd, STORE_WORKER_UID, STORE_WORKER_UID) < 0)
		return err_set(err, errno, "give a blob to the worker");
	return 0;
}

/* Where the bytes of a blob come from: an fd, or memory when data is set. */
struct source {
	int fd;
	const char *data;
	size_t len;
};

static ssize_t source_read(struct source *src, void *buf, size_t cap)
{
	if (!src->data)
		return fd_read_all(src->fd, buf, cap);
	size_t n = MIN(cap, src->len);
	memcpy(buf, src->data, n);
	src->data += n;
	src->len -= n;
	return (ssize_t)n;
}

/* Copy src to dst, hashing. Reads at most max + 1 bytes. */
static int copy_hashed(struct source *src, int dst, uint64_t max, struct hash *hash, uint64_t *ret_bytes, struct err *err)
{
	_cleanup_free_ char *buf = malloc(BLOB_BUFFER);
	if (!buf)
		return err_set(err, ENOMEM, "store a blob");
	uint64_t total = 0;
	for (;;) {
		size_t want = (size_t)MIN((uint64_t)BLOB_BUFFER, max == UINT64_MAX ? max : max - total + 1);
		ssize_t n = source_read(src, buf, want);
		if (n < 0)
			return err_set(err, (int)n, "read the bytes of a blob");
		if (n == 0)
			break;
		total += (uint64_t)n;
		if (total > max)
			return err_say(err, EFBIG, "the blob is larger than %" PRIu64 " bytes", max);
		hash_update(hash, buf, (size_t)n);
		int r = fd_write_all(dst, buf, (size_t)n);
		if (r < 0)
			return err_set(err, r, "write a blob");
	}
	*ret_bytes = total;
	return 0;
}

/* Return: 1 when both hold the same bytes, 0 when not, or -errno. */
static int same_bytes(int a, int b)
{
	_cleanup_free_ char *buf = malloc(2 * BLOB_BUFFER);
	if (!buf)
		return -ENOMEM;
	if (lseek(a, 0, SEEK_SET) < 0 || lseek(b, 0, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		ssize_t na = fd_read_all(a, buf, BLOB_BUFFER);
		ssize_t nb = fd_read_all(b, buf + BLOB_BUFFER, BLOB_BUFFER);
		if (na < 0 || nb < 0)
			return (int)MIN(na, nb);
		if (na != nb || memcmp(buf, buf + BLOB_BUFFER, (size_t)na) != 0)
			return 0;
		if (na == 0)
			return 1;
	}
}

/* The size in the record, or -EUCLEAN when there is no good record. */
static int record_bytes(int dir, const struct blob_names *names, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	if (fd_read_file(dir, names->record, RECORD_MAX, &text, &len, NULL) < 0)
		return -EUCLEAN;
	if (len < 67 || strspn(text, "0123456789abcdef") != 64 || text[64] != ' ' || text[len - 1] != '\n')
		return -EUCLEAN;
	text[len - 1] = '\0';
	return parse_u64(text + 65, ret, NULL) < 0 ? -EUCLEAN : 0;
}

/* Open an object that is whole. Return: the fd, -ENOENT, -EUCLEAN (damaged), or -errno. */
static int open_object(int dir, const struct blob_names *names, uint64_t *ret_bytes)
{
	_cleanup_close_ int fd = openat(dir, names->object, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	uint64_t bytes;
	if (!S_ISREG(st.st_mode) || record_bytes(dir, names, &bytes) < 0 || bytes != (uint64_t)st.st_size)
		return -EUCLEAN;
	*ret_bytes = bytes;
	return TAKE_FD(fd);
}

static int replace(const struct temp *temp, int dir, const char *name, struct err *err)
{
	/* Linked first, then renamed: the temporary name stays until the end, for temp_clear(). */
	char copy[TREE_RANDOM_NAME_MAX];
	int r = tree_random_name(copy);
	if (r == 0 && (linkat(temp->dir, temp->name, temp->dir, copy, 0) < 0 || renameat(temp->dir, copy, dir, name) < 0))
		r = -errno;
	return r < 0 ? err_set(err, r, "put a blob in its place") : 0;
}

/* Give the finished files their names; share or refuse what is there already. */
static int publish(const struct temp *object, const struct temp *record, int dir, const struct blob_names *names,
	struct err *err)
{
	bool old_record = false;
	if (linkat(record->dir, record->name, dir, names->record, 0) < 0) {
		if (errno != EEXIST)
			return err_set(err, errno, "put a blob in its place");
		old_record = true;
	}
	if (linkat(object->dir, object->name, dir, names->object, 0) == 0)
		return old_record ? replace(record, dir, names->record, err) : 0;
	if (errno != EEXIST)
		return err_set(err, errno, "put a blob in its place");
	uint64_t bytes;
	_cleanup_close_ int there = open_object(dir, names, &bytes);
	if (there < 0 && there != -EUCLEAN)
		return err_set(err, there, "open the blob %s", names->object);
	int same = there < 0 ? 0 : same_bytes(object->fd, there);
	if (same < 0)
		return err_set(err, same, "compare with the blob %s", names->object);
	if (same) {
		layer_touch(there); /* before the lock goes: gc looks at it again */
		return 0;
	}
	if (there >= 0) {
		log_warn("refused a blob whose id is taken by other content id=xxh128:%s", names->object);
		return err_say(err, EEXIST, "other content has the id xxh128:%s already", names->object);
	}
	log_debug("replacing the damaged blob %s", names->object);
	int r = replace(record, dir, names->record, err);
	return r < 0 ? r : replace(object, dir, names->object, err);
}

static int open_fan(struct store *store, const struct blob_names *names, struct err *err)
{
	if (geteuid() == 0)
		return tree_ensure_dir(store->blobs, names->dir, 0700, STORE_WORKER_UID, err);
	if (mkdirat(store->blobs, names->dir, 0700) < 0 && errno != EEXIST)
		return err_set(err, errno, "make the blob directory %s", names->dir);
	int fd = tree_open_dir(store->blobs, names->dir);
	return fd < 0 ? err_set(err, fd, "open the blob directory %s", names->dir) : fd;
}

static int put(struct store *store, struct source *src, uint64_t max, enum store_origin origin, uint8_t ret_id[16],
	uint64_t *ret_bytes, struct err *err)
{
	_cleanup_(temp_clear) struct temp object = {.fd = -1}, record = {.fd = -1};
	_cleanup_(hash_cleanup) struct hash *hash = NULL;
	uint8_t id[16], sha[32];
	uint64_t bytes = 0;
	int r = hash_new(&hash, err);
	if (r == 0)
		r = temp_open(store, &object, err);
	if (r == 0)
		r = temp_open(store, &record, err);
	if (r == 0)
		r = copy_hashed(src, object.fd, max, hash, &bytes, err);
	if (r == 0)
		r = hash_final(hash, id, sha, err);
	if (r < 0)
		return r;
	if (origin == STORE_JOB)
		hash_salt(store->secret, sha, id);

	char text[RECORD_MAX];
	format_hex(sha, sizeof(sha), text);
	int len = 64 + snprintf(text + 64, sizeof(text) - 64, " %" PRIu64 "\n", bytes);
	r = fd_write_all(record.fd, text, (size_t)len);
	if (r < 0)
		return err_set(err, r, "write a blob's record");
	/* Only what an operator uploads must outlive a power cut; what a job made can be made again. */
	bool sync = origin == STORE_UPLOAD;
	if (fchmod(object.fd, 0400) < 0 || fchmod(record.fd, 0400) < 0 ||
		(sync && (fsync(object.fd) < 0 || fsync(record.fd) < 0)))
		return err_set(err, errno, "finish a blob");

	struct blob_names names;
	blob_name(id, &names);
	_cleanup_close_ int dir = open_fan(store, &names, err);
	if (dir < 0)
		return dir;
	/* So that gc takes object and record together, and not one that is being shared. */
	r = store_lock(dir, LOCK_SH);
	if (r < 0)
		return err_set(err, r, "lock the blob directory %s", names.dir);
	r = publish(&object, &record, dir, &names, err);
	(void)flock(dir, LOCK_UN);
	if (r < 0)
		return r;
	if (sync && (fsync(dir) < 0 || fsync(store->blobs) < 0))
		return err_set(err, errno, "sync the blob %s", names.object);
	memcpy(ret_id, id, sizeof(id));
	if (ret_bytes)
		*ret_bytes = bytes;
	return 0;
}

int blob_put_fd(struct store *store, int src, uint64_t max, enum store_origin origin, uint8_t ret_id[16],
	uint64_t *ret_bytes, struct err *err)
{
	struct source source = {.fd = src};
	return put(store, &source, max, origin, ret_id, ret_bytes, err);
}

int blob_put_data(struct store *store, const void *data, size_t len, enum store_origin origin, uint8_t ret_id[16],
	struct err *err)
{
	struct source source = {.fd = -1, .data = len ? data : "", .len = len};
	return put(store, &source, len, origin, ret_id, NULL, err);
}

/* As open_object(); but one that gc removes meanwhile, object first, is not damaged. */
static int open_present(int dir, const struct blob_names *names, uint64_t *ret_bytes)
{
	int fd = open_object(dir, names, ret_bytes);
	if (fd == -EUCLEAN && faccessat(dir, names->object, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return -ENOENT;
	return fd;
}

int blob_open(struct store *store, const uint8_t id[16], uint64_t *ret_bytes, struct err *err)
{
	int fd = blob_open_unused(store, id, ret_bytes, err);
	if (fd >= 0)
		layer_touch(fd);
	return fd;
}

int blob_open_unused(struct store *store, const uint8_t id[16], uint64_t *ret_bytes, struct err *err)
{
	struct blob_names names;
	blob_name(id, &names);
	_cleanup_close_ int dir = tree_open_dir(store->blobs, names.dir);
	uint64_t bytes = 0;
	int fd = dir < 0 ? dir : open_present(dir, &names, &bytes);
	if (fd == -ENOENT)
		return err_say(err, ENOENT, "there is no blob xxh128:%s", names.object);
	if (fd == -EUCLEAN)
		return err_say(err, EUCLEAN, "the blob xxh128:%s is damaged; put it again", names.object);
	if (fd < 0)
		return err_set(err, fd, "open the blob xxh128:%s", names.object);
	if (ret_bytes)
		*ret_bytes = bytes;
	return fd;
}

int blob_sha256(struct store *store, const uint8_t id[16], char ret_hex[65], struct err *err)
{
	struct blob_names names;
	blob_name(id, &names);
	_cleanup_close_ int dir = tree_open_dir(store->blobs, names.dir);
	if (dir < 0)
		return err_say(err, -dir, "there is no blob xxh128:%s", names.object);
	uint64_t bytes;
	_cleanup_free_ char *text = NULL;
	if (record_bytes(dir, &names, &bytes) < 0)
		return err_say(err, EUCLEAN, "the blob xxh128:%s has no SHA-256 on record", names.object);
	int r = fd_read_file(dir, names.record, RECORD_MAX, &text, NULL, err);
	if (r < 0)
		return r;
	(void)snprintf(ret_hex, 65, "%.64s", text);
	return 0;
}
