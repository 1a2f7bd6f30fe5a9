/* The files of an image as somebody brought them: a directory or an archive. Not for other folders. */
#pragma once

#include "layers/oci_helper.h"

struct oci_bundle {
	struct oci_helper *helper;
	enum oci_kind kind;
	int fd;			     /* the directory or the archive; borrowed, or the bundle's own copy */
	int own;		     /* the decompressed archive, or -1 */
	struct oci_archive *archive; /* NULL: a directory */
};

#define OCI_BUNDLE_INIT ((struct oci_bundle){.fd = -1, .own = -1})

/*
 * oci_bundle_open - look at what fd (a directory or a regular file, read-only, borrowed) holds.
 * @request: whom to tell of the progress, or NULL.
 * OCI_KIND_TREE is not an error: it is no image, but files for one layer.
 */
int oci_bundle_open(struct oci_helper *helper, int fd, const struct image_import *request, struct oci_bundle *ret, struct err *err);
void oci_bundle_clear(struct oci_bundle *bundle);

/* A file of the bundle: a range of fd. */
struct oci_part {
	int fd;	 /* borrowed from the bundle, or own */
	int own; /* to be closed, or -1 */
	uint64_t offset, size;
};
#define OCI_PART_INIT ((struct oci_part){.fd = -1, .own = -1})

/* oci_bundle_find - by name. Through no link, regular files only. Return: 0, -ENOENT, or -errno. */
int oci_bundle_find(const struct oci_bundle *bundle, const char *name, struct oci_part *ret, struct err *err);
void oci_part_clear(struct oci_part *part);

/*
 * oci_bundle_read - the whole of a small file, NUL-terminated, and its SHA-256. @ret: the caller frees it.
 * @expect: what it must be, or NULL. -EBADMSG for another digest or size, -EFBIG for more than max bytes.
 */
int oci_bundle_read(const struct oci_bundle *bundle, const char *name, size_t max, const struct oci_descriptor *expect, char **ret, size_t *ret_len,
	uint8_t ret_sha256[32], struct err *err);
