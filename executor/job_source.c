/* Where a job's input comes from: "stdin" and "files", each as data, base64 or a blob. Hostile JSON. */
#include <errno.h>
#include <string.h>

#include "executor/base64.h"
#include "executor/job_json.h"

static int read_data(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job_source *source = ctx;
	if (!json_is_string(value))
		return reject_set(reject, field, REJECT_INVALID, "must be a string");
	size_t len = json_string_length(value);
	char *data = malloc(len + 1);
	if (!data)
		return -ENOMEM;
	memcpy(data, json_string_value(value), len + 1);
	source->kind = JOB_SOURCE_DATA;
	source->data = data;
	source->len = len;
	return 0;
}

static int read_base64(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job_source *source = ctx;
	if (!json_is_string(value))
		return reject_set(reject, field, REJECT_INVALID, "must be a string");
	struct err err = ERR_INIT;
	int r = base64_decode(json_string_value(value), json_string_length(value), &source->data, &source->len, &err);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return reject_set(reject, field, REJECT_INVALID, "not base64: %s", err_msg(&err));
	source->kind = JOB_SOURCE_DATA;
	return 0;
}

static int read_blob(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job_source *source = ctx;
	int r = job_json_id128(value, field, source->blob, reject);
	if (r == 0)
		source->kind = JOB_SOURCE_BLOB;
	return r;
}

/* "0644": up to four octal digits of permission bits. */
static int read_mode(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job_file *file = ctx;
	const char *text = json_string_value(value);
	size_t len = text ? json_string_length(value) : 0;
	if (len < 3 || len > 4 || strspn(text, "01234567") != len)
		return reject_set(reject, field, REJECT_INVALID, "must be a string of octal digits such as \"0644\"");
	unsigned long mode = strtoul(text, NULL, 8);
	if (mode > 0777)
		return reject_set(
			reject, field, REJECT_INVALID, "setuid, setgid and sticky bits are not for jobs: at most 0777");
	file->mode = (uint32_t)mode;
	return 0;
}

static int read_file_data(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return read_data(&((struct job_file *)ctx)->source, value, field, reject);
}

static int read_file_base64(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return read_base64(&((struct job_file *)ctx)->source, value, field, reject);
}

static int read_file_blob(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	return read_blob(&((struct job_file *)ctx)->source, value, field, reject);
}

static const struct job_field stdin_fields[] = {
	{"data", read_data}, {"base64", read_base64}, {"blob", read_blob}, {NULL, NULL}};
static const struct job_field file_fields[] = {{"data", read_file_data}, {"base64", read_file_base64},
	{"blob", read_file_blob}, {"mode", read_mode}, {NULL, NULL}};

/* Before anything is read, so that no source is read over another. */
static int check_one_source(json_t *object, const char *field, struct reject *reject)
{
	unsigned given = 0;
	for (const struct job_field *f = stdin_fields; f->name; f++) {
		json_t *value = json_object_get(object, f->name);
		given += value && !json_is_null(value);
	}
	if (json_is_object(object) && given != 1)
		return reject_set(reject, field, REJECT_INVALID, "must have exactly one of data, base64 and blob");
	return 0;
}

int job_read_stdin(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job *job = ctx;
	int r = check_one_source(value, field, reject);
	return r != 0 ? r : job_fields_read(stdin_fields, value, field, &job->stdin_source, reject);
}

int job_read_files(void *ctx, json_t *value, const char *field, struct reject *reject)
{
	struct job *job = ctx;
	if (!json_is_object(value))
		return reject_set(reject, field, REJECT_INVALID, "must be an object of paths");
	size_t n = json_object_size(value);
	if (n > JOB_FILES_MAX)
		return reject_set(
			reject, field, REJECT_TOO_LARGE, "%zu files are too many: the most is %d", n, JOB_FILES_MAX);
	job->files = calloc(n ? n : 1, sizeof(*job->files));
	if (!job->files)
		return -ENOMEM;
	const char *path;
	json_t *object;
	json_object_foreach(value, path, object)
	{
		char name[JOB_FIELD_MAX];
		job_field_join(name, field, path);
		struct job_file *file = &job->files[job->nfiles++];
		*file = (struct job_file){.path = strdup(path), .mode = 0644};
		if (!file->path)
			return -ENOMEM;
		int r = check_one_source(object, name, reject);
		if (r == 0)
			r = job_fields_read(file_fields, object, name, file, reject);
		if (r != 0)
			return r;
	}
	return 0;
}
