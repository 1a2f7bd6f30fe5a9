/* petri gc: make room in the store, and say what went. Root. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "executor/cli.h"
#include "executor/supervisor.h"
#include "layers/gc.h"

#define KEEP_DEFAULT "7d"

static const char gc_help[] =
	"petri gc [--keep 7d] [--max-size 20G] [--dry-run] [--state DIR]\n"
	"Removes layers and blobs that no image, pin or running job uses, and what crashes left.\n"
	"  --keep 7d        those that were used within this time stay\n"
	"  --max-size 20G   while the store takes more on disk, younger ones go too, the oldest use first\n"
	"  --dry-run        only say which";

struct gc_flags {
	const char *state, *keep, *max_size;
	bool help, dry_run;
};

static void gc_flag(struct cli *cli, void *ctx)
{
	struct gc_flags *f = ctx;
	if (cli_is(cli, "--help"))
		f->help = true;
	else if (cli_is(cli, "--dry-run"))
		f->dry_run = true;
	else if (!cli_option(cli, "--keep", &f->keep) && !cli_option(cli, "--max-size", &f->max_size) &&
		!cli_option(cli, "--state", &f->state))
		cli_unknown(cli);
}

static void on_removed(void *ctx, const char *what, uint64_t bytes)
{
	const struct gc_options *options = ctx;
	(void)printf("%s %s %" PRIu64 "\n", options->dry_run ? "would remove" : "removed", what, bytes);
}

static int parse_flags(const struct gc_flags *flags, struct gc_options *ret, struct err *err)
{
	uint64_t keep_ms = 0;
	int r = parse_duration_ms(flags->keep ? flags->keep : KEEP_DEFAULT, &keep_ms, err);
	if (r < 0)
		return err_wrap(err, "--keep");
	ret->keep_s = (keep_ms + 999) / 1000;
	ret->max_bytes = UINT64_MAX;
	ret->dry_run = flags->dry_run;
	r = flags->max_size ? parse_size(flags->max_size, &ret->max_bytes, err) : 0;
	return r < 0 ? err_wrap(err, "--max-size") : 0;
}

static void print_sums(const struct gc_options *options, const struct gc_sums *sums)
{
	char freed[SIZE_TEXT_MAX], size[SIZE_TEXT_MAX];
	format_size(sums->bytes, freed);
	format_size(sums->size_bytes, size);
	(void)printf("%s %" PRIu64 " bytes (%s): %" PRIu64 " layers, %" PRIu64 " blobs", options->dry_run ? "would free" : "freed",
		sums->bytes, freed, sums->layers, sums->blobs);
	if (!options->dry_run)
		(void)printf(", %" PRIu64 " shared files, %" PRIu64 " sources, %" PRIu64 " leftovers", sums->objects, sums->sources,
			sums->leftovers);
	(void)putchar('\n');
	if (options->max_bytes != UINT64_MAX)
		(void)printf("the store takes %" PRIu64 " bytes (%s)%s\n", sums->size_bytes, size,
			sums->size_bytes > options->max_bytes ? ", more than --max-size: the rest is in use" : "");
}

static int collect(const char *state, const struct gc_options *options, struct err *err)
{
	struct store *store = NULL;
	struct gc_sums sums = {.layers = 0};
	int r = store_open(state, &store, err);
	if (r < 0)
		return r;
	r = gc_run(store, options, &sums, err);
	store_free(store);
	/* What went before an error went. */
	print_sums(options, &sums);
	if (r == 0 && (fflush(stdout) != 0 || ferror(stdout)))
		r = err_set(err, errno, "write to standard output");
	if (r == 0 && sums.failed > 0)
		r = err_say(err, EIO, "%" PRIu64 " of what could go could not be removed", sums.failed);
	return r;
}

int cmd_gc(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct cli cli = {.argc = argc, .argv = argv, .at = 1, .verb = "gc"};
	struct gc_flags flags = {.state = NULL};
	cli_words(&cli, gc_flag, &flags);
	if (flags.help) {
		(void)puts(gc_help);
		return 0;
	}
	if (!cli.failed && cli.at < cli.argc)
		cli_error(&cli, "'%s' is not expected here", argv[cli.at]);
	struct gc_options options = {.removed = on_removed, .ctx = &options};
	if (!cli.failed && parse_flags(&flags, &options, &err) < 0)
		cli_error(&cli, "%s", err_msg(&err));
	if (cli.failed)
		return EXIT_USAGE;
	if (collect(state_dir(flags.state), &options, &err) < 0) {
		log_error("%s", err_msg(&err));
		return 1;
	}
	return 0;
}
