/*
 * images/<name>.json: reading and writing. Written by root's commands; read by the worker through its directory fd, and
 * strictly: a field that is unknown, missing or of another type makes the image unusable rather than half understood.
 */
#include "layers/image_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "layers/store_internal.h"
#include "layers/tree.h"

#define IMAGE_JSON_MAX (1u << 20)
#define IMAGE_STRINGS_MAX 4096

static void json_cleanup(json_t **json)
{
	json_decref(*json);
}

#define _cleanup_json_ _cleanup_(json_cleanup)

/* ---- writing ---- */

static json_t *layers_to_json(const struct image *image)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < image->nlayers; i++) {
		char text[ID128_TEXT_MAX];
		format_id128(image->layers[i], text);
		if (json_array_append_new(array, json_string(text)) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

int image_save(struct store *store, const struct image *image, const char *stamp, struct err *err)
{
	char file[IMAGE_FILE_MAX];
	int r = image_file_name(image->name, file, err);
	if (r < 0)
		return r;
	/* "o" takes over the reference, and makes json_pack() fail on a NULL. */
	_cleanup_json_ json_t *root = json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:s?, s:s?, s:s?, s:s?, s:s?, s:o}", "name", image->name,
		"host_usr", image->host_usr, "layers", layers_to_json(image), "env", image_strings_json(image->env),
		"entrypoint", image_strings_json(image->entrypoint), "cmd", image_strings_json(image->cmd), "cwd", image->cwd,
		"user", image->user, "digest", image->digest, "platform", image->platform, "stamp", stamp, "runtime", image_runtime_json(&image->runtime));
	_cleanup_free_ char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
	if (!text)
		return err_say(err, EINVAL, "the image %s cannot be written as JSON", image->name);
	if (strlen(text) > IMAGE_JSON_MAX)
		return err_say(err, EFBIG, "the description of the image %s is too large", image->name);
	return tree_replace_file(store->images, file, text, strlen(text), 0444, true, err);
}

/* ---- reading ---- */

/* null or an array of strings. Return: 0 or -errno. */
static int strings_from_json(const json_t *json, char ***ret)
{
	if (json_is_null(json))
		return 0;
	if (!json_is_array(json) || json_array_size(json) > IMAGE_STRINGS_MAX)
		return -EINVAL;
	size_t n = json_array_size(json);
	char **strings = calloc(n + 1, sizeof(*strings));
	int r = strings ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < n; i++) {
		const char *s = json_string_value(json_array_get(json, i));
		strings[i] = s ? strdup(s) : NULL;
		if (!strings[i])
			r = s ? -ENOMEM : -EINVAL;
	}
	if (r < 0)
		image_strings_free(strings);
	else
		*ret = strings;
	return r;
}

static int string_from_json(const json_t *json, char **ret)
{
	if (json_is_null(json))
		return 0;
	if (!json_is_string(json))
		return -EINVAL;
	*ret = strdup(json_string_value(json));
	return *ret ? 0 : -ENOMEM;
}

static int layers_from_json(const json_t *json, struct image *image)
{
	if (!json_is_array(json) || json_array_size(json) > IMAGE_LAYERS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < json_array_size(json); i++) {
		const char *s = json_string_value(json_array_get(json, i));
		if (!s || parse_id128(s, image->layers[i], NULL) < 0)
			return -EINVAL;
		image->nlayers++;
	}
	return 0;
}

static int image_from_json(json_t *root, const char *name, struct image *image, char stamp[IMAGE_STAMP_MAX])
{
	const char *said;
	int host_usr;
	json_t *layers, *env, *entrypoint, *cmd, *cwd, *user, *mark;
	json_t *runtime = NULL, *digest = NULL, *platform = NULL; /* older descriptions say nothing of these */
	if (json_unpack(root, "{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s?o, s?o, s?o !}", "name", &said, "host_usr", &host_usr,
		    "layers", &layers, "env", &env, "entrypoint", &entrypoint, "cmd", &cmd, "cwd", &cwd, "user", &user,
		    "stamp", &mark, "runtime", &runtime, "digest", &digest, "platform", &platform) < 0 ||
		strcmp(said, name) != 0)
		return -EINVAL;
	/* Only the built-in image shows the machine's /usr. */
	if (host_usr != (strcmp(name, IMAGE_HOST) == 0))
		return -EINVAL;
	const char *mark_text = json_string_value(mark);
	if (!json_is_null(mark) && (!mark_text || strlen(mark_text) >= IMAGE_STAMP_MAX))
		return -EINVAL;
	(void)snprintf(image->name, sizeof(image->name), "%s", name);
	(void)snprintf(stamp, IMAGE_STAMP_MAX, "%s", mark_text ? mark_text : "");
	image->host_usr = host_usr != 0;
	int r = layers_from_json(layers, image);
	if (r == 0)
		r = strings_from_json(env, &image->env);
	if (r == 0)
		r = strings_from_json(entrypoint, &image->entrypoint);
	if (r == 0)
		r = strings_from_json(cmd, &image->cmd);
	if (r == 0)
		r = string_from_json(cwd, &image->cwd);
	if (r == 0)
		r = string_from_json(user, &image->user);
	if (r == 0 && digest)
		r = string_from_json(digest, &image->digest);
	if (r == 0 && platform)
		r = string_from_json(platform, &image->platform);
	if (r == 0)
		r = image_runtime_from_json(runtime, &image->runtime, NULL);
	return r;
}

int image_load_stamp(struct store *store, const char *name, struct image *ret, char ret_stamp[IMAGE_STAMP_MAX],
	struct err *err)
{
	char file[IMAGE_FILE_MAX], stamp[IMAGE_STAMP_MAX];
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = image_file_name(name, file, err);
	if (r < 0)
		return r;
	r = fd_read_file(store->images, file, IMAGE_JSON_MAX, &text, &len, err);
	if (r == -ENOENT)
		return err_say(err, ENOENT, "there is no image %s", name);
	if (r < 0)
		return err_wrap(err, "the image %s", name);
	_cleanup_json_ json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	_cleanup_(image_clear) struct image image = {.nlayers = 0};
	r = root ? image_from_json(root, name, &image, stamp) : -EINVAL;
	if (r < 0)
		return err_say(err, r, "the description of the image %s is damaged; import it again", name);
	*ret = image;
	memcpy(ret_stamp, stamp, sizeof(stamp));
	image = (struct image){.nlayers = 0};
	return 0;
}

void image_clear(struct image *image)
{
	image_strings_free(image->env);
	image_strings_free(image->entrypoint);
	image_strings_free(image->cmd);
	free(image->cwd);
	free(image->user);
	free(image->digest);
	free(image->platform);
	image_runtime_clear(&image->runtime);
	*image = (struct image){.nlayers = 0};
}
