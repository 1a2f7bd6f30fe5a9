/*
 * Tars through libarchive: plain, gzip, zstd or xz. Runs in the parser; the bytes are a stranger's. Two readers in a row:
 * the outer one undoes the compression (format "raw"), the inner one takes the tar apart; between them all uncompressed
 * bytes pass by, to be hashed where an OCI image tells what the hash must be.
 *
 * The C locale matters: in a UTF-8 one libarchive would normalise names (an e with an accent as two characters would
 * become one), in "C" it hands the bytes through, at the price of a warning for each name that is not ASCII.
 * Dropped: extended attributes but user.*, ACLs, devices, FIFOs and sockets.
 */
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/cleanup.h"
#include "layers/hash.h"
#include "layers/import.h"
#include "layers/tree.h"

#define READ_BLOCK (256u << 10)
#define REST_MAX (1ull << 30) /* bytes after the archive's end, which nobody needs */
#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh." /* how aufs named what was its own; of these only the mark of opaque directories means something */
#define WHITEOUT_OPAQUE ".wh..wh..opq"

struct parser {
	const struct import_sink *sink;
	bool oci;
	uint64_t max_bytes;
	uint64_t passed; /* bytes of entries of which nothing is kept */
	int fd;
	struct archive *outer, *inner;
	struct digest *digest; /* of the uncompressed bytes; or NULL */
	char *buf;
};

static void reader_cleanup(struct archive **a)
{
	if (*a)
		(void)archive_read_free(*a);
}

/* Bytes of names, as libarchive found them. */
static const char *entry_name(struct archive_entry *e)
{
	const char *name = archive_entry_pathname(e);
	return name ? name : "";
}

static int bad_archive(struct archive *a, const char *where, struct err *err)
{
	const char *why = archive_error_string(a);
	int code = archive_errno(a);
	if (code <= 0 || code == EILSEQ) /* how libarchive says "bad format" */
		code = EINVAL;
	return err_say(err, code, "the archive is damaged%s%.200s%s: %.200s", *where ? " at '" : "",
		where, *where ? "'" : "", why ? why : "no reason given");
}

/* ---- the two readers ---- */

/* Raw bytes for the outer one. */
static la_ssize_t read_raw(struct archive *a, void *ctx, const void **ret)
{
	struct parser *p = ctx;
	ssize_t n;
	do
		n = read(p->fd, p->buf, READ_BLOCK);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		archive_set_error(a, errno, "read: %s", strerror(errno));
	*ret = p->buf;
	return n;
}

/* Uncompressed bytes for the inner one. */
static la_ssize_t read_plain(struct archive *a, void *ctx, const void **ret)
{
	struct parser *p = ctx;
	size_t len = 0;
	la_int64_t offset;
	int r = archive_read_data_block(p->outer, ret, &len, &offset);
	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK) {
		const char *why = archive_error_string(p->outer);
		archive_set_error(a, EINVAL, "%s", why ? why : "the compressed data cannot be read");
		return ARCHIVE_FATAL;
	}
	if (p->digest)
		digest_update(p->digest, *ret, len);
	return (la_ssize_t)len;
}

static int open_readers(struct parser *p, struct err *err)
{
	struct archive_entry *e;
	p->outer = archive_read_new();
	p->inner = archive_read_new();
	p->buf = malloc(READ_BLOCK);
	if (!p->outer || !p->inner || !p->buf)
		return err_set(err, ENOMEM, "read the archive");
	/* Named one by one: the "all" of libarchive includes filters that run programs. */
	if (archive_read_support_filter_gzip(p->outer) != ARCHIVE_OK ||
		archive_read_support_filter_zstd(p->outer) != ARCHIVE_OK ||
		archive_read_support_filter_xz(p->outer) != ARCHIVE_OK ||
		archive_read_support_format_raw(p->outer) != ARCHIVE_OK ||
		archive_read_support_format_tar(p->inner) != ARCHIVE_OK)
		return err_say(err, ENOSYS, "this libarchive was built without gzip, zstd, xz or tar");
	if (archive_read_open(p->outer, p, NULL, read_raw, NULL) != ARCHIVE_OK)
		return bad_archive(p->outer, "", err);
	if (archive_read_next_header(p->outer, &e) != ARCHIVE_OK)
		return bad_archive(p->outer, "", err);
	if (archive_read_open(p->inner, p, NULL, read_plain, NULL) != ARCHIVE_OK)
		return bad_archive(p->inner, "", err);
	return 0;
}

/* To the last byte: it is part of what was hashed, and the feeder waits for it to be read. */
static int read_rest(struct parser *p, struct err *err)
{
	uint64_t rest = 0;
	for (;;) {
		const void *data;
		la_ssize_t n = read_plain(p->outer, p, &data);
		if (n == 0)
			return 0;
		if (n < 0)
			return bad_archive(p->outer, "", err);
		rest += (uint64_t)n;
		if (rest > REST_MAX)
			return err_say(err, EFBIG, "the archive is damaged: more than %llu bytes follow its end", REST_MAX);
	}
}

