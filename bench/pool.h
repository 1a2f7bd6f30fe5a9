/* What `petri-bench pool` measures, and its two ways to be printed. */
#pragma once

#include "bench/driver.h"
#include "bench/options.h"
#include "bench/subject.h"
#include "bench/trace.h"
#include "bench/yardstick.h"

struct pool_rate {
	unsigned inflight;
	double jobs_per_s, cpu_us;
	struct spawn_rate native; /* posix_spawn of the same program, as many at a time */
	struct samples latency;	  /* from the job in hand to its result */
};

struct pool_bench {
	struct options options;
	struct workspace workspace;
	struct driver driver;
	struct subject subject;
	struct yardstick yardstick;
	/* one at a time */
	struct loop_timer next;
	struct engine_job ej;
	uint64_t t0_ns, deadline_us, wait_since_us;
	struct samples floor_ns, native_ns;
	struct samples exit_known, handed, complete; /* from the job in hand; from the message on; until the result */
	double floor_cpu_us, native_cpu_us, cpu_us;  /* of one */
	uint64_t cpu_begin_us;
	struct trace trace;
	unsigned done;
	/* many at a time */
	struct pool_rate rates[BENCH_INFLIGHT_MAX];
	size_t rate;
	unsigned submitted, ended;
	uint64_t rate_t0_us, rate_cpu_us;
};

/* pool_start_rates - the second part, after one at a time; ends with driver_finish(). pool_rates.c */
void pool_start_rates(struct pool_bench *b);

void pool_print(struct pool_bench *b);
void pool_print_json(struct pool_bench *b);
/* The forms that petri-bench without a verb has always had. */
void pool_print_short(struct pool_bench *b);
