/*
 * The internal stream. The writer runs as root in the caller, the reader in the helper. The writer is trusted, but
 * the reader checks all lengths nevertheless: it is the same few lines.
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

enum {
	STREAM_ENTRY_BASE = 1, /* + enum unpack_type */
	STREAM_SKIP = 100,
	STREAM_END = 101,
};

struct stream_head {
	uint32_t type;
	uint32_t mode;
	int64_t uid, gid, mtime, size;
	uint32_t path_len, target_len;
};

struct stream {
	int sock;
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
	*ret = s;
	return 0;
}

void stream_free(struct stream *s)
{
	free(s);
}

static int send_all(int sock, const char *p, size_t len, struct err *err)
{
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
	return send_all(s->sock, s->buf, len, err);
}

int stream_data(struct stream *s, const void *data, size_t len, struct err *err)
{
	bool large = len > STREAM_BUFFER / 2; /* sent as it is, after what waits */
	if (large || len > STREAM_BUFFER - s->len) {
		int r = flush(s, err);
		if (r < 0)
			return r;
	}
	if (large)
		return send_all(s->sock, data, len, err);
	memcpy(s->buf + s->len, data, len);
	s->len += len;
	return 0;
}

static int put(struct stream *s, const struct stream_head *head, const char *path, const char *target, struct err *err)
{
	int r = stream_data(s, head, sizeof(*head), err);
	if (r == 0)
		r = stream_data(s, path, head->path_len, err);
	if (r == 0)
		r = stream_data(s, target, head->target_len, err);
	return r;
}

int stream_entry(struct stream *s, const struct unpack_entry *e, struct err *err)
{
	const char *target = e->target ? e->target : "";
	if (strlen(e->path) > TREE_PATH_MAX || strlen(target) > TREE_PATH_MAX)
		return err_say(err, ENAMETOOLONG, "entry '%.200s…': its path is too long", e->path);
	struct stream_head head = {
		.type = STREAM_ENTRY_BASE + e->type,
		.mode = e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.mtime = e->mtime,
		.size = e->size,
		.path_len = (uint32_t)strlen(e->path),
		.target_len = (uint32_t)strlen(target),
	};
	return put(s, &head, e->path, target, err);
}

int stream_skip(struct stream *s, struct err *err)
{
	struct stream_head head = {.type = STREAM_SKIP};
	return put(s, &head, "", "", err);
}

int stream_end(struct stream *s, struct err *err)
{
	struct stream_head head = {.type = STREAM_END};
	int r = put(s, &head, "", "", err);
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

static int get_content(struct reader *r, struct unpack *u, uint64_t size, struct err *err)
{
	for (uint64_t done = 0; done < size;) {
		if (r->at == r->len) {
			int x = fill(r, err);
			if (x < 0)
				return x;
		}
		size_t n = (size_t)MIN(size - done, (uint64_t)(r->len - r->at));
		int x = unpack_data(u, r->buf + r->at, n, done, err);
		if (x < 0)
			return x;
		r->at += n;
		done += n;
	}
	return unpack_file_end(u, err);
}

/* Return: 1 after the last entry. */
static int get_entry(struct reader *r, struct unpack *u, struct err *err)
{
	struct stream_head head;
	char path[TREE_PATH_MAX + 1], target[TREE_PATH_MAX + 1];
	int x = get(r, &head, sizeof(head), err);
	if (x < 0)
		return x;
	if (head.type == STREAM_END)
		return 1;
	if (head.path_len > TREE_PATH_MAX || head.target_len > TREE_PATH_MAX)
		return garbled(err);
	x = get(r, path, head.path_len, err);
	if (x == 0)
		x = get(r, target, head.target_len, err);
	if (x < 0)
		return x;
	path[head.path_len] = target[head.target_len] = '\0';
	if (head.type == STREAM_SKIP)
		return unpack_skip(u, err);
	if (head.type < STREAM_ENTRY_BASE || head.type >= STREAM_ENTRY_BASE + UNPACK_TYPE_MAX)
		return garbled(err);
	struct unpack_entry entry = {
		.type = (enum unpack_type)(head.type - STREAM_ENTRY_BASE),
		.path = path,
		.target = target,
		.mode = head.mode,
		.uid = head.uid,
		.gid = head.gid,
		.mtime = head.mtime,
		.size = head.size,
	};
	x = unpack_entry(u, &entry, err);
	if (x == 0 && entry.type == UNPACK_FILE)
		x = get_content(r, u, (uint64_t)entry.size, err);
	return x;
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
