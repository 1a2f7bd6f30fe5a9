/*
 * Compressed archives of images, by libarchive, in a helper: first a look at the names, which ends as soon as these cannot be an
 * image's, and if they are, the whole archive decompressed into a file, where oci_tar_index() finds the parts.
 */
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/cleanup.h"
#include "layers/oci.h"

#define READ_BLOCK (128u << 10)

static void reader_cleanup(struct archive **a)
{
	if (*a)
		(void)archive_read_free(*a);
}

static int fault(struct archive *a, struct err *err)
{
	const char *why = archive_error_string(a);
	return err_say(err, EINVAL, "the archive is damaged: %.200s", why ? why : "no reason given");
}

/* Named one by one: the "all" of libarchive includes filters that run programs. */
static int open_packed(struct archive *a, int fd, struct err *err)
{
	if (archive_read_support_filter_gzip(a) != ARCHIVE_OK || archive_read_support_filter_zstd(a) != ARCHIVE_OK ||
		archive_read_support_filter_xz(a) != ARCHIVE_OK ||
		archive_read_support_format_raw(a) != ARCHIVE_OK)
		return err_say(err, ENOSYS, "this libarchive was built without gzip, zstd, xz or tar");
	return archive_read_open_fd(a, fd, READ_BLOCK) == ARCHIVE_OK ? 0 : fault(a, err);
}

/* The tar within the compressed bytes; `read` of them so far. */
struct peek {
	struct archive *outer;
	struct oci_marks marks;
	uint64_t read, max;
	bool over;
};

static la_ssize_t read_plain(struct archive *a, void *ctx, const void **ret)
{
	struct peek *p = ctx;
	size_t len = 0;
	la_int64_t offset;
	int r = archive_read_data_block(p->outer, ret, &len, &offset);
	if (r == ARCHIVE_EOF)
		return 0;
	/* Some docker-saves name themselves only at their end, but begin with a layer: that much has to be seen early. */
	const struct oci_marks *m = &p->marks;
	uint64_t max = m->parts || m->layout || m->index || m->manifest ? p->max : MIN(p->max, (uint64_t)OCI_PEEK_MAX);
	p->read += len;
	p->over = p->read > max;
	if (r == ARCHIVE_OK && !p->over)
		return (la_ssize_t)len;
	const char *why = archive_error_string(p->outer);
	archive_set_error(a, EINVAL, "%s", why ? why : "the compressed data cannot be read");
	return ARCHIVE_FATAL;
}

static int look(struct peek *p, struct archive *a, struct oci_archive *ret, struct err *err)
{
	struct oci_marks *marks = &p->marks;
	struct archive_entry *e;
	for (;;) {
		int r = archive_read_next_header(a, &e);
		if (r == ARCHIVE_EOF)
			break;
		if (p->over && oci_marks_kind(marks) == OCI_KIND_TREE && !marks->parts && !marks->index)
			return 0;
		if (p->over)
			return err_say(err, EFBIG, "the archive takes more than %" PRIu64 " bytes when it is unpacked, which are not free or not allowed", p->max);
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return marks->layout ? fault(a, err) : 0;
		const char *name = archive_entry_pathname(e);
		while (name && name[0] == '.' && name[1] == '/')
			name += 2;
		bool regular = archive_entry_hardlink(e) || archive_entry_filetype(e) == AE_IFREG || archive_entry_filetype(e) == AE_IFLNK;
		if (name && oci_marks_note(marks, name, regular))
			return 0;
	}
	ret->kind = oci_marks_kind(marks);
	return 0;
}

int oci_tar_peek(int fd, uint64_t max, struct oci_archive *ret, struct err *err)
{
	_cleanup_(reader_cleanup) struct archive *outer = archive_read_new();
	_cleanup_(reader_cleanup) struct archive *a = archive_read_new();
	struct peek p = {.outer = outer, .max = max};
	struct archive_entry *e;
	ret->kind = OCI_KIND_TREE;
	if (!outer || !a)
		return err_set(err, ENOMEM, "read the archive");
	(void)setlocale(LC_ALL, "C"); /* names are bytes */
	/* Whatever is wrong with it, layer_import() will say so better: it knows the entry. */
	if (open_packed(outer, fd, NULL) < 0 || archive_read_next_header(outer, &e) != ARCHIVE_OK ||
		archive_read_support_format_tar(a) != ARCHIVE_OK || archive_read_open(a, &p, NULL, read_plain, NULL) != ARCHIVE_OK)
		return 0;
	return look(&p, a, ret, err);
}

static int write_at(int out, const char *data, size_t len, uint64_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(out, data, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

int oci_tar_decompress(int fd, int out, uint64_t max, struct err *err)
{
	_cleanup_(reader_cleanup) struct archive *a = archive_read_new();
	struct archive_entry *e;
	if (!a)
		return err_set(err, ENOMEM, "decompress the archive");
	int r = open_packed(a, fd, err);
	if (r < 0)
		return r;
	if (archive_read_next_header(a, &e) != ARCHIVE_OK)
		return fault(a, err);
	for (;;) {
		const void *data;
		size_t len;
		la_int64_t offset;
		r = archive_read_data_block(a, &data, &len, &offset);
		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return fault(a, err);
		if (offset < 0 || (uint64_t)offset > max || len > max - (uint64_t)offset)
			return err_say(err, EFBIG, "the archive takes more than %" PRIu64 " bytes when it is unpacked, which are not free or not allowed", max);
		r = write_at(out, data, len, (uint64_t)offset);
		if (r < 0)
			return err_set(err, r, "unpack the archive");
	}
}
