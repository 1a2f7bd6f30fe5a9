/*
 * The internal stream. The reader runs in the helper that writes trees; the writer may be a parser that a stranger's
 * archive has taken over. So the reader bounds every length before it uses it, and hands on what it reads to
 * unpack_entry(), which trusts nobody. Both ends are the same program on the same machine: structs go as they are.
 */
#include "layers/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "layers/tree.h"

#define STREAM_BUFFER (256u << 10)
#define CHUNK_HOLE (1ull << 63) /* in the u64 before each part of a file: a hole of so many bytes, else so much data */

enum {
	STREAM_ENTRY_BASE = 1, /* + enum unpack_type */
	STREAM_SKIP = 100,
	STREAM_END = 101,
};

struct stream_head {
	uint32_t type;
	uint32_t mode;
	int64_t uid, gid, mtime, size;
	uint32_t path_len, target_len, nattrs, reserved;
};

struct attr_head {
	uint32_t name_len, value_len;
};

struct stream {
	int sock;
	uint64_t size, left; /* of the file that is being sent */
	size_t len;
	char buf[STREAM_BUFFER];
};

int stream_new(int sock, struct stream **ret, struct err *err)
{
	struct stream *s = malloc(sizeof(*s));
	if (!s)
		return err_set(err, ENOMEM, "feed the import");
	s->sock = sock;
	s->len = 0;
	s->size = s->left = 0;
	*ret = s;
	return 0;
}

void stream_free(struct stream *s)
{
	free(s);
}

