/* petri image, blob and store: the operator's side of the content-addressed store. Root, or whoever owns it. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "executor/cli.h"
#include "executor/runtime.h"
#include "executor/supervisor.h"
#include "layers/store.h"
#include "layers/store_boot.h"
#include "layers/store_init.h"

#define RUNTIME_FILE_MAX (64u << 10)

static void cleanup_store(struct store **store)
{
	store_free(*store);
}

static int complain(const struct err *err)
{
	log_error("%s", err_msg(err));
	return 1;
}

/* Options that all of these verbs have; leaves cli->at at the first word. */
static void common(struct cli *cli, const char **state, const char *help)
{
	while (cli_more(cli)) {
		if (cli_is(cli, "--help")) {
			(void)puts(help);
			exit(0);
		}
		if (!cli_option(cli, "--state", state))
			cli_unknown(cli);
	}
}

/* ---- image ---- */
static const char image_help[] =
	"petri image import NAME SOURCE   SOURCE: a directory or a tar (plain, gzip, zstd, xz)\n"
	"petri image list | inspect NAME | rm NAME\n"
	"petri image runtime NAME python3|node|none|FILE\n"
	"                                 an interpreter that is started ahead for jobs of the image; FILE: JSON, docs/runtimes.md";

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
	json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:o, s:s?, s:s?, s:b, s:o}", "name", image->name, "layers", layers, "env",
		strings(image->env), "entrypoint", strings(image->entrypoint), "cmd", strings(image->cmd), "cwd", image->cwd,
		"user", image->user, "host_usr", image->host_usr, "runtime", runtime);
	_cleanup_free_ char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
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

static int image_words(struct store *store, struct cli *cli, struct err *err)
{
	char **w = cli->argv + cli->at;
	int n = cli->argc - cli->at;
	struct image image = {0};
	int r;
	if (n == 3 && strcmp(w[0], "import") == 0) {
		r = image_import(store, w[1], w[2], &image, err);
		if (r == 0)
			print_image(&image);
	} else if (n == 1 && strcmp(w[0], "list") == 0) {
		char **names = NULL;
		r = image_list(store, &names, err);
		for (size_t i = 0; r == 0 && names[i]; i++)
			(void)puts(names[i]);
		if (r == 0)
			image_list_free(names);
	} else if (n == 2 && strcmp(w[0], "inspect") == 0) {
		r = image_load(store, w[1], &image, err);
		if (r == 0)
			print_image(&image);
	} else if (n == 2 && strcmp(w[0], "rm") == 0) {
		r = image_rm(store, w[1], err);
	} else if (n == 3 && strcmp(w[0], "runtime") == 0) {
		r = set_runtime(store, w[1], w[2], err);
	} else {
		(void)fprintf(stderr, "%s\n", image_help);
		return EXIT_USAGE;
	}
	image_clear(&image);
	return r < 0 ? complain(err) : 0;
}

int cmd_image(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct cli cli = {.argc = argc, .argv = argv, .at = 1, .verb = "image"};
	const char *state = NULL;
	common(&cli, &state, image_help);
	if (cli.failed)
		return EXIT_USAGE;
	_cleanup_(cleanup_store) struct store *store = NULL;
	if (store_open(state_dir(state), &store, &err) < 0)
		return complain(&err);
	return image_words(store, &cli, &err);
}

/* ---- blob ---- */
static const char blob_help[] = "petri blob put FILE|-   prints the blob's id\npetri blob cat ID";

static int blob_put(struct store *store, const char *path, struct err *err)
{
	uint8_t id[16];
	char text[ID128_TEXT_MAX];
	uint64_t bytes;
	bool standard = strcmp(path, "-") == 0;
	_cleanup_close_ int fd = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "open %s", path);
	int r = blob_put_fd(store, fd, UINT64_MAX - 1, STORE_UPLOAD, id, &bytes, err);
	if (r < 0)
		return err_wrap(err, "%s", path);
	format_id128(id, text);
	(void)puts(text);
	return 0;
}

static int blob_cat(struct store *store, const char *text, struct err *err)
{
	uint8_t id[16];
	uint64_t bytes;
	int r = parse_id128(text, id, err);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = blob_open(store, id, &bytes, err);
	if (fd < 0)
		return fd;
	char buf[65536];
	for (;;) {
		ssize_t n = fd_read_all(fd, buf, sizeof(buf));
		if (n < 0)
			return err_set(err, (int)n, "read %s", text);
		if (n == 0)
			return 0;
		r = fd_write_all(STDOUT_FILENO, buf, (size_t)n);
		if (r < 0)
			return err_set(err, r, "write to standard output");
	}
}

int cmd_blob(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct cli cli = {.argc = argc, .argv = argv, .at = 1, .verb = "blob"};
	const char *state = NULL;
	common(&cli, &state, blob_help);
	char **w = argv + cli.at;
	bool put = cli.argc - cli.at == 2 && strcmp(w[0], "put") == 0, cat = cli.argc - cli.at == 2 && strcmp(w[0], "cat") == 0;
	if (cli.failed || (!put && !cat)) {
		(void)fprintf(stderr, "%s\n", blob_help);
		return EXIT_USAGE;
	}
	_cleanup_(cleanup_store) struct store *store = NULL;
	if (store_open(state_dir(state), &store, &err) < 0)
		return complain(&err);
	int r = put ? blob_put(store, w[1], &err) : blob_cat(store, w[1], &err);
	return r < 0 ? complain(&err) : 0;
}

/* ---- store ---- */
static const char store_help[] =
	"petri store init [--size 4G] [--fs xfs|ext4] [--boot FILE] [--state DIR]\n"
	"Makes a filesystem with project quotas in an image file and mounts it as the store.\n"
	"--boot: have it mounted at boot. FILE: a table such as /etc/fstab, or a unit for systemd that ends in .mount";

static int tell_store(const char *state, const char *driver, const char *boot, struct err *err)
{
	static char line[STORE_BOOT_MAX];
	(void)printf("%s: %s\n", state, driver);
	int r = boot ? store_boot_write(state, boot, err) : store_boot_fstab(state, line, err);
	if (r < 0)
		return complain(err);
	if (boot)
		(void)printf("%s: %s\n", boot, r == 1 ? "has the entry already" : "mounts it at boot");
	else
		(void)printf("to have it mounted at boot, say --boot /etc/fstab, which adds:\n%s\n", line);
	return 0;
}

int cmd_store(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct cli cli = {.argc = argc, .argv = argv, .at = 1, .verb = "store"};
	const char *state = NULL, *fs = "xfs", *size_text = "4G", *boot = NULL, *v;
	char driver[512];
	uint64_t size = 0;
	bool init = cli.at < argc && strcmp(argv[cli.at], "init") == 0;
	cli.at += init;
	while (cli_more(&cli)) {
		if (cli_is(&cli, "--help")) {
			(void)puts(store_help);
			return 0;
		}
		if (cli_option(&cli, "--state", &v))
			state = v;
		else if (cli_option(&cli, "--fs", &v))
			fs = v;
		else if (cli_option(&cli, "--size", &v))
			size_text = v;
		else if (cli_option(&cli, "--boot", &v))
			boot = v;
		else
			cli_unknown(&cli);
	}
	if (cli.failed || !init || cli.at != argc) {
		(void)fprintf(stderr, "%s\n", store_help);
		return EXIT_USAGE;
	}
	if (parse_size(size_text, &size, &err) < 0 ||
		store_init(state_dir(state), fs, size, driver, sizeof(driver), &err) < 0)
		return complain(&err);
	return tell_store(state_dir(state), driver, boot, &err);
}
