/* Images as files, for image.c and host.c. Not for other folders. */
#pragma once

#include <jansson.h>

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

/* image_strings_json, image_strings_free - NULL-terminated lists; NULL is JSON's null. */
json_t *image_strings_json(char *const *strings);
void image_strings_free(char **strings);
/* image_runtime_json - for images/<name>.json. image_runtime_from_json - null or missing: none; err names the field. */
json_t *image_runtime_json(const struct image_runtime *runtime);
int image_runtime_from_json(const json_t *json, struct image_runtime *ret, struct err *err);
