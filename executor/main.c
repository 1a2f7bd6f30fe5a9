/* petri: one program, a verb each. See the design's "Command line" and README.md. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "executor/cli.h"

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
		petri_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		petri_help(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		(void)puts("petri " PETRI_VERSION);
		return 0;
	}
	const struct verb *verb = verb_find(argv[1]);
	if (verb)
		return verb->fn(argc - 1, argv + 1);
	(void)fprintf(stderr, "petri: unknown verb '%s'; see petri --help\n", argv[1]);
	return EXIT_USAGE;
}