int stream_send(int sock, const void *data, size_t len, struct err *err)
{
	const char *p = data;
	while (len > 0) {
		ssize_t n = send(sock, p, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return err_say(err, EPIPE, "the helper stopped reading");
		if (n < 0)
			return err_set(err, errno, "feed the import");
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int flush(struct stream *s, struct err *err)
{
	size_t len = s->len;
	s->len = 0;
	return stream_send(s->sock, s->buf, len, err);
}

static int put(struct stream *s, const void *data, size_t len, struct err *err)
{
	bool large = len > STREAM_BUFFER / 2; /* sent as it is, after what waits */
	if (large || len > STREAM_BUFFER - s->len) {
		int r = flush(s, err);
		if (r < 0)
			return r;
	}
	if (large)
		return stream_send(s->sock, data, len, err);
	memcpy(s->buf + s->len, data, len);
	s->len += len;
	return 0;
}

static int put_attrs(struct stream *s, const struct attrs *attrs, struct err *err)
{
	int r = 0;
	for (size_t i = 0; attrs && i < attrs->count && r == 0; i++) {
		const struct attr *a = &attrs->items[i];
		const struct attr_head head = {.name_len = (uint32_t)strlen(a->name), .value_len = (uint32_t)a->len};
		r = put(s, &head, sizeof(head), err);
		if (r == 0)
			r = put(s, a->name, head.name_len, err);
		if (r == 0)
			r = put(s, a->value, head.value_len, err);
	}
	return r;
}

static int put_entry(struct stream *s, const struct stream_head *head, const char *path, const char *target,
	const struct attrs *attrs, struct err *err)
{
	if (s->left > 0)
		return err_say(err, EPROTO, "a file of the import was not sent whole");
	int r = put(s, head, sizeof(*head), err);
	if (r == 0)
		r = put(s, path, head->path_len, err);
	if (r == 0)
		r = put(s, target, head->target_len, err);
	return r < 0 ? r : put_attrs(s, attrs, err);
}

int stream_entry(struct stream *s, const struct unpack_entry *e, struct err *err)
{
	const char *target = e->target ? e->target : "";
	if (strlen(e->path) > TREE_PATH_MAX || strlen(target) > TREE_PATH_MAX)
		return err_say(err, ENAMETOOLONG, "entry '%.200s…': its path is too long", e->path);
	/* Before its content is on the way, which would be for nothing. */
	if (e->type == UNPACK_FILE && e->size < 0)
		return err_say(err, EINVAL, "entry '%.200s': its size is negative", e->path);
	struct stream_head head = {
		.type = STREAM_ENTRY_BASE + e->type,
		.mode = e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.mtime = e->mtime,
		.size = e->size,
		.path_len = (uint32_t)strlen(e->path),
		.target_len = (uint32_t)strlen(target),
		.nattrs = e->attrs ? (uint32_t)e->attrs->count : 0,
	};
	int r = put_entry(s, &head, e->path, target, e->attrs, err);
	s->size = s->left = r == 0 && e->type == UNPACK_FILE ? (uint64_t)e->size : 0;
	return r;
}

static int put_hole(struct stream *s, uint64_t len, struct err *err)
{
	const uint64_t chunk = len | CHUNK_HOLE;
	s->left -= len;
	return put(s, &chunk, sizeof(chunk), err);
}

int stream_data(struct stream *s, const void *data, size_t len, struct err *err)
{
	const uint64_t chunk = len;
	if (len == 0)
		return 0;
	if (chunk > s->left)
		return err_say(err, EINVAL, "a file of the import has more bytes than its size says");
	int r = put(s, &chunk, sizeof(chunk), err);
	s->left -= chunk;
	return r < 0 ? r : put(s, data, len, err);
}

int stream_data_at(struct stream *s, const void *data, size_t len, uint64_t offset, struct err *err)
{
	uint64_t at = s->size - s->left;
	if (len == 0)
		return 0;
	if (offset < at)
		return err_say(err, EINVAL, "the parts of a file are not in order");
	if (offset - at > s->left)
		return err_say(err, EINVAL, "a file of the import has more bytes than its size says");
	int r = offset > at ? put_hole(s, offset - at, err) : 0;
	return r < 0 ? r : stream_data(s, data, len, err);
}

int stream_file_end(struct stream *s, struct err *err)
{
	return s->left > 0 ? put_hole(s, s->left, err) : 0;
}

int stream_skip(struct stream *s, struct err *err)
{
	const struct stream_head head = {.type = STREAM_SKIP};
	return put_entry(s, &head, "", "", NULL, err);
}

int stream_end(struct stream *s, struct err *err)
{
	const struct stream_head head = {.type = STREAM_END};
	int r = put_entry(s, &head, "", "", NULL, err);
	return r < 0 ? r : flush(s, err);
}

/* ---- the reading end ---- */

struct reader {
	int fd;
	size_t at, len;
	char buf[STREAM_BUFFER];
};

static int cut_off(struct err *err)
{
	return err_say(err, EPIPE, "the stream into the import was cut off");
}

static int garbled(struct err *err)
{
	return err_say(err, EPROTO, "the stream into the import is garbled");
}

static int fill(struct reader *r, struct err *err)
{
	ssize_t n;
	do {
		n = read(r->fd, r->buf, sizeof(r->buf));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_set(err, errno, "read the stream into the import");
	if (n == 0)
		return cut_off(err);
	r->at = 0;
	r->len = (size_t)n;
	return 0;
}

static int get(struct reader *r, void *buf, size_t len, struct err *err)
{
	for (char *p = buf; len > 0;) {
		if (r->at == r->len) {
			int x = fill(r, err);
			if (x < 0)
				return x;
		}
		size_t n = MIN(len, r->len - r->at);
		memcpy(p, r->buf + r->at, n);
		p += n;
		r->at += n;
		len -= n;
	}
	return 0;
}

/* Have at least one byte in the buffer. */
static int some(struct reader *r, struct err *err)
{
	return r->at == r->len ? fill(r, err) : 0;
}

static int get_data(struct reader *r, struct unpack *u, uint64_t at, uint64_t len, struct err *err)
{
	while (len > 0) {
		int x = some(r, err);
		if (x < 0)
			return x;
		size_t n = (size_t)MIN(len, (uint64_t)(r->len - r->at));
		x = unpack_data(u, r->buf + r->at, n, at, err);
		if (x < 0)
			return x;
		r->at += n;
		at += n;
		len -= n;
	}
	return 0;
}

static int get_content(struct reader *r, struct unpack *u, uint64_t size, struct err *err)
{
	for (uint64_t at = 0; at < size;) {
		uint64_t chunk;
		int x = get(r, &chunk, sizeof(chunk), err);
		if (x < 0)
			return x;
		uint64_t len = chunk & ~CHUNK_HOLE;
		if (len == 0 || len > size - at)
			return garbled(err);
		if (!(chunk & CHUNK_HOLE) && (x = get_data(r, u, at, len, err)) < 0)
			return x;
		at += len;
	}
	return unpack_file_end(u, err);
}

static int get_attr(struct reader *r, struct attrs *attrs, struct err *err)
{
	struct attr_head head;
	char name[ATTR_NAME_MAX + 1];
	int x = get(r, &head, sizeof(head), err);
	if (x < 0)
		return x;
	if (head.name_len > ATTR_NAME_MAX || head.value_len > ATTR_VALUE_MAX)
		return garbled(err);
	_cleanup_free_ char *value = malloc(head.value_len + 1);
	if (!value)
		return err_set(err, ENOMEM, "import");
	x = get(r, name, head.name_len, err);
	if (x == 0)
		x = get(r, value, head.value_len, err);
	if (x < 0)
		return x;
	name[head.name_len] = '\0';
	x = attrs_add(attrs, name, value, head.value_len);
	return x == -ENOMEM ? err_set(err, ENOMEM, "import") : x < 0 ? garbled(err)
								     : 0;
}

/* What follows the head of an entry. */
static int get_body(struct reader *r, const struct stream_head *head, struct unpack *u, struct err *err)
{
	_cleanup_(attrs_clear) struct attrs attrs = {.count = 0};
	char path[TREE_PATH_MAX + 1], target[TREE_PATH_MAX + 1];
	int x = get(r, path, head->path_len, err);
	if (x == 0)
		x = get(r, target, head->target_len, err);
	for (uint32_t i = 0; i < head->nattrs && x == 0; i++)
		x = get_attr(r, &attrs, err);
	if (x < 0)
		return x;
	path[head->path_len] = target[head->target_len] = '\0';
	const struct unpack_entry entry = {
		.type = (enum unpack_type)(head->type - STREAM_ENTRY_BASE),
		.path = path,
		.target = target,
		.mode = head->mode,
		.uid = head->uid,
		.gid = head->gid,
		.mtime = head->mtime,
		.size = head->size,
		.attrs = &attrs,
	};
	x = unpack_entry(u, &entry, err);
	if (x == 0 && entry.type == UNPACK_FILE)
		x = get_content(r, u, (uint64_t)entry.size, err);
	return x;
}

/* Return: 1 after the last entry. */
static int get_entry(struct reader *r, struct unpack *u, struct err *err)
{
	struct stream_head head;
	int x = get(r, &head, sizeof(head), err);
	if (x < 0)
		return x;
	if (head.type == STREAM_END)
		return 1;
	if (head.type == STREAM_SKIP)
		return unpack_skip(u, err);
	if (head.type < STREAM_ENTRY_BASE || head.type >= STREAM_ENTRY_BASE + UNPACK_TYPE_MAX ||
		head.path_len > TREE_PATH_MAX || head.target_len > TREE_PATH_MAX || head.nattrs > ATTRS_MAX)
		return garbled(err);
	return get_body(r, &head, u, err);
}

int stream_unpack(int fd, struct unpack *u, struct err *err)
{
	_cleanup_free_ struct reader *r = malloc(sizeof(*r));
	if (!r)
		return err_set(err, ENOMEM, "import");
	r->fd = fd;
	r->at = r->len = 0;
	for (;;) {
		int x = get_entry(r, u, err);
		if (x != 0)
			return x < 0 ? x : 0;
	}
}
