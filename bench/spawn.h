/* posix_spawn(3) + wait: the yardstick, and any other command line. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bench/bench_stats.h"

struct program {
	char **argv; /* argv[0] is a path, or a name to be found in PATH */
	/* Not ours: with the environment, a process group of its own, /dev/null as stdin and stdout, stderr to log_fd; and "{id}" in its
	 * words becomes a name that no other run has. */
	bool foreign;
	int log_fd;
};

struct spawn_cost {
	uint64_t ns, cpu_us;
};

/*
 * spawn_adopt - from now on processes that a foreign program leaves behind (bwrap does not wait for its child) come to this one, which reaps
 * them with the next run: their CPU counts, and no zombie stays. spawn_release - wait a second at the most for the last ones.
 */
void spawn_adopt(void);
void spawn_release(void);

/* spawn_once - start, wait. Return: 0, or -1: it could not be started, failed, or was interrupted. */
int spawn_once(const struct program *p, struct spawn_cost *ret);

struct spawn_rate {
	double per_s, cpu_us; /* CPU of a run, this process's part included */
	unsigned runs;
};

/*
 * spawn_rate - start `runs` of them, never more than `inflight` at a time, or as many as can be started in `seconds`
 * (0: no bound). Return: 0, or -1 when one failed or it was interrupted; all have ended then.
 */
int spawn_rate(const struct program *p, unsigned runs, unsigned inflight, double seconds, struct spawn_rate *ret);
