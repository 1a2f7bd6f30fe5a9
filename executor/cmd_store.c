/* petri blob and store: the operator's side of the content-addressed store. Root, or whoever owns it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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
#include "executor/supervisor.h"
#include "layers/pin.h"
#include "layers/store.h"
#include "layers/store_boot.h"
#include "layers/store_init.h"

static int complain(const struct err *err)
{
	log_error("%s", err_msg(err));
	return 1;
}

struct options {
	const char *state, *fs, *boot;
	uint64_t size;
};

/* ---- blob ---- */
static const struct option blob_options[] = {
	STATE_OPTION(struct options, state),
	{0},
};

const struct verb blob_verb = {
	.name = "blob",
	.summary = "put files into the store and read them",
	.fn = cmd_blob,
	.forms = (const char *const[]){"put FILE|-", "cat ID", "pin ID", "unpin ID", NULL},
	.about = "put prints the blob's id; cat writes a blob to standard output; pin keeps it from gc, until unpin.",
	.options = blob_options,
	.min_words = 2,
	.max_words = 2,
	.words = "put cat pin unpin",
	.complete = COMPLETE_FILE,
	.codes = plain_exit_codes,
};

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

static int blob_pin(struct store *store, const char *text, struct err *err)
{
	uint8_t id[16];
	int r = parse_id128(text, id, err);
	return r < 0 ? r : pin_blob(store, id, err);
}

static int blob_unpin(struct store *store, const char *text, struct err *err)
{
	uint8_t id[16];
	int r = parse_id128(text, id, err);
	return r < 0 ? r : pin_remove(store, id, err);
}

int cmd_blob(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(struct store *store, const char *word, struct err *err);
	} actions[] = {{"put", blob_put}, {"cat", blob_cat}, {"pin", blob_pin}, {"unpin", blob_unpin}};
	struct err err = ERR_INIT;
	struct options options = {.state = NULL};
	char **w;
	int code;
	if (!verb_parse(&blob_verb, &options, argc, argv, &w, &code))
		return code;
	size_t action = 0;
	while (action < ARRAY_SIZE(actions) && strcmp(w[0], actions[action].name) != 0)
		action++;
	if (action == ARRAY_SIZE(actions))
		return verb_complain(&blob_verb, "'%s' is none of its forms", w[0]);
	_cleanup_(store_cleanup) struct store *store = NULL;
	if (store_open(state_dir(options.state), &store, &err) < 0)
		return complain(&err);
	int r = actions[action].fn(store, w[1], &err);
	return r < 0 ? complain(&err) : 0;
}

/* ---- store ---- */
static const struct option store_options[] = {
	{.name = "size", .arg = "SIZE", .kind = OPTION_SIZE, OPTION_AT(struct options, size), .standard = "4G", .help = "of the image file"},
	{.name = "fs", .arg = "FS", .kind = OPTION_WORD, OPTION_AT(struct options, fs), .standard = "xfs", .choices = "xfs ext4", .help = "its filesystem: xfs or ext4"},
	{.name = "boot", .arg = "FILE", .kind = OPTION_WORD, OPTION_AT(struct options, boot), .complete = COMPLETE_FILE, .help = "have it mounted at boot", .more = "FILE: a table such as /etc/fstab, or a unit for systemd that ends in .mount."},
	STATE_OPTION(struct options, state),
	{0},
};

const struct verb store_verb = {
	.name = "store",
	.summary = "make a store with disk quotas",
	.fn = cmd_store,
	.forms = (const char *const[]){"init [--size 4G] [--fs xfs|ext4] [--boot FILE] [--state DIR]", NULL},
	.about = "Makes a filesystem with project quotas in an image file and mounts it as the store.",
	.options = store_options,
	.min_words = 1,
	.max_words = 1,
	.words = "init",
	.codes = plain_exit_codes,
};

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
	struct options o = {.fs = "xfs", .size = 4ull << 30};
	char **words, driver[512];
	int code;
	if (!verb_parse(&store_verb, &o, argc, argv, &words, &code))
		return code;
	if (strcmp(words[0], "init") != 0)
		return verb_complain(&store_verb, "'%s' is not init", words[0]);
	if (store_init(state_dir(o.state), o.fs, o.size, driver, sizeof(driver), &err) < 0)
		return complain(&err);
	return tell_store(state_dir(o.state), driver, o.boot, &err);
}
