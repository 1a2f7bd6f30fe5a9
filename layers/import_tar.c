/*
 * Tars through libarchive: plain, gzip, zstd or xz. Runs in the helper; the bytes are a stranger's.
 *
 * The C locale matters: in a UTF-8 one libarchive would normalise names (an e with an accent as two characters would
 * become one), in "C" it hands the bytes through, at the price of a warning for each name that is not ASCII.
 * Dropped: extended attributes and ACLs of every kind (no layer needs security.capability or an overlay's), devices,
 * FIFOs and sockets. Whiteouts are ordinary files here; they mean something only in OCI layers.
 */
#include <errno.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/cleanup.h"
#include "layers/import.h"

#define READ_BLOCK (128u << 10)

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

static int copy_content(struct archive *a, struct archive_entry *e, struct unpack *u, struct err *err)
{
	for (;;) {
		const void *data;
		size_t len;
		la_int64_t offset;
		int r = archive_read_data_block(a, &data, &len, &offset);
		if (r == ARCHIVE_EOF)
			return unpack_file_end(u, err);
		if (r != ARCHIVE_OK)
			return bad_archive(a, entry_name(e), err);
		if (offset < 0)
			return err_say(err, EINVAL, "entry '%.200s': a negative offset", entry_name(e));
		int w = unpack_data(u, data, len, (uint64_t)offset, err);
		if (w < 0)
			return w;
	}
}

static int one_entry(struct archive *a, struct archive_entry *e, struct unpack *u, struct err *err)
{
	struct unpack_entry entry = {
		.path = archive_entry_pathname(e),
		.mode = archive_entry_perm(e) & 07777,
		.uid = archive_entry_uid(e),
		.gid = archive_entry_gid(e),
		.mtime = archive_entry_mtime_is_set(e) ? archive_entry_mtime(e) : 0,
		.size = archive_entry_size(e),
	};
	if (!entry.path || !*entry.path)
		return err_say(err, EINVAL, "the archive has an entry without a name");
	if (archive_entry_hardlink(e)) {
		entry.type = UNPACK_HARDLINK;
		entry.target = archive_entry_hardlink(e);
		return unpack_entry(u, &entry, err);
	}
	switch (archive_entry_filetype(e)) {
	case AE_IFDIR:
		entry.type = UNPACK_DIR;
		return unpack_entry(u, &entry, err);
	case AE_IFLNK:
		entry.type = UNPACK_SYMLINK;
		entry.target = archive_entry_symlink(e);
		return unpack_entry(u, &entry, err);
	case AE_IFREG: {
		entry.type = UNPACK_FILE;
		int r = unpack_entry(u, &entry, err);
		return r < 0 ? r : copy_content(a, e, u, err);
	}
	default:
		return unpack_skip(u, err);
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

int import_tar_unpack(int fd, struct unpack *u, struct err *err)
{
	_cleanup_(reader_cleanup) struct archive *a = archive_read_new();
	if (!a)
		return err_set(err, ENOMEM, "read the archive");
	(void)setlocale(LC_ALL, "C");
	/* Named one by one: the "all" of libarchive includes filters that run programs. */
	if (archive_read_support_filter_gzip(a) != ARCHIVE_OK || archive_read_support_filter_zstd(a) != ARCHIVE_OK ||
		archive_read_support_filter_xz(a) != ARCHIVE_OK || archive_read_support_format_tar(a) != ARCHIVE_OK)
		return err_say(err, ENOSYS, "this libarchive was built without gzip, zstd, xz or tar");
	if (archive_read_open_fd(a, fd, READ_BLOCK) != ARCHIVE_OK)
		return bad_archive(a, "", err);
	for (;;) {
		struct archive_entry *e;
		int r = archive_read_next_header(a, &e);
		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && harmless_warning(a)))
			return bad_archive(a, "", err);
		r = one_entry(a, e, u, err);
		if (r < 0)
			return r;
	}
}
