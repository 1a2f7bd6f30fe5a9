/*
 * Core scheduling: whether the threads of a CPU's core may run two jobs at once. With a cookie of its own for each job the kernel
 * never lets another job, or anything else, run beside it on the same core. prctl(2) PR_SCHED_CORE; Linux 5.14 with CONFIG_SCHED_CORE.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define CORE_SCHED_CHOICES "off try require"
#define CORE_SCHED_HELP "keep other work off a job's core while it runs: off, try or require"
#define CORE_SCHED_MORE \
	"By core scheduling, for CPUs whose cores have several threads. With require petri does not start where the kernel cannot; with try it " \
	"goes on without."

/* core_sched_probe - ask the kernel, without changing anything. Return: 0, or -errno: -EINVAL, -ENODEV (no core with several threads). */
int core_sched_probe(void);
/* core_sched_why - what such an error means, as a phrase after "core scheduling". */
const char *core_sched_why(int error);

/*
 * core_sched_decide - what to do for a choice on a host that probed thus.
 * Return: 0, with *ret_use; or -EOPNOTSUPP when it is required and not there.
 */
int core_sched_decide(const char *choice, int probed, bool *ret_use, struct err *err);
