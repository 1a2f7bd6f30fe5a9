/*
 * Confining the worker once its privileges are gone and before it reads the first byte from outside: a seccomp allow-list, and
 * Landlock where the kernel has it. Its ring has restrictions of its own (loop_ring.h).
 *
 * What a call gets that is not on the list: those that only somebody would make who has taken the worker over (execve, ptrace, a
 * second ring, mounts, namespaces, …) kill the process, whose jobs are run again when their leases end. Anything else fails with
 * ENOSYS, which C libraries are prepared for, and is logged once by its number: a library that learns a new call must not cost jobs.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define CONFINE_DIRS_MAX 4

struct confine_needs {
	bool network; /* connections to Redis, and the look-up of its name */
	bool threads; /* of its own, beside the loop */
	bool listen;  /* to serve metrics, with a thread for it */
	/* Beside the store and what the C library needs: directories to read in, by path; NULL and those that are not there are skipped. */
	const char *dirs[CONFINE_DIRS_MAX];
};

/*
 * confine_paths - enter a Landlock domain, for good; with CAP_SYS_ADMIN or no_new_privs, and the right to enter the store.
 * @store: the state directory. @spool: a directory to write in, or 0.
 * Return: 0; 1 where the kernel has no Landlock that is enough (logged at debug); or -errno: then the process must not go on.
 */
int confine_paths(const struct confine_needs *needs, int store, int spool, struct err *err);
/* confine_calls - install the filter, after everything that gives rights up. Return: 0, or -errno: the process must not go on. */
int confine_calls(const struct confine_needs *needs, struct err *err);
/* landlock_version - of the kernel's ABI, landlock(7); 0: none. */
int landlock_version(void);
