/*
 * petri-bench: what it costs to start a program, in petri and elsewhere, always beside posix_spawn + wait of a static true in the same
 * run. Figures, not verdicts: no test depends on them. It works in a temporary directory and leaves nothing behind.
 *
 *   petri-bench [--runs 2000] [--slots 64] [--inflight 4] [--trace] [--json]       the short form of `pool`
 *   petri-bench pool | command | serve | redis | queue | runtime | stamp | limits | info [OPTIONS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "bench/bench_stats.h"
#include "bench/commands.h"
#include "bench/workspace.h"
#include "pool/wire.h"

static const struct {
	const char *name, *help;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{"pool", "warm dispatch, straight to the engine", bench_pool},
	{"command", "any command line that runs one program", bench_command},
	{"serve", "a process that runs one program for each line it reads", bench_serve},
	{"redis", "from XADD to the result, with a redis-server and a worker of its own", bench_redis},
	{"queue", "the queue alone: empty work, held-back results, tenants", bench_queue},
	{"runtime", "a warm python3, given its job, against one that is started", bench_runtime},
	{"stamp", "a root made of 1 layer and of 32, and taken down", bench_stamp},
	{"limits", "how far past a limit a job gets", bench_limits},
	{"info", "what this build can do, as JSON", bench_info},
};

int bench_info(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	(void)printf("{\"version\": \"%s\", \"slots_max\": %d, \"layers_max\": %d}\n", PETRI_VERSION, POOL_SLOTS_MAX, POOL_LAYERS_MAX - 1);
	return 0;
}

static void print_help(FILE *f)
{
	(void)fputs("petri-bench [--runs 2000] [--slots 64] [--inflight 4] [--trace] [--json]\n", f);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		(void)fprintf(f, "petri-bench %-8s %s\n", verbs[i].name, verbs[i].help);
	(void)fputs("petri-bench VERB --help has the options of each\n", f);
}

/* Whatever the caller's environment makes a program do (node reads certificates for NODE_EXTRA_CA_CERTS), no sandbox would show. */
static void plain_environment(void)
{
	static const char *const kept[] = {"PATH", "HOME", "TMPDIR", "PETRI_LOG"};
	char *values[ARRAY_SIZE(kept)];
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		const char *value = getenv(kept[i]);
		values[i] = value ? strdup(value) : NULL;
	}
	(void)clearenv();
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		if (values[i])
			(void)setenv(kept[i], values[i], 1);
		free(values[i]);
	}
}

int main(int argc, char **argv)
{
	plain_environment();
	log_init();
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
		print_help(stdout);
		return 0;
	}
	if (argc < 2 || argv[1][0] == '-')
		return bench_combined(argc, argv);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	print_help(stderr);
	return 125;
}
