/* The program that is measured: in the sandbox, by posix_spawn outside of it, and the floor beside both. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "bench/options.h"
#include "bench/spawn.h"
#include "bench/workspace.h"

enum subject_program { /* of the yardstick, too */
	SUBJECT_FLOOR,
	SUBJECT_NATIVE,
	SUBJECT_PROGRAMS,
};

struct subject {
	char **argv;	    /* in the sandbox */
	char *true_argv[2]; /* the floor's */
	char **native_argv; /* outside, or NULL */
	struct program programs[SUBJECT_PROGRAMS];
	bool is_floor; /* the program is the floor's: it is not started a second time */
};

/* subject_choose - what the options name, else the static true. It points into all three; kept to the end of the process. */
int subject_choose(struct subject *subject, const struct workspace *ws, const struct options *options, struct err *err);
