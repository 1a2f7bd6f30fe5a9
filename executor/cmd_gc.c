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

#define KEEP_DEFAULT_MS (7 * 86400000ull)

struct gc_flags {
	const char *state;
	uint64_t keep_ms, max_bytes;
	bool dry_run;
};

static const struct option gc_options[] = {
	{.name = "keep", .arg = "DURATION", .kind = OPTION_DURATION, OPTION_AT(struct gc_flags, keep_ms), .standard = "7d", .help = "those that were used within this time stay"},
	{.name = "max-size", .arg = "SIZE", .kind = OPTION_SIZE, OPTION_AT(struct gc_flags, max_bytes), .standard = "none", .help = "while the store takes more on disk, younger ones go too, the oldest use first"},
	{.name = "dry-run", .kind = OPTION_SWITCH, OPTION_AT(struct gc_flags, dry_run), .help = "only say which"},
	STATE_OPTION(struct gc_flags, state),
	{0},
};

const struct verb gc_verb = {
	.name = "gc",
	.summary = "remove what nothing uses",
	.fn = cmd_gc,
	.forms = (const char *const[]){"[OPTIONS]", NULL},
	.about = "Removes layers and blobs that no image, pin or running job uses, and what crashes left.",
	.options = gc_options,
	.codes = plain_exit_codes,
};

static void on_removed(void *ctx, const char *what, uint64_t bytes)
{
	const struct gc_options *options = ctx;
	(void)printf("%s %s %" PRIu64 "\n", options->dry_run ? "would remove" : "removed", what, bytes);
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
	struct gc_flags flags = {.keep_ms = KEEP_DEFAULT_MS, .max_bytes = UINT64_MAX};
	char **words;
	int code;
	if (!verb_parse(&gc_verb, &flags, argc, argv, &words, &code))
		return code;
	struct gc_options options = {.keep_s = (flags.keep_ms + 999) / 1000, .max_bytes = flags.max_bytes, .dry_run = flags.dry_run, .removed = on_removed, .ctx = &options};
	if (collect(state_dir(flags.state), &options, &err) < 0) {
		log_error("%s", err_msg(&err));
		return 1;
	}
	return 0;
}
