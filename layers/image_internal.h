/* Images as files, for image.c and host.c. Not for other folders. */
#pragma once

#include "layers/store.h"

#define IMAGE_HOST "host"
#define IMAGE_FILE_MAX 256
#define IMAGE_STAMP_MAX 512
#define IMAGE_DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* image_file_name - the file's name in images/ for a valid image name. Return: 0 or -EINVAL. */
int image_file_name(const char *name, char ret[IMAGE_FILE_MAX], struct err *err);

/* image_save - write images/<name>.json atomically and durably. @stamp: the host's, or NULL. */
int image_save(struct store *store, const struct image *image, const char *stamp, struct err *err);

/* image_load_stamp - image_load() that also gives the stamp ("" when there is none). */
int image_load_stamp(struct store *store, const char *name, struct image *ret, char ret_stamp[IMAGE_STAMP_MAX],
	struct err *err);