/* ---- entries ---- */

static int copy_content(struct parser *p, struct archive_entry *e, struct err *err)
{
	for (;;) {
		const void *data;
		size_t len;
		la_int64_t offset;
		int r = archive_read_data_block(p->inner, &data, &len, &offset);
		if (r == ARCHIVE_EOF)
			return p->sink->file_end(p->sink->to, err);
		if (r != ARCHIVE_OK)
			return bad_archive(p->inner, entry_name(e), err);
		if (offset < 0)
			return err_say(err, EINVAL, "entry '%.200s': a negative offset", entry_name(e));
		r = p->sink->data(p->sink->to, data, len, (uint64_t)offset, err);
		if (r < 0)
			return err_wrap(err, "entry '%.200s'", entry_name(e));
	}
}

static int read_attrs(struct archive_entry *e, struct attrs *attrs, struct err *err)
{
	const char *name;
	const void *value;
	size_t len;
	(void)archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK) {
		if (!name || !attr_kept(name))
			continue;
		int r = attrs_add(attrs, name, value, len);
		if (r == -E2BIG)
			return err_say(err, E2BIG,
				"entry '%.200s': more than %u extended attributes or %u bytes of them", entry_name(e),
				ATTRS_MAX, ATTRS_BYTES_MAX);
		if (r < 0)
			return err_set(err, r, "entry '%.200s': its extended attributes", entry_name(e));
	}
	return 0;
}

static int send_entry(struct parser *p, const struct unpack_entry *entry, struct err *err)
{
	return p->sink->entry(p->sink->to, entry, err);
}

/* Content that nobody keeps is read all the same, to get past it. */
static int charge(struct parser *p, struct archive_entry *e, struct err *err)
{
	la_int64_t size = archive_entry_size_is_set(e) ? archive_entry_size(e) : 0;
	if (size > 0 && (__builtin_add_overflow(p->passed, (uint64_t)size, &p->passed) || p->passed > p->max_bytes))
		return err_say(err, EFBIG, "entry '%.200s': it takes more than the %" PRIu64 " bytes allowed or free", entry_name(e),
			p->max_bytes);
	return 0;
}

/*
 * An entry whose last name begins with .wh.: it hides what the layers below have. Its content would mean nothing.
 * @path: clean; changed. @name: the last name in it.
 */
static int whiteout(struct parser *p, struct archive_entry *e, char *path, char *name, struct err *err)
{
	struct unpack_entry entry = {.path = path, .type = UNPACK_WHITEOUT};
	bool meta = strncmp(name, WHITEOUT_META, strlen(WHITEOUT_META)) == 0, opaque = strcmp(name, WHITEOUT_OPAQUE) == 0;
	if (archive_entry_filetype(e) == AE_IFDIR && !archive_entry_hardlink(e))
		return err_say(err, EINVAL, "entry '%.200s': a directory cannot be a whiteout", entry_name(e));
	if ((!meta || opaque) && archive_entry_size_is_set(e) && archive_entry_size(e) > 0)
		return err_say(err, EINVAL, "entry '%.200s': a whiteout with content", entry_name(e));
	if (opaque) {
		entry.type = UNPACK_OPAQUE;
		*name = '\0';
		return send_entry(p, &entry, err);
	}
	if (meta)
		return p->sink->skip(p->sink->to, err);
	const char *hidden = name + strlen(WHITEOUT);
	if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
		return err_say(err, EINVAL, "entry '%.200s': a whiteout of nothing", entry_name(e));
	memmove(name, hidden, strlen(hidden) + 1);
	return send_entry(p, &entry, err);
}

/* Return: 1 when the entry was a whiteout, 0 when it is an ordinary one, or -errno. */
static int try_whiteout(struct parser *p, struct archive_entry *e, struct err *err)
{
	char path[TREE_PATH_MAX + 1];
	if (!p->oci || !strstr(entry_name(e), WHITEOUT))
		return 0;
	int r = tree_clean_path(entry_name(e), path, err);
	if (r < 0)
		return r;
	for (char *name = path;;) {
		char *slash = strchr(name, '/');
		if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0) {
			if (slash && strncmp(name, WHITEOUT_META, strlen(WHITEOUT_META)) != 0)
				return err_say(err, EINVAL, "entry '%.200s': it lies in a whiteout", entry_name(e));
			if (slash) /* what aufs kept for itself */
				r = p->sink->skip(p->sink->to, err);
			else
				r = whiteout(p, e, path, name, err);
			return r < 0 ? r : 1;
		}
		if (!slash)
			return 0;
		name = slash + 1;
	}
}

