/*
 * What of the host weakens the sandbox, beyond what petri can do about it: read from files below a root directory, so that tests
 * can bring their own. Whatever cannot be read or understood is said to be unknown.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define WEAKNESSES_MAX 24

struct weakness {
	const char *name;  /* "unprivileged-bpf" */
	bool unknown;	   /* it could not be found out */
	char found[200];   /* "kernel.unprivileged_bpf_disabled is 0" */
	const char *means; /* what may come of it, a sentence without its full stop */
	const char *todo;
};

struct weaknesses {
	struct weakness items[WEAKNESSES_MAX];
	size_t n;
};

/*
 * weaknesses_find - look.
 * @root: a directory fd; what would be /proc/sys is its proc/sys. @release: uname(2)'s. @state: the state directory's fd, or -1.
 */
void weaknesses_find(int root, const char *release, int state, struct weaknesses *ret);
