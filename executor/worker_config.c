/* petri worker's settings, from flags and a file. Table-driven, so that flags, file and help are the same list. */
#include "executor/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse.h"
#include "executor/limits.h"
#include "pool/wire.h"

enum kind {
	TEXT,
	COUNT,
	DURATION,
	SWITCH
};

static const struct setting {
	const char *name;
	enum kind kind;
	size_t offset, size;
	uint64_t min, max;
} settings[] = {
#define AT(field) offsetof(struct worker_config, field), sizeof(((struct worker_config *)NULL)->field)
	{"redis", TEXT, AT(redis), 0, 0},
	{"prefix", TEXT, AT(prefix), 0, 0},
	{"name", TEXT, AT(name), 0, 0},
	{"slots", COUNT, AT(slots), 1, POOL_SLOTS_MAX},
	{"lease", DURATION, AT(lease_ms), 300, 86400000},
	{"result-ttl", DURATION, AT(result_ttl_ms), 1000, 2592000000},
	{"grace", DURATION, AT(grace_ms), 0, 86400000},
	{"max-attempts", COUNT, AT(max_attempts), 1, 100},
	{"allow-volatile-redis", SWITCH, AT(allow_volatile), 0, 0},
	{"pin", SWITCH, AT(pin), 0, 0},
	{"warm-image", TEXT, AT(warm_image), 0, 0},
	{"warm-policy", TEXT, AT(warm_policy), 0, 0},
	{"policies", TEXT, AT(policies), 0, 0},
	{"project-ids", TEXT, AT(project_ids), 0, 0},
	{"metrics", TEXT, AT(metrics), 0, 0},
#undef AT
};

void worker_config_init(struct worker_config *c)
{
	memset(c, 0, sizeof(*c));
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
}

static const struct setting *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

static int store_number(const struct setting *s, void *at, uint64_t v, struct err *err)
{
	if (v < s->min || v > s->max)
		return err_say(err, ERANGE, "%s must be from %llu to %llu%s", s->name, (unsigned long long)s->min,
			(unsigned long long)s->max, s->kind == DURATION ? " ms" : "");
	if (s->size == sizeof(unsigned))
		*(unsigned *)at = (unsigned)v;
	else
		*(uint64_t *)at = v;
	return 0;
}

int worker_config_set(struct worker_config *c, const char *name, const char *value, struct err *err)
{
	const struct setting *s = find(name);
	uint64_t v;
	if (!s)
		return err_say(err, ENOENT, "unknown setting '%s'", name);
	void *at = (char *)c + s->offset;
	int r;
	switch (s->kind) {
	case TEXT:
		if (strlen(value) >= s->size)
			return err_say(err, E2BIG, "%s is longer than %zu bytes", name, s->size - 1);
		(void)snprintf(at, s->size, "%s", value);
		return 0;
	case SWITCH:
		if (*value && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
			return err_say(err, EINVAL, "%s is true or false, not '%s'", name, value);
		*(bool *)at = strcmp(value, "false") != 0;
		return 0;
	case DURATION:
		r = parse_duration_ms(value, &v, err);
		break;
	default:
		r = parse_u64(value, &v, err);
	}
	return r < 0 ? err_wrap(err, "%s", name) : store_number(s, at, v, err);
}

static int load_max_limits(struct worker_config *c, json_t *value, struct err *err)
{
	struct reject why = {0};
	if (limits_json(&c->max_limits, value, "max_limits", &job_limits_ceiling, &why) != 0)
		return err_say(err, EINVAL, "%s: %s", why.field, why.message);
	return 0;
}

int worker_config_load(struct worker_config *c, const char *path, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	json_error_t where;
	int r = fd_read_file(AT_FDCWD, path, 1 << 20, &text, &len, err);
	if (r < 0)
		return r;
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	const char *key;
	json_t *value;
	if (!json_is_object(o)) {
		json_decref(o);
		return err_say(err, EINVAL, "%s is not a JSON object: %.200s", path, where.text);
	}
	json_object_foreach(o, key, value)
	{
		const struct setting *s = find(key);
		if (strcmp(key, "max_limits") == 0)
			r = load_max_limits(c, value, err);
		else if (s && s->kind == SWITCH && json_is_boolean(value))
			*(bool *)((char *)c + s->offset) = json_is_true(value);
		else if (s && s->kind == COUNT && json_is_integer(value) && json_integer_value(value) >= 0)
			r = store_number(s, (char *)c + s->offset, (uint64_t)json_integer_value(value), err);
		else if (s && (s->kind == TEXT || s->kind == DURATION) && json_is_string(value))
			r = worker_config_set(c, key, json_string_value(value), err);
		else
			r = err_say(err, EINVAL, s ? "'%s' has a value of the wrong type" : "unknown setting '%s'", key);
		if (r < 0) {
			(void)err_wrap(err, "%s", path);
			break;
		}
	}
	json_decref(o);
	return r;
}
