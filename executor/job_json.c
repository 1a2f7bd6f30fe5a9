/*
 * job_parse(): a job document, 8 MiB of hostile bytes at most, into a struct job. Runs without privileges.
 * The text is scanned (job_scan.c), built into a tree by jansson, read by the tables here and in
 * job_source.c, job_collect.c and limits_json.c, and checked as a whole by job_check(). A fault is a refusal
 * by field.
 */
#include "executor/job_json.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "executor/limits.h"

static int read_id(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job *job = ctx;
	const char *id = json_string_value(value);
	if (!id || strlen(id) != json_string_length(value) || !job_id_valid(id))
		return reject_set(reject, field, REJECT_INVALID, "must be 1 to %d letters, digits and ._-", JOB_ID_MAX);
	memcpy(job->id, id, strlen(id) + 1);
	return 0;
}

/* Stops json_dump_callback() as soon as there is too much. */
static int count_bytes(const char *text, size_t len, void *data)
{
	size_t *bytes = data;
	*bytes += len;
	return *bytes > JOB_META_MAX ? -1 : 0;
}

static int read_meta(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job *job = ctx;
	size_t bytes = 0;
	int r = json_dump_callback(value, count_bytes, &bytes, JSON_COMPACT | JSON_ENCODE_ANY);
	if (bytes > JOB_META_MAX)
		return reject_set(
			reject, field, REJECT_TOO_LARGE, "at most %d bytes, when written compactly", JOB_META_MAX);
	if (r < 0)
		return -ENOMEM;
	json_decref(job->meta);
	job->meta = json_incref(value);
	return 0;
}

static int read_reply(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return job_json_name(value, field, "._-", &((struct job *)ctx)->reply, reject);
}

static int read_tenant(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return job_json_name(value, field, "._-", &((struct job *)ctx)->tenant, reject);
}

static int read_worker(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return job_json_name(value, field, "._-", &((struct job *)ctx)->worker, reject);
}

static int read_image(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return job_json_name(value, field, "._:/@-", &((struct job *)ctx)->image, reject);
}

static int read_policy(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return job_json_name(value, field, "._-", &((struct job *)ctx)->policy, reject);
}

static int read_layers(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job *job = ctx;
	if (!json_is_array(value))
		return reject_set(reject, field, REJECT_INVALID, "must be an array");
	size_t n = json_array_size(value);
	if (n > JOB_LAYERS_MAX)
		return reject_set(
			reject, field, REJECT_TOO_LARGE, "%zu layers are too many: the most is %d", n, JOB_LAYERS_MAX);
	for (size_t i = 0; i < n; i++) {
		char name[JOB_FIELD_MAX];
		job_field_text(name, sizeof(name), "%s[%zu]", field, i);
		int r = job_json_id128(json_array_get(value, i), name, job->layers[i], reject);
		if (r != 0)
			return r;
	}
	job->nlayers = n;
	return 0;
}

static int read_strings(json_t *value, const char *field, char ***ret, struct reject *reject)
{
	if (!json_is_array(value))
		return reject_set(reject, field, REJECT_INVALID, "must be an array of strings");
	size_t n = json_array_size(value);
	char **strings = calloc(n + 1, sizeof(*strings));
	if (!strings)
		return -ENOMEM;
	*ret = strings; /* job_clear() frees what there is of it */
	for (size_t i = 0; i < n; i++) {
		char name[JOB_FIELD_MAX];
		job_field_text(name, sizeof(name), "%s[%zu]", field, i);
		int r = job_json_string(json_array_get(value, i), name, SIZE_MAX, &strings[i], reject);
		if (r != 0)
			return r;
	}
	return 0;
}

static int read_argv(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return read_strings(value, field, &((struct job *)ctx)->argv, reject);
}

static int read_env(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return read_strings(value, field, &((struct job *)ctx)->env, reject);
}

static int read_cwd(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return job_json_string(value, field, SIZE_MAX, &((struct job *)ctx)->cwd, reject);
}

static int read_commit(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return job_json_string(value, field, SIZE_MAX, &((struct job *)ctx)->commit, reject);
}

static const char *network_name(unsigned network)
{
	return job_network_name((enum job_network)network);
}

static int read_network(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job *job = ctx;
	unsigned network = job->network;
	int r = job_json_choice(value, field, network_name, JOB_NETWORK_MAX, &network, reject);
	job->network = (enum job_network)network;
	return r;
}

static const char *priority_name(unsigned priority)
{
	return job_priority_name((enum job_priority)priority);
}

static int read_priority(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job *job = ctx;
	unsigned priority = job->priority;
	int r = job_json_choice(value, field, priority_name, JOB_PRIORITY_MAX, &priority, reject);
	job->priority = (enum job_priority)priority;
	return r;
}

