/* The options of every verb of petri-bench, from one table: which verb knows which, and the help text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define BENCH_IMAGE "bench"
#define BENCH_INFLIGHT_MAX 8
#define BENCH_RUNS_MAX 1000000u
#define BENCH_FILES_MAX 1000000u
#define BENCH_LAYERS_MAX 63u /* an image's layers with the base above them: pool/wire.h, POOL_LAYERS_MAX */

enum {
	OPT_RUNS = 1 << 0,
	OPT_SLOTS = 1 << 1,
	OPT_INFLIGHT = 1 << 2,
	OPT_SECONDS = 1 << 3,
	OPT_JSON = 1 << 4,
	OPT_TRACE = 1 << 5,
	OPT_IMAGE = 1 << 6, /* --rootfs, --host, --layers, --files */
	OPT_NATIVE = 1 << 7,
	OPT_DURABLE = 1 << 8,
	OPT_PROGRAM = 1 << 9, /* words after the options */
	OPT_FILE = 1 << 10,
};

struct options {
	const char *verb;
	unsigned runs, slots;
	unsigned inflight[BENCH_INFLIGHT_MAX];
	size_t ninflight;
	double seconds, rate_seconds; /* the most that a measurement one at a time, or of one rate, may take; 0: no bound */
	bool json, trace, durable, host;
	unsigned layers, files;
	const char *file;   /* "DEST=SRC": comes with every job, executable; or NULL */
	const char *rootfs; /* a directory to make the image of, or NULL: only the static true */
	const char *native; /* the program's path outside of the sandbox, or NULL: the same as inside */
	char **argv;	    /* NULL-terminated, or NULL when no program was named */
};

/* options_image - the name of the image that they describe. */
static inline const char *options_image(const struct options *options)
{
	return options->host ? "host" : BENCH_IMAGE;
}

/*
 * options_parse - read argv[1…] into what the verb set as its defaults.
 * @known: OPT_* that this verb has. Return: 0, or 125 after a message; -1 after --help was printed.
 */
int options_parse(struct options *options, unsigned known, int argc, char **argv);
