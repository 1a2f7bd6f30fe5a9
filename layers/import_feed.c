/*
 * The raw bytes of an archive on their way to the parser. Runs in the caller, as root: it reads, hashes and hands on,
 * and looks at no byte. What it hashes is what the parser gets, whatever happens to the file meanwhile.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "layers/hash.h"
#include "layers/import.h"

#define FEED_BUFFER (256u << 10)
#define FEED_PROGRESS (1u << 20) /* bytes between two calls of progress() */

struct feed {
	const struct import_raw *raw;
	struct digest *digest;
	char *buf;
	uint64_t done, told;
};

int import_raw_open(const struct layer_source *source, struct import_raw *ret, struct err *err)
{
	struct stat st;
	if (fstat(source->fd, &st) < 0)
		return err_set(err, errno, "stat the archive");
	*ret = (struct import_raw){.source = source, .regular = S_ISREG(st.st_mode)};
	if (!ret->regular)
		return source->offset == 0 && source->size == 0 ? 0 : err_say(err, EINVAL, "only a regular file has parts");
	uint64_t whole = (uint64_t)st.st_size;
	if (source->offset > whole || source->size > whole - source->offset)
		return err_say(err, EINVAL, "the archive is damaged: it has %" PRIu64 " bytes, not %" PRIu64 " from byte %" PRIu64 " on",
			whole, source->size, source->offset);
	ret->size = source->size > 0 ? source->size : whole - source->offset;
	return 0;
}

/* Return: bytes in buf, 0 at the end, or -errno. */
static ssize_t next_bytes(struct feed *f, struct err *err)
{
	const struct import_raw *raw = f->raw;
	size_t want = FEED_BUFFER;
	ssize_t n;
	if (raw->regular)
		want = (size_t)MIN(raw->size - f->done, (uint64_t)FEED_BUFFER);
	if (want == 0)
		return 0;
	do
		n = raw->regular ? pread(raw->source->fd, f->buf, want, (off_t)(raw->source->offset + f->done))
				 : read(raw->source->fd, f->buf, want);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_set(err, errno, "read the archive");
	if (n == 0 && raw->regular)
		return err_say(err, EIO, "the archive became shorter while it was read");
	return n;
}

static void tell(struct feed *f, bool end)
{
	const struct layer_source *source = f->raw->source;
	if (!source->progress || (!end && f->done - f->told < FEED_PROGRESS))
		return;
	f->told = f->done;
	source->progress(source->ctx, f->done, f->raw->size);
}

static int feed(struct feed *f, int sock, struct err *err)
{
	for (;;) {
		ssize_t n = next_bytes(f, err);
		if (n <= 0) {
			tell(f, n == 0);
			return (int)n;
		}
		digest_update(f->digest, f->buf, (size_t)n);
		int r = sock >= 0 ? stream_send(sock, f->buf, (size_t)n, err) : 0;
		if (r < 0)
			return r;
		f->done += (uint64_t)n;
		tell(f, false);
	}
}

int import_raw_read(const struct import_raw *raw, int sock, uint8_t ret_sha256[32], uint64_t *ret_bytes, struct err *err)
{
	struct feed f = {.raw = raw, .buf = malloc(FEED_BUFFER)};
	int r = f.buf ? digest_new(&f.digest, err) : err_set(err, ENOMEM, "read the archive");
	if (r == 0)
		r = feed(&f, sock, err);
	if (r == 0)
		r = digest_final(f.digest, ret_sha256, err);
	*ret_bytes = f.done;
	digest_free(f.digest);
	free(f.buf);
	return r;
}