static int read_not_after(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job *job = ctx;
	int r = job_json_u64(value, field, " ms since 1970", &job->not_after_ms, reject);
	/* 0 would read as "never" further on, and mean the opposite of what it says. */
	if (r == 0 && job->not_after_ms == 0)
		return reject_set(reject, field, REJECT_INVALID, "0 is too little: the least is 1 ms since 1970");
	return r;
}

/* What a refusal carries home: read first, and all of it whatever is wrong with one. */
static const struct job_field identity[] = {{"id", read_id}, {"meta", read_meta}, {"reply", read_reply}, {NULL, NULL}};

static const struct job_field fields[] = {
	{"id", NULL},
	{"meta", NULL},
	{"reply", NULL},
	{"limits", NULL}, /* by limits_json(), which needs the worker's */
	{"image", read_image},
	{"layers", read_layers},
	{"argv", read_argv},
	{"env", read_env},
	{"cwd", read_cwd},
	{"policy", read_policy},
	{"network", read_network},
	{"stdin", job_read_stdin},
	{"files", job_read_files},
	{"collect", job_read_collect},
	{"commit", read_commit},
	{"priority", read_priority},
	{"tenant", read_tenant},
	{"not_after_ms", read_not_after},
	{"worker", read_worker},
	{NULL, NULL},
};

static int read_identity(json_t *root, struct job *job, struct reject *reject)
{
	int ret = 0;
	for (const struct job_field *f = identity; f->name; f++) {
		json_t *value = json_object_get(root, f->name);
		if (!value || json_is_null(value))
			continue;
		struct reject one = {0};
		int r = f->read(job, value, f->name, &one);
		if (r < 0)
			return r;
		if (r > 0 && ret == 0) {
			*reject = one;
			ret = r;
		}
	}
	return ret;
}

static int read_document(json_t *root, const struct job_limits *max, struct job *job, struct reject *reject)
{
	int r = read_identity(root, job, reject);
	if (r == 0)
		r = job_fields_read(fields, root, "", job, reject);
	if (r != 0)
		return r;
	limits_cap(&job->limits, max);
	json_t *limits = json_object_get(root, "limits");
	if (!limits || json_is_null(limits))
		return 0;
	return limits_json(&job->limits, limits, "limits", max, reject);
}

/* The path of the first number that no 64-bit integer holds. job_scan() has bounded the depth. */
static bool find_huge(json_t *value, const char *path, char ret[JOB_FIELD_MAX])
{
	char name[JOB_FIELD_MAX];
	const char *key;
	json_t *item;
	size_t i;
	if (json_is_real(value) && fabs(json_real_value(value)) >= 0x1p63) {
		job_field_text(ret, JOB_FIELD_MAX, "%s", path);
		return true;
	}
	json_object_foreach(value, key, item)
	{
		job_field_join(name, path, key);
		if (find_huge(item, name, ret))
			return true;
	}
	json_array_foreach(value, i, item)
	{
		job_field_text(name, sizeof(name), "%s[%zu]", path, i);
		if (find_huge(item, name, ret))
			return true;
	}
	return false;
}

/*
 * jansson refuses a document with an integer beyond 64 bits as a whole and does not say where it is. Read as
 * reals, the numbers can be searched, so that the refusal names the limit. Not for meta: its integers would
 * be echoed as reals.
 */
static int refuse_huge(const char *json, size_t len, struct job *job, struct reject *reject)
{
	char field[JOB_FIELD_MAX] = "";
	_cleanup_json_ json_t *root = json_loadb(
		json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
	_cleanup_json_ json_t *meta = json_incref(json_object_get(root, "meta"));
	(void)json_object_del(root, "meta");
	int r = read_identity(root, job, reject);
	if (r < 0)
		return r;
	if (!find_huge(root, "", field))
		(void)find_huge(meta, "meta", field);
	return reject_set(
		reject, field, REJECT_TOO_LARGE, "a number is too large: the most is %lld", (long long)INT64_MAX);
}

int job_parse(const char *json, size_t len, const struct job_limits *max, struct job *ret, struct reject *reject)
{
	job_init(ret);
	*reject = (struct reject){0};
	if (len > JOB_JSON_MAX)
		return reject_set(
			reject, "", REJECT_TOO_LARGE, "a job of %zu bytes: the most is %u", len, JOB_JSON_MAX);
	int r = job_scan(json, len, reject);
	if (r != 0)
		return r;
	json_error_t error;
	_cleanup_json_ json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (!root) {
		if (json_error_code(&error) == json_error_out_of_memory)
			return -ENOMEM;
		if (json_error_code(&error) == json_error_numeric_overflow)
			return refuse_huge(json, len, ret, reject);
		return reject_set(reject, "", REJECT_INVALID, "not JSON: %s (line %d, column %d)", error.text,
			error.line, error.column);
	}
	if (!max)
		max = &job_limits_ceiling;
	r = read_document(root, max, ret, reject);
	return r != 0 ? r : job_check(ret, max, reject);
}
