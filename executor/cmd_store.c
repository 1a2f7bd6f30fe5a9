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

static void cleanup_store(struct store **store)
{
	store_free(*store);
}

static int complain(const struct err *err)
{
	log_error("%s", err_msg(err));
	return 1;
}

/* ---- blob ---- */
static const char blob_help[] =
	"petri blob put FILE|-   prints the blob's id\n"
	"petri blob cat ID\n"
	"petri blob pin ID       keep it from gc      petri blob unpin ID";

struct blob_options {
	const char *state;
	bool help;
};

static void blob_option(struct cli *cli, void *ctx)
{
	struct blob_options *o = ctx;
	if (cli_is(cli, "--help"))
		o->help = true;
	else if (!cli_option(cli, "--state", &o->state))
		cli_unknown(cli);
}

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
	} verbs[] = {{"put", blob_put}, {"cat", blob_cat}, {"pin", blob_pin}, {"unpin", blob_unpin}};
	struct err err = ERR_INIT;
	struct cli cli = {.argc = argc, .argv = argv, .at = 1, .verb = "blob"};
	struct blob_options options = {.state = NULL};
	cli_words(&cli, blob_option, &options);
	if (options.help) {
		(void)puts(blob_help);
		return 0;
	}
	char **w = argv + cli.at;
	size_t verb = 0;
	while (cli.argc - cli.at == 2 && verb < ARRAY_SIZE(verbs) && strcmp(w[0], verbs[verb].name) != 0)
		verb++;
	if (cli.failed || cli.argc - cli.at != 2 || verb == ARRAY_SIZE(verbs)) {
		(void)fprintf(stderr, "%s\n", blob_help);
		return EXIT_USAGE;
	}
	_cleanup_(cleanup_store) struct store *store = NULL;
	if (store_open(state_dir(options.state), &store, &err) < 0)
		return complain(&err);
	int r = verbs[verb].fn(store, w[1], &err);
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
