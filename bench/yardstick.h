/*
 * A small process that does the posix_spawns for the worker. The worker holds tens of fds for each of its slots, and a child has to copy
 * their table and to close them all: with 512 slots that made the yardstick itself fifteen times longer.
 */
#pragma once

#include "base/err.h"
#include "bench/spawn.h"

struct yardstick {
	int sock;
	pid_t pid;
};

/* yardstick_start - while this process is small. It knows the programs of that moment, and is asked for them by index. */
int yardstick_start(struct yardstick *y, const struct program *programs, size_t n, struct err *err);
/* yardstick_once, yardstick_rate - as spawn_once(), spawn_rate(); from any process that inherited it. */
int yardstick_once(struct yardstick *y, unsigned index, struct spawn_cost *ret);
int yardstick_rate(struct yardstick *y, unsigned index, unsigned runs, unsigned inflight, double seconds, struct spawn_rate *ret);
void yardstick_stop(struct yardstick *y);
