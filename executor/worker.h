/* The worker's configuration: flags and an optional JSON file with the same names. */
#pragma once

#include "base/err.h"
#include "executor/job.h"
#include "executor/queue.h"

#define REDIS_DEFAULT "redis://127.0.0.1:6379/0"

struct worker_config {
	char redis[600]; /* "": PETRI_REDIS, else REDIS_DEFAULT */
	char prefix[65];
	char name[128];
	unsigned slots;
	uint64_t lease_ms, result_ttl_ms, grace_ms;
	unsigned max_attempts;
	bool allow_volatile, pin, force_tmpfs;
	char warm_image[1024], warm_policy[65];
	char policies[512]; /* a directory of profiles, searched before the built-in ones */
	char project_ids[32];
	struct job_limits max_limits;
	char metrics[64]; /* where to serve them: metrics_server_check() */
	const char *state;
};

void worker_config_init(struct worker_config *config);
/* worker_config_set - one setting by its flag's name without dashes ("lease"). Return: 0, -ENOENT unknown, -errno. */
int worker_config_set(struct worker_config *config, const char *name, const char *value, struct err *err);
/* worker_config_load - a JSON object: settings by name, and max_limits like a job's limits. */
int worker_config_load(struct worker_config *config, const char *path, struct err *err);

struct worker_fds;
int worker_main(const struct worker_fds *fds, void *config); /* supervisor_config's worker */
