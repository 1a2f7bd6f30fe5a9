/* The worker's configuration: a file, the environment over it, flags over both; all of them from one table. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "executor/job.h"
#include "executor/options.h"
#include "executor/queue.h"

#define WORKER_SETTINGS_MAX 64
#define WORKER_ENV "PETRI_WORKER_" /* PETRI_WORKER_SLOTS=8 is --slots 8 */

enum setting_origin {
	ORIGIN_DEFAULT,
	ORIGIN_FILE,
	ORIGIN_ENVIRONMENT,
	ORIGIN_FLAG
};

struct setting_source {
	enum setting_origin origin;
	unsigned line;	      /* of the file */
	const char *variable; /* of the environment, where it is not the one after the setting's name */
};

struct worker_config {
	char redis[600]; /* may hold credentials when it comes from the environment */
	char redis_credentials_file[512];
	char prefix[65];
	char name[128];
	unsigned slots;
	uint64_t lease_ms, result_ttl_ms, grace_ms;
	unsigned max_attempts;
	uint64_t max_queue;
	bool allow_volatile, pin;
	char warm_image[1024], warm_policy[65], allow_unenforced[128];
	char policies[512]; /* a directory of profiles, searched before the built-in ones */
	char project_ids[32];
	char state[512], scratch[8], core_sched[8], keep_cache[8], log_level[8], log_format[8];
	struct job_limits max_limits;
	char metrics[64];     /* where to serve them: metrics_server_check() */
	struct redis_url url; /* worker_config_check(): redis, with its credentials */
	char file[512];	      /* that was loaded, or "" */
	struct setting_source sources[WORKER_SETTINGS_MAX];
};

extern const struct verb worker_verb;

void worker_config_init(struct worker_config *config);
/* worker_config_set - one setting by its flag's name without dashes ("lease"). Return: 0, -ENOENT unknown, -errno. */
int worker_config_set(struct worker_config *config, const char *name, const char *value, struct err *err);
/* worker_config_load - a file: lines `name = value` and a section [max_limits] (config_file.h), or a JSON object with the same names and
 * max_limits like a job's limits. Faults name file, line and setting. */
int worker_config_load(struct worker_config *config, const char *path, struct err *err);
/* worker_config_read - the same of a text; @name: of the file, for messages. */
int worker_config_read(struct worker_config *config, const char *name, const char *text, size_t len, struct err *err);
/* worker_config_environment - PETRI_WORKER_X for each setting x, and the variables that other verbs share. @environment: as environ(7).
 * One that begins alike and means nothing is an error. */
int worker_config_environment(struct worker_config *config, char *const *environment, struct err *err);
/* worker_config_check - once all is set: what one value alone does not show. Reads the credentials file and fills config->url. */
int worker_config_check(struct worker_config *config, struct err *err);

/* worker_config_print - every setting and where it came from, as a file that worker_config_load() takes. No credentials. */
void worker_config_print(const struct worker_config *config, FILE *f);
/* worker_config_print_default - a file that says what can be set, all of it commented out. */
void worker_config_print_default(FILE *f);

struct worker_fds;
int worker_main(const struct worker_fds *fds, void *config); /* supervisor_config's worker */

/* ---- between the files of the configuration ---- */
/* setting_next - walk all settings, as option_next() does; setting_index - a setting's place among them. */
const struct option *setting_next(const struct option *setting);
unsigned setting_index(const struct option *setting);
/* setting_find - by name as in the file, in this section ("", "max_limits"); NULL when there is none. */
const struct option *setting_find(const char *section, const char *name);
/* setting_apply - set, and note from where. Return: 0 or -errno with a message that does not name the setting. */
int setting_apply(struct worker_config *config, const struct option *setting, const char *value, struct setting_source source, struct err *err);
/* setting_variable - its own variable's name: "PETRI_WORKER_MAX_ATTEMPTS". */
void setting_variable(const struct option *setting, char ret[64]);
/* worker_config_read_json - a configuration that is a JSON object. */
int worker_config_read_json(struct worker_config *config, const char *name, const char *text, size_t len, struct err *err);
