/* Options of petri-bench: one table, so that parsing and help cannot drift apart. */
#include "bench/options.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"

#define USAGE 125

enum kind {
	KIND_COUNT,
	KIND_LIST,
	KIND_SECONDS,
	KIND_SWITCH,
	KIND_TEXT,
};

struct option_row {
	const char *name;
	unsigned bit;
	enum kind kind;
	size_t offset;
	unsigned max;
	const char *help;
};

#define AT(member) offsetof(struct options, member)
static const struct option_row rows[] = {
	{"--runs", OPT_RUNS, KIND_COUNT, AT(runs), BENCH_RUNS_MAX, "N       how often each thing is measured"},
	{"--slots", OPT_SLOTS, KIND_COUNT, AT(slots), 100000, "N      slots of the pool"},
	{"--inflight", OPT_INFLIGHT, KIND_LIST, 0, BENCH_RUNS_MAX, "N,…  how many at a time when the rate is measured; 0: no rate"},
	{"--seconds", OPT_SECONDS, KIND_SECONDS, AT(seconds), 0, "S    stop a measurement after this long, whatever --runs says"},
	{"--rate-seconds", OPT_SECONDS, KIND_SECONDS, AT(rate_seconds), 0, "S  the same for each rate"},
	{"--json", OPT_JSON, KIND_SWITCH, AT(json), 0, "         JSON instead of a table"},
	{"--trace", OPT_TRACE, KIND_SWITCH, AT(trace), 0, "        a histogram of every step of a job"},
	{"--rootfs", OPT_IMAGE, KIND_TEXT, AT(rootfs), 0, "DIR   what the image is made of (default: only /true)"},
	{"--host", OPT_IMAGE, KIND_SWITCH, AT(host), 0, "         the image `host`: this machine's own /usr"},
	{"--layers", OPT_IMAGE, KIND_COUNT, AT(layers), BENCH_LAYERS_MAX, "N     layers of the image"},
	{"--files", OPT_IMAGE, KIND_COUNT, AT(files), BENCH_FILES_MAX, "N      further files in the image"},
	{"--file", OPT_FILE, KIND_TEXT, AT(file), 0, "DEST=SRC  a program that comes with every job, as DEST in the sandbox"},
	{"--native", OPT_NATIVE, KIND_TEXT, AT(native), 0, "PATH  the program's path outside of the sandbox, when it differs"},
	{"--durable", OPT_DURABLE, KIND_SWITCH, AT(durable), 0, "      Redis with appendonly yes, appendfsync always"},
};

static void print_help(const struct options *o, unsigned known, FILE *f)
{
	(void)fprintf(f, "petri-bench %s [OPTIONS]%s\n", o->verb, known & OPT_PROGRAM ? " [--] PROGRAM [ARGUMENT]…" : "");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (known & rows[i].bit)
			(void)fprintf(f, "  %s %s\n", rows[i].name, rows[i].help);
}

static int bad(const struct options *o, const char *name, const char *value)
{
	(void)fprintf(stderr, "petri-bench %s: %s: '%s' will not do\n", o->verb, name, value);
	return USAGE;
}

/* "1,2,4"; "0" alone is an empty list. */
static int parse_list(struct options *o, const char *value, unsigned max)
{
	_cleanup_free_ char *copy = strdup(value);
	char *rest = copy;
	uint64_t v;
	o->ninflight = 0;
	if (strcmp(value, "0") == 0)
		return 0;
	for (char *word; rest && (word = strsep(&rest, ","));) {
		if (parse_u64(word, &v, NULL) < 0 || v == 0 || v > max || o->ninflight == BENCH_INFLIGHT_MAX)
			return -1;
		o->inflight[o->ninflight++] = (unsigned)v;
	}
	return copy ? 0 : -1;
}

static int set_value(struct options *o, const struct option_row *row, const char *value)
{
	void *at = (char *)o + row->offset;
	uint64_t v;
	double seconds;
	switch (row->kind) {
	case KIND_COUNT:
		if (parse_u64(value, &v, NULL) < 0 || v > row->max || (v == 0 && row->bit != OPT_IMAGE))
			return bad(o, row->name, value);
		*(unsigned *)at = (unsigned)v;
		return 0;
	case KIND_LIST:
		return parse_list(o, value, row->max) < 0 ? bad(o, row->name, value) : 0;
	case KIND_SECONDS:
		if (parse_decimal(value, &seconds, NULL) < 0)
			return bad(o, row->name, value);
		*(double *)at = seconds;
		return 0;
	case KIND_TEXT:
		*(const char **)at = value;
		return 0;
	case KIND_SWITCH:
		break;
	}
	return 0;
}

static const struct option_row *find_row(const char *name, unsigned known)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if ((known & rows[i].bit) && strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

int options_parse(struct options *o, unsigned known, int argc, char **argv)
{
	int at = 1;
	for (; at < argc && argv[at][0] == '-'; at++) {
		if (strcmp(argv[at], "--") == 0) {
			at++;
			break;
		}
		if (strcmp(argv[at], "--help") == 0) {
			print_help(o, known, stdout);
			return -1;
		}
		const struct option_row *row = find_row(argv[at], known);
		if (!row || (row->kind != KIND_SWITCH && at + 1 == argc)) {
			(void)fprintf(stderr, "petri-bench %s: %s '%s'\n", o->verb, row ? "a value is missing after" : "unknown option", argv[at]);
			print_help(o, known, stderr);
			return USAGE;
		}
		if (row->kind == KIND_SWITCH)
			*(bool *)((char *)o + row->offset) = true;
		else if (set_value(o, row, argv[++at]) != 0)
			return USAGE;
	}
	if (at < argc && !(known & OPT_PROGRAM)) {
		(void)fprintf(stderr, "petri-bench %s: unexpected '%s'\n", o->verb, argv[at]);
		return USAGE;
	}
	o->argv = at < argc ? argv + at : NULL;
	return 0;
}
