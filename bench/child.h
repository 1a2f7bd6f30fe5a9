/* A long-lived process of the bench's own: a server, a worker, an adapter. It dies with petri-bench. */
#pragma once

#include <sys/types.h>

#include "base/err.h"

struct child {
	pid_t pid; /* 0: none */
	int in;	   /* its stdin, when it was asked for; else -1 */
	int out;   /* its stdout, likewise */
};

/* child_start - argv[0] is a path or a name in PATH. @pipes: whether stdin and stdout are pipes to us, else /dev/null. */
int child_start(struct child *child, char *const *argv, int pipes, struct err *err);
/* child_stop - close its stdin, SIGTERM, ten seconds' patience, SIGKILL. Fine when there is none. */
void child_stop(struct child *child);
