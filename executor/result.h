/* A result: what became of a job, and its JSON (design: "Result (JSON)"). */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "executor/job.h"

enum job_status {
	STATUS_EXITED,
	STATUS_SIGNALED,
	STATUS_CPU_LIMIT,
	STATUS_WALL_LIMIT,
	STATUS_MEMORY_LIMIT,
	STATUS_OUTPUT_LIMIT,
	STATUS_DISK_LIMIT,
	STATUS_VIOLATION,
	STATUS_EXEC_FAILED,
	STATUS_CANCELLED,
	STATUS_REJECTED,
	STATUS_INTERNAL_ERROR,
	STATUS_MAX
};
const char *job_status_name(enum job_status status);
/* job_status_from_name - STATUS_MAX when there is no such status. */
enum job_status job_status_from_name(const char *name);

struct usage {
	uint64_t wall_us, cpu_user_us, cpu_system_us, memory_peak_bytes, pids_peak, pids_limit_hits, io_read_bytes,
		io_write_bytes, disk_bytes, throttled_us, oom_kills;
};

struct result_stream {
	char *data; /* owned */
	size_t len;
	bool truncated;
};

struct result_file {
	char *path;
	bool as_inline;
	uint8_t blob[16];
	char *data; /* inline only */
	size_t len;
	uint64_t bytes;
};

struct result {
	char id[JOB_ID_MAX + 1];
	enum job_status status;
	int exit_code;	 /* shown for exited; also 126/127 of exec_failed for `petri run` */
	int term_signal; /* shown for signaled */
	char message[512];
	struct reject reject; /* shown for rejected */
	struct usage usage;
	struct result_stream out, errout;
	struct result_file *files;
	size_t nfiles;
	bool has_layer;
	uint8_t layer[16];
	char violation[64];	   /* system call; "" none */
	const char *unenforced[8]; /* static strings, limit names */
	size_t nunenforced;
	json_t *meta; /* owned reference, or NULL */
	struct {
		uint64_t queued_us, dispatch_us, exec_us, collect_us;
	} timing;
	char worker[128];
	unsigned attempt;
};

/* result_json - compact JSON text; the caller frees it. NULL when memory ran out. Data that is not UTF-8 (or has
 * NULs) goes as {"base64": …} instead of {"data": …}. Keys in the documented order. */
char *result_json(const struct result *result);
void result_clear(struct result *result);
/* result_exit_code - what `petri run` exits with (design, command line). */
int result_exit_code(const struct result *result);
