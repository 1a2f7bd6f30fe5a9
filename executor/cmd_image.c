/* petri image: import, list, inspect and remove images. Root, or whoever owns the store. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "executor/cli.h"
#include "executor/image_progress.h"
#include "executor/runtime.h"
#include "executor/supervisor.h"
#include "layers/store.h"

#define RUNTIME_FILE_MAX (64u << 10)

struct options {
	const char *state, *ref;
};

static const struct option image_options[] = {
	{.name = "ref", .arg = "TAG", .kind = OPTION_WORD, OPTION_AT(struct options, ref), .help = "with import: which image of a SOURCE with several, by tag or NAME:TAG"},
	STATE_OPTION(struct options, state),
	{0},
};

const struct verb image_verb = {
	.name = "image",
	.summary = "import, list, inspect and remove images",
	.fn = cmd_image,
	.forms = (const char *const[]){"import [--ref TAG] NAME SOURCE", "list", "inspect NAME", "rm NAME", "runtime NAME python3|node|none|FILE", NULL},
	.about = "import: SOURCE is an OCI image layout or a docker-save (a directory or a tar), or a root file system (a directory or a tar); tars "
		 "plain or compressed by gzip, zstd, xz.\n\nlist: with layers and sizes; OWN: in layers that no other image has.\n\n"
		 "runtime: an interpreter that is started ahead for jobs of the image; FILE: JSON, docs/runtimes.md.",
	.options = image_options,
	.min_words = 1,
	.max_words = 3,
	.words = "import list inspect rm runtime",
	.complete = COMPLETE_FILE,
	.codes = plain_exit_codes,
};

static json_t *strings(char *const *list)
{
	json_t *array = list ? json_array() : json_null();
	for (; list && *list; list++)
		(void)json_array_append_new(array, json_string(*list));
	return array;
}

static void print_image(const struct image *image)
{
	json_t *layers = json_array();
	for (size_t i = 0; i < image->nlayers; i++) {
		char id[ID128_TEXT_MAX];
		format_id128(image->layers[i], id);
		(void)json_array_append_new(layers, json_string(id));
	}
	const struct image_runtime *rt = &image->runtime;
	json_t *runtime = rt->argv ? json_pack("{s:o, s:o}", "argv", strings(rt->argv), "serves", strings(rt->serves))
		: rt->shipped	   ? json_string(rt->shipped)
				   : json_null();
	json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:o, s:s?, s:s?, s:b, s:o, s:s?, s:s?}", "name", image->name, "layers", layers, "env",
		strings(image->env), "entrypoint", strings(image->entrypoint), "cmd", strings(image->cmd), "cwd", image->cwd,
		"user", image->user, "host_usr", image->host_usr, "runtime", runtime, "digest", image->digest, "platform", image->platform);
	_cleanup_free_ char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_ENSURE_ASCII) : NULL;
	(void)puts(text ? text : "{}");
	json_decref(o);
}

/* @what: the name of a shipped runtime, "none", or a file. */
static int set_runtime(struct store *store, const char *name, const char *what, struct err *err)
{
	struct image_runtime runtime = {0};
	int r = 0;
	if (runtime_is_shipped(what)) {
		runtime.shipped = strdup(what);
		r = runtime.shipped ? 0 : err_set(err, ENOMEM, "runtime");
	} else if (strcmp(what, "none") != 0) {
		_cleanup_free_ char *text = NULL;
		size_t len = 0;
		r = fd_read_file(AT_FDCWD, what, RUNTIME_FILE_MAX, &text, &len, err);
		if (r == -ENOENT)
			return err_say(err, ENOENT, "'%.200s' is neither python3, node or none, nor a file", what);
		if (r == 0)
			r = image_runtime_parse(text, len, &runtime, err);
		if (r < 0)
			return err_wrap(err, "%s", what);
	}
	if (r == 0)
		r = image_set_runtime(store, name, &runtime, err);
	image_runtime_clear(&runtime);
	return r;
}

static int import(struct store *store, const char *name, const char *source, const char *ref, struct image *image, struct err *err)
{
	struct import_progress progress;
	(void)store_sweep(store); /* what a killed import left may be the room that this one needs */
	import_progress_begin(&progress, name);
	const struct image_import request = {.source = source, .ref = ref, .progress = import_progress_on, .ctx = &progress};
	int r = image_import_from(store, name, &request, image, err);
	import_progress_end(&progress, r == 0);
	if (r == 0 && image_is_foreign(image))
		log_warn("the image %s is for %s, which is not this machine's kind", name, image->platform);
	return r;
}

static int list(struct store *store, struct err *err)
{
	char **names = NULL;
	int r = image_list(store, &names, err);
	if (r < 0 || !names)
		return r;
	size_t n = 0;
	while (names[n])
		n++;
	_cleanup_free_ struct image_size *sizes = calloc(n + 1, sizeof(*sizes));
	r = -ENOMEM;
	if (sizes)
		r = image_sizes(store, names, n, sizes, err);
	else
		(void)err_set(err, ENOMEM, "list the images");
	if (r == 0)
		(void)printf("%-32s %6s %8s %8s %8s\n", "NAME", "LAYERS", "SIZE", "SHARED", "OWN");
	for (size_t i = 0; sizes && i < n && r == 0; i++) {
		char size[SIZE_TEXT_MAX], shared[SIZE_TEXT_MAX], own[SIZE_TEXT_MAX];
		format_size(sizes[i].bytes, size);
		format_size(sizes[i].bytes - sizes[i].own, shared);
		format_size(sizes[i].own, own);
		if (sizes[i].error)
			(void)printf("%-32s damaged: %s\n", names[i], strerror(-sizes[i].error));
		else
			(void)printf("%-32s %6zu %8s %8s %8s\n", names[i], sizes[i].layers, size, shared, own);
	}
	image_list_free(names);
	return r;
}

/* Return: 0, -errno with err, or 1 when the words make no command. */
static int image_words(struct store *store, char **w, const struct options *options, struct err *err)
{
	int n = 0, r = 1;
	struct image image = {0};
	bool show = false;
	while (w[n])
		n++;
	if (n == 3 && strcmp(w[0], "import") == 0) {
		r = import(store, w[1], w[2], options->ref, &image, err);
		show = true;
	} else if (options->ref) {
		return 1;
	} else if (n == 1 && strcmp(w[0], "list") == 0) {
		r = list(store, err);
	} else if (n == 2 && strcmp(w[0], "inspect") == 0) {
		r = image_load(store, w[1], &image, err);
		show = true;
	} else if (n == 2 && strcmp(w[0], "rm") == 0) {
		r = image_rm(store, w[1], err);
	} else if (n == 3 && strcmp(w[0], "runtime") == 0) {
		r = set_runtime(store, w[1], w[2], err);
	}
	if (r == 0 && show)
		print_image(&image);
	image_clear(&image);
	return r;
}

int cmd_image(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct options options = {.state = NULL};
	char **words;
	int code;
	if (!verb_parse(&image_verb, &options, argc, argv, &words, &code))
		return code;
	_cleanup_(store_cleanup) struct store *store = NULL;
	int r = store_open(state_dir(options.state), &store, &err);
	if (r == 0)
		r = image_words(store, words, &options, &err);
	if (r > 0)
		return verb_complain(&image_verb, "'%s' with these words and options is none of its forms", words[0]);
	if (r < 0)
		log_error("%s", err_msg(&err));
	return r < 0 ? 1 : 0;
}
