/*
 * What a worker tells of itself: counters and gauges as plain values, kept by the worker's loop and copied to whoever shows
 * them. The server that does is executor/metrics_http.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "executor/engine.h"
#include "executor/queue.h"
#include "executor/result.h"
#include "pool/wire.h"

/* The steps of a job's life, in order. */
enum metrics_step {
	METRICS_QUEUED,	  /* from XADD, by Redis' clock, until fetched */
	METRICS_PLACE,	  /* until a slot is ready for it, and its files are at hand */
	METRICS_DISPATCH, /* the worker's own part of handing it over */
	METRICS_EXEC,	  /* until the program's exec */
	METRICS_RUN,	  /* until its end */
	METRICS_COLLECT,  /* taking and committing what it made */
	METRICS_FINISH,	  /* until Redis has confirmed the result */
	METRICS_STEP_MAX
};
const char *metrics_step_name(enum metrics_step step);

#define METRICS_BUCKETS 20
extern const uint64_t metrics_bucket_us[METRICS_BUCKETS]; /* upper bounds, ascending; what is longer is in one more bucket */

struct metrics_histogram {
	uint64_t count[METRICS_BUCKETS + 1]; /* not cumulative */
	uint64_t sum_us;
};

struct metrics {
	char name[129], limits[512]; /* the worker's; what it can enforce, "" while unknown */
	uint64_t at_us;		     /* when this was taken; CLOCK_MONOTONIC */
	uint64_t started_wall_ms;
	bool stopping;
	/* jobs */
	uint64_t jobs[STATUS_MAX]; /* results, by status */
	uint64_t nurseries;	   /* how often a new one had to be started */
	uint64_t rerun;		   /* fetched that somebody had had before */
	uint64_t placed, warm;
	unsigned running;
	struct metrics_histogram step[METRICS_STEP_MAX];
	/* the queue */
	struct queue_stats queue;
	uint64_t redis_errors[QUEUE_REDIS_ERRORS];
	struct queue_look look;
	/* the slots */
	unsigned slots[ENGINE_SLOT_MAX];
	uint64_t nursery_us; /* when the nursery last answered; 0: not */
	char cgroup[256];    /* the v2 group that the slots lie in; "" while unknown */
	bool host_known;
	struct wire_host host;
};

/* metrics_observe - one job took so long for a step. */
void metrics_observe(struct metrics *metrics, enum metrics_step step, uint64_t us);
/* metrics_result - a job's result: its status, and the steps that it says the times of. @placed_us: when it was handed to its zygote,
 * counted from when it was fetched; 0: never. */
void metrics_result(struct metrics *metrics, const struct result *result, uint64_t placed_us);

/* metrics_text - in the text format that Prometheus reads, version 0.0.4. @dying, @host_cgroups: of the kernel's cgroups, below 0 when
 * unknown. Return: the text (caller frees), or NULL without memory. */
char *metrics_text(const struct metrics *metrics, long long dying, long long host_cgroups);

/*
 * metrics_health - can this worker take and run jobs? @now_us: CLOCK_MONOTONIC.
 * Return: NULL when it can, else why not, in a static string.
 */
const char *metrics_health(const struct metrics *metrics, uint64_t now_us);
