/* petri: one program, a verb each. See the design's "Command line" and README.md. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "executor/cli.h"

static const struct {
	const char *name;
	int (*fn)(int argc, char **argv);
	const char *help;
} verbs[] = {
	{"run", cmd_run, "run one program in a sandbox"},
	{"worker", cmd_worker, "run jobs from Redis"},
	{"submit", cmd_submit, "put a job into the queue; --wait for its result"},
	{"status", cmd_status, "what became of a job"},
	{"cancel", cmd_cancel, "end a job"},
	{"queue", cmd_queue, "what waits, and setting it right by hand"},
	{"top", cmd_top, "all workers of a queue, live"},
	{"image", cmd_image, "import, list, inspect and remove images"},
	{"blob", cmd_blob, "put files into the store and read them"},
	{"layer", cmd_layer, "list, verify, pin and remove layers"},
	{"gc", cmd_gc, "remove what nothing uses"},
	{"store", cmd_store, "make a store with disk quotas"},
	{"doctor", cmd_doctor, "what this host can enforce, and how"},
};

static void usage(FILE *f)
{
	(void)fputs("petri: run untrusted programs\n\n", f);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		(void)fprintf(f, "  petri %-8s %s\n", verbs[i].name, verbs[i].help);
	(void)fputs("\n`petri VERB --help` says more. The store is in /var/lib/petri, or --state DIR, or PETRI_STATE.\n", f);
}

/* A program started with a standard stream closed must not take its first file for one. */
static void fill_standard_streams(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
}

int main(int argc, char **argv)
{
	fill_standard_streams();
	log_init();
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
		usage(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		(void)puts("petri " PETRI_VERSION);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].fn(argc - 1, argv + 1);
	(void)fprintf(stderr, "petri: unknown verb '%s'; see petri --help\n", argv[1]);
	return EXIT_USAGE;
}
