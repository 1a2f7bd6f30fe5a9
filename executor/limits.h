/*
 * The limits of a job as one table: names, flags, bounds and units, from which the JSON reader, the flags of
 * `petri run`, the bounds check and the help text all work, so that they cannot drift apart.
 */
#pragma once

#include <jansson.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "executor/job.h"

enum limit_kind {
	LIMIT_SIZE,	/* bytes */
	LIMIT_DURATION, /* milliseconds */
	LIMIT_COUNT,
	LIMIT_CPUS,   /* thousandths of a CPU; a decimal number of CPUs in JSON and flags */
	LIMIT_CPUSET, /* a list such as 0-1,3 */
	LIMIT_KIND_MAX
};

struct limit {
	const char *name; /* beneath "limits" in the job: "wall_ms", "io.rbps" */
	const char *flag; /* without dashes; NULL for the members of --io */
	enum limit_kind kind;
	bool optional; /* 0 or "" means that it was not asked for */
	size_t offset; /* in struct job_limits */
	uint64_t min;
	const char *unit; /* of the JSON number, with a leading blank: " ms", "" */
	const char *help;
};

/* Ends with an entry whose name is NULL. */
extern const struct limit limit_table[];

/* limits_find - by JSON name ("io.rbps"); NULL when there is none. */
const struct limit *limits_find(const char *name);
/* limits_get - the value of a limit that is not LIMIT_CPUSET. */
uint64_t limits_get(const struct job_limits *limits, const struct limit *limit);
void limits_set(struct job_limits *limits, const struct limit *limit, uint64_t value);

/*
 * limits_flag - take one flag of `petri run`.
 * @flag: its name without dashes. @value: may be NULL when the command line ended.
 * Return: 1 consumed, 0 when it is no limit's flag, or -errno with a message that names the flag. @limits is
 * only touched when 1 is returned.
 */
int limits_flag(struct job_limits *limits, const char *flag, const char *value, struct err *err);

/*
 * limits_json - read a limits object of a job or of a configuration (max_limits).
 * @parent: its JSON path, for reject->field. @max: as job_parse(). Omitted and null members keep what @limits
 * has;
 * @limits is only touched on success.
 * Return: 0, or 1 with *reject filled.
 */
int limits_json(struct job_limits *limits, json_t *object, const char *parent, const struct job_limits *max,
	struct reject *reject);

/*
 * limits_check - every limit between its least sensible value and the smaller of @max and job_limits_ceiling.
 * @max: NULL for the ceiling alone. An io limit of 0 there caps nothing, and a cpuset there must hold the
 * job's. Return: 0, or 1 with *reject filled.
 */
int limits_check(const struct job_limits *limits, const struct job_limits *max, struct reject *reject);

/* limits_check_one - the same for one value that was given. @field: for *reject. */
int limits_check_one(const struct limit *limit, uint64_t value, const struct job_limits *max, const char *field,
	struct reject *reject);

/* limits_cpuset_within - @cpuset: has passed limits_check(). */
bool limits_cpuset_within(const char *cpuset, const cpu_set_t *cpus);

/* limits_cap - lower to max what nobody asked for yet: the defaults of a job on a worker whose max_limits are
 * tighter. A capped io limit or cpuset that the job left out is taken over. */
void limits_cap(struct job_limits *limits, const struct job_limits *max);
