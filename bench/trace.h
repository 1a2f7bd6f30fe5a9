/*
 * The steps of a job's life, each with its samples. A step exists from the first time it is named, so that what measures a new one
 * has only to say so; members of a result's `timing` become steps by themselves.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "bench/bench_stats.h"

#define TRACE_STEPS_MAX 32

struct trace {
	struct {
		char name[40];
		struct samples samples;
	} steps[TRACE_STEPS_MAX];
	size_t nsteps;
};

void trace_add(struct trace *trace, const char *step, uint64_t ns);
/* trace_timing - every member NAME_us of a result's timing object is a step NAME. */
void trace_timing(struct trace *trace, const json_t *timing);
void trace_print(struct trace *trace, FILE *f);
/* trace_json - {step: samples}; a new reference. */
json_t *trace_json(struct trace *trace);
