/* Figures of something that starts programs from outside, `command` and `serve` alike: latency in turn with the floor, then rates. */
#pragma once

#include "bench/options.h"
#include "bench/spawn.h"
#include "bench/workspace.h"

struct outside_rate {
	unsigned inflight;
	struct spawn_rate it, floor;
};

struct outside {
	struct options options;
	const char *kind;
	struct workspace workspace;
	char *floor_argv[2];
	struct program floor;
	struct samples floor_ns, latency;
	double floor_cpu_us, cpu_us; /* of all runs, until outside_measure() ends; then of one */
	struct outside_rate rates[BENCH_INFLIGHT_MAX];
	size_t nrates;
	/* Run the thing once. Return: 0 or -1. */
	int (*once)(struct outside *o, struct spawn_cost *ret);
	/* Return: 0 or -1. */
	int (*many)(struct outside *o, unsigned runs, unsigned inflight, double seconds, struct spawn_rate *ret);
	void *user;
};

/* outside_measure - fill it. Return: 0, or -1 when it failed or was interrupted. */
int outside_measure(struct outside *o);
void outside_print(struct outside *o);
