/* "collect": what is taken out of a finished job. Hostile JSON. */
#include <errno.h>
#include <string.h>

#include "executor/job_json.h"

static const char *as_name(unsigned as)
{
	static const char *const names[] = {"blob", "inline"};
	return names[as];
}

static int read_path(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job_collect *collect = ctx;
	return job_json_string(value, field, SIZE_MAX, &collect->path, reject);
}

static int read_optional(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job_collect *collect = ctx;
	return job_json_bool(value, field, &collect->optional, reject);
}

static int read_as(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job_collect *collect = ctx;
	unsigned as;
	int r = job_json_choice(value, field, as_name, 2, &as, reject);
	if (r == 0)
		collect->as_inline = as == 1;
	return r;
}

static int read_max_bytes(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job_collect *collect = ctx;
	uint64_t bytes;
	int r = job_json_u64(value, field, " bytes", &bytes, reject);
	if (r == 0 && bytes == 0)
		r = reject_set(reject, field, REJECT_INVALID, "0 is too little: the least is 1 byte");
	if (r == 0)
		collect->max_bytes = bytes;
	return r;
}

static const struct job_field fields[] = {
	{"path", read_path}, {"optional", read_optional}, {"as", read_as}, {"max_bytes", read_max_bytes}, {NULL, NULL}};

int job_read_collect(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job *job = ctx;
	if (!json_is_array(value))
		return reject_set(reject, field, REJECT_INVALID, "must be an array");
	size_t n = json_array_size(value);
	if (n > JOB_COLLECT_MAX)
		return reject_set(
			reject, field, REJECT_TOO_LARGE, "%zu paths are too many: the most is %d", n, JOB_COLLECT_MAX);
	job->collect = calloc(n ? n : 1, sizeof(*job->collect));
	if (!job->collect)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		char name[JOB_FIELD_MAX];
		job_field_text(name, sizeof(name), "%s[%zu]", field, i);
		json_t *item = json_array_get(value, i);
		struct job_collect *collect = &job->collect[job->ncollect++];
		int r = json_is_string(item) ? read_path(collect, item, name, reject)
					     : job_fields_read(fields, item, name, collect, reject);
		if (r != 0)
			return r;
		if (!collect->path)
			return reject_set(reject, name, REJECT_INVALID, "must be a path, or an object with one");
	}
	return 0;
}
