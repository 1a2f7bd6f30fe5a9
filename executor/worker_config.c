/* petri worker's settings: from a file, the environment and flags, each over the last. Root, before anything else is started. */
#include "executor/worker.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse.h"
#include "executor/config_file.h"
#include "executor/limits.h"
#include "executor/metrics_http.h"
#include "executor/redis_options.h"
#include "executor/supervisor.h"
#include "executor/unenforced.h"
#include "pool/wire.h"

#define MAX_LIMITS "max_limits"

void worker_config_init(struct worker_config *c)
{
	memset(c, 0, sizeof(*c));
	(void)snprintf(c->redis, sizeof(c->redis), "%s", REDIS_DEFAULT);
	(void)snprintf(c->prefix, sizeof(c->prefix), "petri");
	if (gethostname(c->name, sizeof(c->name) - 1) < 0)
		(void)snprintf(c->name, sizeof(c->name), "worker");
	c->slots = (unsigned)MIN(MAX(get_nprocs(), 1), POOL_SLOTS_MAX);
	c->lease_ms = 30000;
	c->result_ttl_ms = 3600000;
	c->grace_ms = 30000;
	c->max_attempts = 3;
	c->max_limits = job_limits_ceiling;
	/* A byte of output may take six in JSON, there are two streams, and a Redis string ends at 512 MiB. */
	c->max_limits.output_bytes = 32u << 20;
	(void)snprintf(c->metrics, sizeof(c->metrics), "off");
	(void)snprintf(c->policies, sizeof(c->policies), "/etc/petri/policies");
	(void)snprintf(c->state, sizeof(c->state), "%s", DEFAULT_STATE);
	(void)snprintf(c->scratch, sizeof(c->scratch), "auto");
	(void)snprintf(c->core_sched, sizeof(c->core_sched), "off");
	(void)snprintf(c->keep_cache, sizeof(c->keep_cache), "on");
	(void)snprintf(c->log_level, sizeof(c->log_level), "warn");
	(void)snprintf(c->log_format, sizeof(c->log_format), "text");
}

/* ---- the settings among the verb's options ---- */
const struct option *setting_next(const struct option *setting)
{
	do
		setting = option_next(&worker_verb, setting);
	while (setting && setting->command_only);
	return setting;
}

unsigned setting_index(const struct option *setting)
{
	unsigned n = 0;
	for (const struct option *s = setting_next(NULL); s && s != setting; s = setting_next(s))
		n++;
	return MIN(n, WORKER_SETTINGS_MAX - 1u);
}

static bool is_limit(const struct option *setting)
{
	return setting->kind == OPTION_CALL;
}

const struct option *setting_find(const char *section, const char *name)
{
	bool limits = strcmp(section, MAX_LIMITS) == 0;
	char flag[80];
	(void)snprintf(flag, sizeof(flag), "%s%.60s", limits ? "max-" : "", name);
	const struct option *setting = option_find(&worker_verb, flag, strlen(flag));
	if (!setting || setting->command_only || (!limits && *section) || is_limit(setting) != limits)
		return NULL;
	return setting;
}

void setting_variable(const struct option *setting, char ret[64])
{
	(void)snprintf(ret, 64, WORKER_ENV "%.40s", setting->name);
	for (char *p = ret; *p; p++)
		if (*p == '-')
			*p = '_';
		else
			*p = (char)toupper((unsigned char)*p);
}

int setting_apply(struct worker_config *config, const struct option *setting, const char *value, struct setting_source source, struct err *err)
{
	int r = option_set(config, setting, value, err);
	if (r == 0)
		config->sources[setting_index(setting)] = source;
	return r;
}

int worker_config_set(struct worker_config *c, const char *name, const char *value, struct err *err)
{
	const struct option *setting = option_find(&worker_verb, name, strlen(name));
	if (!setting || setting->command_only)
		return err_say(err, ENOENT, "unknown setting '%s'", name);
	int r = setting_apply(c, setting, value, (struct setting_source){.origin = ORIGIN_FLAG}, err);
	return r < 0 ? err_wrap(err, "%s", name) : 0;
}

/* ---- a file ---- */
static int unknown(const char *section, const char *key, struct err *err)
{
	const struct limit *limit = limits_find(key);
	if (*section && strcmp(section, MAX_LIMITS) != 0)
		return err_say(err, ENOENT, "unknown section [%s]: there is only [" MAX_LIMITS "]", section);
	if (*section && limit && limit->flag)
		return err_say(err, ENOENT, "unknown setting '%s' in [" MAX_LIMITS "]: it is called '%s' here, with a unit", key, limit->flag);
	return err_say(err, ENOENT, "unknown setting '%s'%s", key, *section ? " in [" MAX_LIMITS "]" : "");
}

static int take_setting(void *ctx, const char *section, const char *key, const char *value, unsigned line, struct err *err)
{
	struct worker_config *c = ctx;
	const struct option *setting = setting_find(section, key);
	if (!setting)
		return unknown(section, key, err);
	const struct setting_source *before = &c->sources[setting_index(setting)];
	if (before->origin == ORIGIN_FILE)
		return err_say(err, EINVAL, "%s is given twice, first in line %u", key, before->line);
	if (setting->kind == OPTION_SWITCH && !*value)
		return err_say(err, EINVAL, "%s is true or false", key);
	int r = setting_apply(c, setting, value, (struct setting_source){.origin = ORIGIN_FILE, .line = line}, err);
	return r < 0 ? err_wrap(err, "%s", key) : 0;
}

