/*
 * Where the parts of an image are found: in a directory, each opened beneath it through no link, or in an archive, at the offsets that a
 * helper has found. Runs as root, which only opens, reads and hashes. Whoever brought them may change them meanwhile: sizes
 * are looked at through the fd that is read, and what was read is what the digest is computed over.
 */
#include "layers/oci_bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "layers/hash.h"
#include "layers/tree.h"

#define TOP_NAMES_MAX 100000u

static int look_at_directory(int fd, enum oci_kind *ret, struct err *err)
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	struct oci_marks marks = {.others = 0};
	int r = tree_list(fd, TOP_NAMES_MAX, &names);
	*ret = OCI_KIND_TREE;
	if (r == -EFBIG)
		return 0;
	if (r < 0)
		return err_set(err, r, "list the directory");
	for (size_t i = 0; i < names.count; i++) {
		struct stat st;
		if (fstatat(fd, names.names[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		(void)oci_marks_note(&marks, names.names[i], S_ISREG(st.st_mode));
		/* An unpacked docker-save has a directory for each layer, or blobs/. */
		marks.parts |= S_ISDIR(st.st_mode) && (strcmp(names.names[i], "blobs") == 0 || strspn(names.names[i], "0123456789abcdef") == 64);
	}
	*ret = oci_marks_kind(&marks);
	return 0;
}

static int look_at_archive(struct oci_bundle *b, const struct image_import *request, struct err *err)
{
	int r = oci_helper_archive(b->helper, b->fd, &b->archive, err);
	if (r < 0)
		return r;
	b->kind = (enum oci_kind)b->archive->kind;
	if (b->kind == OCI_KIND_TREE || b->archive->packing == OCI_PACKING_NONE)
		return 0;
	const struct image_progress progress = {.state = IMAGE_ARCHIVE_UNPACKING};
	if (request && request->progress)
		request->progress(request->ctx, &progress);
	/* Parts are read where they lie, so they must lie somewhere. */
	b->own = oci_helper_decompress(b->helper, b->fd, err);
	if (b->own < 0)
		return b->own;
	b->fd = b->own;
	oci_archive_free(b->archive);
	b->archive = NULL;
	r = oci_helper_archive(b->helper, b->fd, &b->archive, err);
	if (r < 0)
		return r;
	if (b->archive->packing != OCI_PACKING_NONE || b->archive->kind == OCI_KIND_TREE)
		return err_say(err, EINVAL, "the archive is compressed twice, or changed while it was read");
	b->kind = (enum oci_kind)b->archive->kind;
	return 0;
}

int oci_bundle_open(struct oci_helper *helper, int fd, const struct image_import *request, struct oci_bundle *ret, struct err *err)
{
	struct oci_bundle bundle = {.helper = helper, .fd = fd, .own = -1};
	struct stat st;
	int r = fstat(fd, &st) < 0 ? err_set(err, errno, "stat the source") : 0;
	if (r == 0)
		r = S_ISDIR(st.st_mode) ? look_at_directory(fd, &bundle.kind, err) : look_at_archive(&bundle, request, err);
	if (r < 0)
		oci_bundle_clear(&bundle);
	else
		*ret = bundle;
	return r;
}

void oci_bundle_clear(struct oci_bundle *bundle)
{
	oci_archive_free(bundle->archive);
	cleanup_close(&bundle->own);
	*bundle = OCI_BUNDLE_INIT;
}

void oci_part_clear(struct oci_part *part)
{
	cleanup_close(&part->own);
	*part = OCI_PART_INIT;
}

static int find_in_directory(const struct oci_bundle *b, const char *name, struct oci_part *ret, struct err *err)
{
	struct stat st;
	/* O_NONBLOCK: a FIFO must not hang us before it is refused. */
	_cleanup_close_ int fd = tree_open_beneath(b->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd == -ENOENT)
		return err_say(err, ENOENT, "'%.200s' is missing", name);
	if (fd < 0)
		return err_set(err, fd, "open '%.200s'", name);
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat '%.200s'", name);
	if (!S_ISREG(st.st_mode))
		return err_say(err, EINVAL, "'%.200s' is no regular file", name);
	*ret = (struct oci_part){.fd = fd, .size = (uint64_t)st.st_size};
	ret->own = TAKE_FD(fd);
	return 0;
}

int oci_bundle_find(const struct oci_bundle *b, const char *name, struct oci_part *ret, struct err *err)
{
	if (!b->archive)
		return find_in_directory(b, name, ret, err);
	/* Of equal names the last counts, as when unpacking. */
	for (size_t i = b->archive->count; i-- > 0;) {
		const struct oci_file *f = &b->archive->files[i];
		if (strcmp(f->name, name) != 0)
			continue;
		*ret = (struct oci_part){.fd = b->fd, .own = -1, .offset = f->offset, .size = f->size};
		return 0;
	}
	return err_say(err, ENOENT, "'%.200s' is missing", name);
}

static int read_part(const struct oci_part *part, char *buf)
{
	for (uint64_t done = 0; done < part->size;) {
		ssize_t n = pread(part->fd, buf + done, part->size - done, (off_t)(part->offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA; /* cut off meanwhile */
		done += (uint64_t)n;
	}
	return 0;
}

static int sha256(const char *data, size_t len, uint8_t ret[32], struct err *err)
{
	_cleanup_(hash_cleanup) struct hash *hash = NULL;
	uint8_t id[16];
	int r = hash_new(&hash, err);
	if (r < 0)
		return r;
	hash_update(hash, data, len);
	return hash_final(hash, id, ret, err);
}

int oci_bundle_read(const struct oci_bundle *b, const char *name, size_t max, const struct oci_descriptor *expect, char **ret, size_t *ret_len,
	uint8_t ret_sha256[32], struct err *err)
{
	_cleanup_(oci_part_clear) struct oci_part part = OCI_PART_INIT;
	int r = oci_bundle_find(b, name, &part, err);
	if (r < 0)
		return r;
	if (expect && part.size != expect->size)
		return err_say(err, EBADMSG, "'%.200s' has %" PRIu64 " bytes, and should have %" PRIu64, name, part.size, expect->size);
	if (part.size > max)
		return err_say(err, EFBIG, "'%.200s' has %" PRIu64 " bytes; the most is %zu", name, part.size, max);
	_cleanup_free_ char *text = malloc((size_t)part.size + 1);
	r = text ? read_part(&part, text) : -ENOMEM;
	if (r < 0)
		return err_set(err, r, "read '%.200s'", name);
	text[part.size] = '\0';
	r = sha256(text, (size_t)part.size, ret_sha256, err);
	if (r < 0)
		return r;
	if (expect && memcmp(ret_sha256, expect->sha256, 32) != 0)
		return err_say(err, EBADMSG, "'%.200s' is damaged: its SHA-256 is another one", name);
	*ret = TAKE_PTR(text);
	*ret_len = (size_t)part.size;
	return 0;
}
