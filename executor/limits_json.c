/* The "limits" object of a job or of a worker's configuration. Hostile JSON; a fault is a refusal by field.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "executor/job_json.h"
#include "executor/limits.h"

struct reader {
	struct job_limits limits;
	const struct job_limits *max;
	struct reject *reject;
};

static int read_cpus(struct reader *reader, const struct limit *limit, json_t *value, const char *field)
{
	if (!json_is_number(value))
		return reject_set(reader->reject, field, REJECT_INVALID, "must be a number of CPUs, such as 0.5");
	double cpus = json_number_value(value);
	if (cpus < 0)
		return reject_set(reader->reject, field, REJECT_INVALID, "must not be negative: the least is 0.01");
	/* Rounded to thousandths; far above every bound it is only kept from overflowing. */
	uint64_t milli = (uint64_t)(MIN(cpus, 1e9) * 1000 + 0.5);
	int r = limits_check_one(limit, milli, reader->max, field, reader->reject);
	if (r == 0)
		limits_set(&reader->limits, limit, milli);
	return r;
}

static int read_cpuset(struct reader *reader, json_t *value, const char *field)
{
	const char *text = json_string_value(value);
	if (!text || strlen(text) != json_string_length(value) || parse_cpu_list(text, NULL, NULL) < 0)
		return reject_set(reader->reject, field, REJECT_INVALID, "must be a CPU list such as \"0-1,3\"");
	if (strlen(text) >= sizeof(reader->limits.cpuset))
		return reject_set(reader->reject, field, REJECT_TOO_LARGE, "a CPU list has at most %zu characters",
			sizeof(reader->limits.cpuset) - 1);
	memcpy(reader->limits.cpuset, text, strlen(text) + 1);
	return 0;
}

static int read_limit(struct reader *reader, const struct limit *limit, json_t *value, const char *field)
{
	if (limit->kind == LIMIT_CPUS)
		return read_cpus(reader, limit, value, field);
	if (limit->kind == LIMIT_CPUSET)
		return read_cpuset(reader, value, field);
	uint64_t v;
	int r = job_json_u64(value, field, limit->unit, &v, reader->reject);
	if (r == 0)
		r = limits_check_one(limit, v, reader->max, field, reader->reject);
	if (r == 0)
		limits_set(&reader->limits, limit, v);
	return r;
}

/* The members of the limits object (prefix "") or of its io (prefix "io."). */
static int read_members(struct reader *reader, json_t *object, const char *prefix, const char *parent)
{
	if (!json_is_object(object))
		return reject_set(reader->reject, parent, REJECT_INVALID, "must be an object");
	const char *key;
	json_t *value;
	json_object_foreach(object, key, value)
	{
		char field[JOB_FIELD_MAX], name[64];
		job_field_join(field, parent, key);
		job_field_text(name, sizeof(name), "%s%s", prefix, key);
		/* "io.rbps" as one key is no way to say it. */
		const struct limit *limit = strchr(key, '.') ? NULL : limits_find(name);
		bool io = !*prefix && strcmp(key, "io") == 0;
		if (!limit && !io)
			return reject_set(reader->reject, field, REJECT_INVALID, "unknown field");
		if (json_is_null(value))
			continue;
		int r = io ? read_members(reader, value, "io.", field) : read_limit(reader, limit, value, field);
		if (r != 0)
			return r;
	}
	return 0;
}

int limits_json(struct job_limits *limits, json_t *object, const char *parent, const struct job_limits *max,
	struct reject *reject)
{
	struct reader reader = {.limits = *limits, .max = max, .reject = reject};
	int r = read_members(&reader, object, "", parent);
	if (r == 0)
		*limits = reader.limits;
	return r;
}