int worker_config_read(struct worker_config *c, const char *name, const char *text, size_t len, struct err *err)
{
	size_t blank = 0;
	while (blank < len && strchr(" \t\r\n", text[blank]) && text[blank])
		blank++;
	(void)snprintf(c->file, sizeof(c->file), "%s", name);
	if (blank < len && text[blank] == '{')
		return worker_config_read_json(c, name, text, len, err);
	return config_parse(name, text, len, take_setting, c, err);
}

int worker_config_load(struct worker_config *c, const char *path, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = fd_read_file(AT_FDCWD, path, CONFIG_FILE_MAX, &text, &len, err);
	return r < 0 ? r : worker_config_read(c, path, text, len, err);
}

/* ---- the environment ---- */
static int take_variable(struct worker_config *c, const struct option *setting, char *const *environment, const char *name, const char *kept, struct err *err)
{
	size_t len = strlen(name);
	for (; *environment; environment++) {
		const char *value = *environment + len + 1;
		if (strncmp(*environment, name, len) != 0 || (*environment)[len] != '=' || !*value)
			continue;
		int r = setting_apply(c, setting, value, (struct setting_source){.origin = ORIGIN_ENVIRONMENT, .variable = kept}, err);
		return r < 0 ? err_wrap(err, "%s", name) : 0;
	}
	return 0;
}

static bool is_known(const char *variable, size_t len)
{
	char name[64];
	for (const struct option *s = NULL; (s = setting_next(s));) {
		setting_variable(s, name);
		if (strlen(name) == len && memcmp(name, variable, len) == 0)
			return true;
	}
	return len == strlen(WORKER_ENV "CONFIG") && memcmp(variable, WORKER_ENV "CONFIG", len) == 0;
}

int worker_config_environment(struct worker_config *c, char *const *environment, struct err *err)
{
	int r = 0;
	for (const struct option *s = NULL; r == 0 && (s = setting_next(s));) {
		char name[64];
		setting_variable(s, name);
		if (s->env)
			r = take_variable(c, s, environment, s->env, s->env, err);
		if (r == 0)
			r = take_variable(c, s, environment, name, NULL, err);
	}
	for (; r == 0 && *environment; environment++) {
		size_t len = strcspn(*environment, "=");
		if (strncmp(*environment, WORKER_ENV, strlen(WORKER_ENV)) == 0 && !is_known(*environment, len))
			r = err_say(err, ENOENT, "the environment has %.*s, and there is no such setting", (int)MIN(len, (size_t)80), *environment);
	}
	return r;
}

/* ---- all together ---- */
/* Put where a setting came from before a message about it. */
static int blame(const struct worker_config *c, const char *name, struct err *err)
{
	char variable[64];
	const struct option *setting = option_find(&worker_verb, name, strlen(name));
	const struct setting_source *source = &c->sources[setting_index(setting)];
	switch (source->origin) {
	case ORIGIN_FILE:
		return err_wrap(err, "%s:%u: %s", c->file, source->line, name);
	case ORIGIN_ENVIRONMENT:
		setting_variable(setting, variable);
		return err_wrap(err, "%s", source->variable ? source->variable : variable);
	case ORIGIN_FLAG:
		return err_wrap(err, "--%s", name);
	default:
		return err_wrap(err, "%s", name);
	}
}

/* "IMAGE[=SLOTS],…"; whether there are such images is seen by the worker. */
static int check_warm(const char *list, struct err *err)
{
	char copy[sizeof(((struct worker_config *)NULL)->warm_image)];
	(void)snprintf(copy, sizeof(copy), "%s", list);
	for (char *rest = copy, *item; *copy && (item = strsep(&rest, ","));) {
		uint64_t slots = 0;
		char *equals = strchr(item, '=');
		int r = equals ? parse_u64(equals + 1, &slots, err) : 0;
		if (r == 0 && (!*item || item == equals))
			r = err_say(err, EINVAL, "an image's name is empty");
		if (r == 0 && slots > POOL_SLOTS_MAX)
			r = err_say(err, ERANGE, "%.100s keeps more than %d slots", item, POOL_SLOTS_MAX);
		if (r < 0)
			return r;
	}
	return 0;
}

int worker_config_check(struct worker_config *c, struct err *err)
{
	const struct option *redis = option_find(&worker_verb, "redis", strlen("redis"));
	/* In an environment nobody else can read it; a file may be anybody's, and a command line is everybody's. */
	bool may_have_credentials = c->sources[setting_index(redis)].origin == ORIGIN_ENVIRONMENT;
	if (redis_url_parse(c->redis, may_have_credentials, &c->url, err) < 0)
		return blame(c, "redis", err);
	if (c->redis_credentials_file[0] && redis_credentials_load(c->redis_credentials_file, &c->url, err) < 0)
		return blame(c, "redis-credentials-file", err);
	if (!redis_prefix_valid(c->prefix)) {
		(void)err_say(err, EINVAL, "1 to 64 of letters, digits and . _ { } -");
		return blame(c, "prefix", err);
	}
	if (!job_id_valid(c->name)) {
		(void)err_say(err, EINVAL, "a worker's name is 1 to 127 of letters, digits and . _ -");
		return blame(c, "name", err);
	}
	if (metrics_server_check(c->metrics, err) < 0)
		return blame(c, "metrics", err);
	if (unenforced_check(c->allow_unenforced, err) < 0)
		return blame(c, "allow-unenforced", err);
	return check_warm(c->warm_image, err) < 0 ? blame(c, "warm-image", err) : 0;
}
