/* petri-nursery as the supervisor has it: started, ended, and started again for a worker that has lost it. Root. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "executor/supervisor.h"

#define RESTART_WAIT_MIN_MS 100u
#define RESTART_WAIT_MAX_MS 5000u
#define RESTART_FORGET_US 60000000u /* what ran for so long may be started again without waiting longer than the last time */

struct nursery {
	const struct supervisor_config *config;
	int store, locks;	/* directories; borrowed */
	const char *core_sched; /* as it is told */
	pid_t pid;		/* 0: none */
	uint64_t due_us;	/* another is wanted: when it is to be started, or the old one killed if it is still there; 0: it is not */
	uint64_t started_us;
	unsigned wait_ms;
};

/* nursery_start - fork and exec it. Return: the worker's end of its socket, or -errno. */
int nursery_start(struct nursery *n, struct err *err);
/* nursery_want - the worker has lost this one and asks for another: once it has ended, and not at once when that happens often. */
void nursery_want(struct nursery *n);
/* nursery_ended - it was reaped. */
void nursery_ended(struct nursery *n, int status);
/* nursery_is_due - whether another is to be started now. Kills one that was to end and does not. nursery_poll_ms - until then, for poll(2). */
bool nursery_is_due(struct nursery *n);
int nursery_poll_ms(const struct nursery *n);
/* nursery_wait - it ends by itself when the worker's socket closes, and takes all slots down with it: until then, or until it is killed. */
void nursery_wait(struct nursery *n);