static int one_entry(struct parser *p, struct archive_entry *e, struct err *err)
{
	_cleanup_(attrs_clear) struct attrs attrs = {.count = 0};
	struct unpack_entry entry = {
		.path = archive_entry_pathname(e),
		.mode = archive_entry_perm(e) & 07777,
		.uid = archive_entry_uid(e),
		.gid = archive_entry_gid(e),
		.mtime = archive_entry_mtime_is_set(e) ? archive_entry_mtime(e) : 0,
		.size = archive_entry_size(e),
		.attrs = &attrs,
	};
	if (!entry.path || !*entry.path)
		return err_say(err, EINVAL, "the archive has an entry without a name");
	bool kept = archive_entry_filetype(e) == AE_IFREG && !archive_entry_hardlink(e);
	int r = try_whiteout(p, e, err);
	if (r > 0 || (r == 0 && !kept)) {
		int charged = charge(p, e, err);
		r = charged < 0 ? charged : r;
	}
	if (r != 0)
		return r < 0 ? r : 0;
	if (archive_entry_hardlink(e)) {
		entry.type = UNPACK_HARDLINK;
		entry.target = archive_entry_hardlink(e);
		entry.size = 0;
		return send_entry(p, &entry, err);
	}
	switch (archive_entry_filetype(e)) {
	case AE_IFDIR:
		entry.type = UNPACK_DIR;
		r = read_attrs(e, &attrs, err);
		return r < 0 ? r : send_entry(p, &entry, err);
	case AE_IFLNK:
		entry.type = UNPACK_SYMLINK;
		entry.target = archive_entry_symlink(e);
		return send_entry(p, &entry, err);
	case AE_IFREG:
		entry.type = UNPACK_FILE;
		/* The writer sums up; but what is too large by itself need not be read until it ends. */
		if (entry.size > 0 && (uint64_t)entry.size > p->max_bytes)
			return err_say(err, EFBIG, "entry '%.200s': it takes more than the %" PRIu64 " bytes allowed or free",
				entry.path, p->max_bytes);
		r = read_attrs(e, &attrs, err);
		if (r == 0)
			r = send_entry(p, &entry, err);
		return r < 0 ? r : copy_content(p, e, err);
	default:
		return p->sink->skip(p->sink->to, err);
	}
}

/*
 * A header with a warning: a name that is not ASCII (in the C locale) is as good as any; anything else, such as a pax
 * record that libarchive leaves out because it is malformed, would make the tree another one than was meant.
 */
static bool harmless_warning(struct archive *a)
{
	const char *why = archive_error_string(a);
	return why && strstr(why, "can't be converted");
}

static int parse(struct parser *p, struct err *err)
{
	int r = open_readers(p, err);
	while (r == 0) {
		struct archive_entry *e;
		int a = archive_read_next_header(p->inner, &e);
		if (a == ARCHIVE_EOF)
			return read_rest(p, err);
		if (a != ARCHIVE_OK && !(a == ARCHIVE_WARN && harmless_warning(p->inner)))
			return bad_archive(p->inner, "", err);
		r = one_entry(p, e, err);
	}
	return r;
}

int import_tar_parse(int fd, bool oci, uint64_t max_bytes, const struct import_sink *sink, uint8_t ret_diff_id[32],
	struct err *err)
{
	struct parser p = {.sink = sink, .oci = oci, .max_bytes = max_bytes, .fd = fd};
	(void)setlocale(LC_ALL, "C");
	int r = ret_diff_id ? digest_new(&p.digest, err) : 0;
	if (r == 0)
		r = parse(&p, err);
	if (r == 0 && ret_diff_id)
		r = digest_final(p.digest, ret_diff_id, err);
	reader_cleanup(&p.inner);
	reader_cleanup(&p.outer);
	digest_free(p.digest);
	free(p.buf);
	return r;
}

/* ---- sinks ---- */

static int stream_sink_entry(void *to, const struct unpack_entry *entry, struct err *err)
{
	return stream_entry(to, entry, err);
}

static int stream_sink_data(void *to, const void *data, size_t len, uint64_t offset, struct err *err)
{
	return stream_data_at(to, data, len, offset, err);
}

static int stream_sink_end(void *to, struct err *err)
{
	return stream_file_end(to, err);
}

static int stream_sink_skip(void *to, struct err *err)
{
	return stream_skip(to, err);
}

struct import_sink import_sink_stream(struct stream *stream)
{
	return (struct import_sink){stream_sink_entry, stream_sink_data, stream_sink_end, stream_sink_skip, stream};
}

static int unpack_sink_entry(void *to, const struct unpack_entry *entry, struct err *err)
{
	return unpack_entry(to, entry, err);
}

static int unpack_sink_data(void *to, const void *data, size_t len, uint64_t offset, struct err *err)
{
	return unpack_data(to, data, len, offset, err);
}

static int unpack_sink_end(void *to, struct err *err)
{
	return unpack_file_end(to, err);
}

static int unpack_sink_skip(void *to, struct err *err)
{
	return unpack_skip(to, err);
}

struct import_sink import_sink_unpack(struct unpack *u)
{
	return (struct import_sink){unpack_sink_entry, unpack_sink_data, unpack_sink_end, unpack_sink_skip, u};
}
