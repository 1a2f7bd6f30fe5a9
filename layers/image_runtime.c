/*
 * An image's runtime as images/<name>.json has it: the name of one that comes with petri, or an object of its own. Set by root's
 * `petri image runtime`; what the names mean is the executor's business.
 */
#include "layers/image_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static const char name_letters[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";

json_t *image_strings_json(char *const *strings)
{
	if (!strings)
		return json_null();
	json_t *array = json_array();
	for (; array && *strings; strings++) {
		if (json_array_append_new(array, json_string(*strings)) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

void image_strings_free(char **strings)
{
	for (char **s = strings; s && *s; s++)
		free(*s);
	free(strings);
}

void image_runtime_clear(struct image_runtime *runtime)
{
	free(runtime->shipped);
	image_strings_free(runtime->argv);
	image_strings_free(runtime->serves);
	*runtime = (struct image_runtime){0};
}

json_t *image_runtime_json(const struct image_runtime *runtime)
{
	if (runtime->shipped)
		return json_string(runtime->shipped);
	if (!runtime->argv)
		return json_null();
	return json_pack("{s:o, s:o}", "argv", image_strings_json(runtime->argv), "serves", image_strings_json(runtime->serves));
}

/* At least one string, the first not empty. Return: 0, or -errno with the field in err. */
static int words_from_json(const json_t *json, const char *field, char ***ret, struct err *err)
{
	size_t n = json_array_size(json), bytes = 0;
	if (!json)
		return err_say(err, EINVAL, "%s is missing", field);
	if (n == 0 || n > IMAGE_RUNTIME_WORDS_MAX)
		return err_say(err, EINVAL, "%s must be a list of 1 to %d strings", field, IMAGE_RUNTIME_WORDS_MAX);
	char **words = calloc(n + 1, sizeof(*words));
	if (!words)
		return err_set(err, ENOMEM, "%s", field);
	for (size_t i = 0; i < n; i++) {
		const char *word = json_string_value(json_array_get(json, i));
		int r = 0;
		if (!word || (i == 0 && !*word))
			r = err_say(err, EINVAL, "%s[%zu] must be a string%s", field, i, word ? " that is not empty" : "");
		else if ((bytes += strlen(word) + 1) > IMAGE_RUNTIME_BYTES_MAX)
			r = err_say(err, E2BIG, "%s has more than %u bytes", field, IMAGE_RUNTIME_BYTES_MAX);
		else if (!(words[i] = strdup(word)))
			r = err_set(err, ENOMEM, "%s", field);
		if (r < 0) {
			image_strings_free(words);
			return r;
		}
	}
	*ret = words;
	return 0;
}

static int object_from_json(const json_t *json, struct image_runtime *ret, struct err *err)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)json, key, value) if (strcmp(key, "argv") != 0 && strcmp(key, "serves") != 0) return err_say(err, EINVAL, "runtime.%.60s is not known: there are argv and serves", key);
	int r = words_from_json(json_object_get(json, "argv"), "runtime.argv", &ret->argv, err);
	return r < 0 ? r : words_from_json(json_object_get(json, "serves"), "runtime.serves", &ret->serves, err);
}

int image_runtime_from_json(const json_t *json, struct image_runtime *ret, struct err *err)
{
	struct image_runtime runtime = {0};
	const char *name = json_string_value(json);
	int r = 0;
	if (name) {
		size_t len = strlen(name);
		if (len == 0 || len > IMAGE_RUNTIME_NAME_MAX || strspn(name, name_letters) != len)
			return err_say(err, EINVAL, "runtime: '%.60s' is no name of a runtime", name);
		runtime.shipped = strdup(name);
		r = runtime.shipped ? 0 : err_set(err, ENOMEM, "runtime");
	} else if (json_is_object(json)) {
		r = object_from_json(json, &runtime, err);
	} else if (json && !json_is_null(json)) {
		r = err_say(err, EINVAL, "runtime must be a name, or an object with argv and serves");
	}
	if (r < 0)
		image_runtime_clear(&runtime);
	else
		*ret = runtime;
	return r;
}

int image_runtime_parse(const char *text, size_t len, struct image_runtime *ret, struct err *err)
{
	json_error_t error;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!json)
		return err_say(err, EINVAL, "line %d: %s", error.line, error.text);
	int r = json_is_object(json) ? image_runtime_from_json(json, ret, err)
				     : err_say(err, EINVAL, "runtime must be an object with argv and serves");
	json_decref(json);
	return r;
}

int image_set_runtime(struct store *store, const char *name, const struct image_runtime *runtime, struct err *err)
{
	_cleanup_(image_clear) struct image image = {.nlayers = 0};
	char stamp[IMAGE_STAMP_MAX] = "";
	int r = strcmp(name, IMAGE_HOST) == 0 ? image_host_prepare(store, err) : 0;
	if (r == 0)
		r = image_load_stamp(store, name, &image, stamp, err);
	if (r < 0)
		return r;
	struct image_runtime before = image.runtime;
	image.runtime = *runtime;
	r = image_save(store, &image, stamp[0] ? stamp : NULL, err);
	image.runtime = before;
	return r;
}
