/*
 * An engine of petri's own in a worker under a supervisor, as `petri worker` has it, for measurements from inside: jobs
 * without Redis and JSON between.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bench/workspace.h"
#include "executor/engine.h"

struct driver {
	const struct workspace *workspace;
	const struct options *options; /* image, file, slots */
	/* All slots are ready for the first time; from here on the owner starts jobs, and ends with driver_finish(). */
	void (*ready)(struct driver *d);
	/* In the worker, when all went well: the last word. */
	void (*print)(struct driver *d);
	void *user;
	/* the driver's */
	uint64_t started_us;
	double ready_ms, idle_kib; /* from the start until all slots waited; the most that one of them was charged */
	struct loop *loop;
	struct engine *engine;
	struct loop_timer patience;
	char *file, *file_data; /* options->file: the path in the sandbox, and the content */
	size_t file_len;
	bool begun, failed, finished;
};

/* driver_run - from the start of nursery and worker to their end. Return: an exit code, 0 when print() was called. */
int driver_run(struct driver *d);

/* driver_job - a job with the documented defaults that runs argv in the options' image; driver_job_clear() is due. */
void driver_job(const struct driver *d, struct engine_job *ej, char *const *argv);
/* driver_job_clear - and fail unless the job ended as it had to. */
void driver_job_clear(struct driver *d, struct engine_job *ej, enum job_status expected);

void driver_finish(struct driver *d);
void driver_fail(struct driver *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* driver_cpu_us - what supervisor, nursery, keepers, jobs and this worker have used, the process `except` aside. */
uint64_t driver_cpu_us(pid_t except);
