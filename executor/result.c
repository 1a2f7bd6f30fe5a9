/*
 * A result: its JSON, its exit code for `petri run`, its release. Pure memory. The JSON is written in the
 * documented order, every key always present; only meta is a jansson tree.
 */
#include "executor/result.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "executor/result_text.h"

/* Name, and the exit code of `petri run`; 0 where it depends on the result. */
static const struct {
	const char *name;
	int exit_code;
} statuses[STATUS_MAX] = {
	[STATUS_EXITED] = {"exited", 0},
	[STATUS_SIGNALED] = {"signaled", 0},
	[STATUS_CPU_LIMIT] = {"cpu_limit", 124},
	[STATUS_WALL_LIMIT] = {"wall_limit", 124},
	[STATUS_MEMORY_LIMIT] = {"memory_limit", 137},
	[STATUS_OUTPUT_LIMIT] = {"output_limit", 153},
	[STATUS_DISK_LIMIT] = {"disk_limit", 122},
	[STATUS_VIOLATION] = {"violation", 159},
	[STATUS_EXEC_FAILED] = {"exec_failed", 0},
	[STATUS_CANCELLED] = {"cancelled", 130},
	[STATUS_REJECTED] = {"rejected", 125},
	[STATUS_INTERNAL_ERROR] = {"internal_error", 125},
};

const char *job_status_name(enum job_status status)
{
	return statuses[status < STATUS_MAX ? status : STATUS_INTERNAL_ERROR].name;
}

enum job_status job_status_from_name(const char *name)
{
	unsigned i = 0;
	while (i < STATUS_MAX && strcmp(name, statuses[i].name) != 0)
		i++;
	return (enum job_status)i;
}

int result_exit_code(const struct result *result)
{
	switch (result->status) {
	case STATUS_EXITED:
		return result->exit_code & 0xff;
	case STATUS_SIGNALED:
		return 128 + result->term_signal;
	case STATUS_EXEC_FAILED:
		return result->exit_code == 127 ? 127 : 126;
	default:
		return statuses[result->status < STATUS_MAX ? result->status : STATUS_INTERNAL_ERROR].exit_code;
	}
}

/* ,"key": and the value that follows. */
static void put_key(FILE *f, const char *key)
{
	(void)fprintf(f, ",\"%s\":", key);
}

static void put_string(FILE *f, const char *key, const char *value)
{
	put_key(f, key);
	if (value)
		text_string(f, value, strlen(value));
	else
		(void)fputs("null", f);
}

static void put_int_or_null(FILE *f, const char *key, bool shown, int value)
{
	put_key(f, key);
	if (shown)
		(void)fprintf(f, "%d", value);
	else
		(void)fputs("null", f);
}

static void put_id128(FILE *f, const uint8_t id[16])
{
	char text[ID128_TEXT_MAX];
	format_id128(id, text);
	(void)fprintf(f, "\"%s\"", text);
}

/* An object of counters that lie in one struct; rows in the documented order. */
struct counter {
	const char *name;
	size_t offset;
};

static void put_counters(FILE *f, const char *key, const void *base, const struct counter *rows, size_t n)
{
	put_key(f, key);
	for (size_t i = 0; i < n; i++) {
		uint64_t value;
		memcpy(&value, (const char *)base + rows[i].offset, sizeof(value));
		(void)fprintf(f, "%c\"%s\":%" PRIu64, i ? ',' : '{', rows[i].name, value);
	}
	(void)fputc('}', f);
}

#define USAGE(member) \
	{ \
#member, offsetof(struct usage, member) \
	}
static const struct counter usage_rows[] = {USAGE(wall_us), USAGE(cpu_user_us), USAGE(cpu_system_us),
	USAGE(memory_peak_bytes), USAGE(pids_peak), USAGE(pids_limit_hits), USAGE(io_read_bytes), USAGE(io_write_bytes),
	USAGE(disk_bytes), USAGE(throttled_us), USAGE(oom_kills)};

#define TIMING(member) \
	{ \
#member, offsetof(struct result, timing.member) \
	}
static const struct counter timing_rows[] = {
	TIMING(queued_us), TIMING(dispatch_us), TIMING(exec_us), TIMING(collect_us)};

static void put_stream(FILE *f, const char *key, const struct result_stream *stream)
{
	put_key(f, key);
	(void)fputc('{', f);
	text_data(f, stream->data, stream->len);
	(void)fprintf(f, ",\"truncated\":%s}", stream->truncated ? "true" : "false");
}

static void put_files(FILE *f, const struct result *result)
{
	put_key(f, "files");
	(void)fputc('{', f);
	for (size_t i = 0; i < result->nfiles; i++) {
		const struct result_file *file = &result->files[i];
		if (i)
			(void)fputc(',', f);
		text_string(f, file->path, strlen(file->path));
		(void)fputs(":{", f);
		if (file->as_inline) {
			text_data(f, file->data, file->len);
		} else {
			(void)fputs("\"blob\":", f);
			put_id128(f, file->blob);
		}
		(void)fprintf(f, ",\"bytes\":%" PRIu64 "}", file->bytes);
	}
	(void)fputc('}', f);
}

static void put_unenforced(FILE *f, const struct result *result)
{
	put_key(f, "unenforced");
	(void)fputc('[', f);
	for (size_t i = 0; i < MIN(result->nunenforced, ARRAY_SIZE(result->unenforced)); i++) {
		if (i)
			(void)fputc(',', f);
		text_string(f, result->unenforced[i], strlen(result->unenforced[i]));
	}
	(void)fputc(']', f);
}

/* layer and violation: each its own shape, or null. */
static void put_findings(FILE *f, const struct result *result)
{
	put_key(f, "layer");
	if (result->has_layer)
		put_id128(f, result->layer);
	else
		(void)fputs("null", f);
	put_key(f, "violation");
	if (result->violation[0]) {
		(void)fputs("{\"syscall\":", f);
		text_string(f, result->violation, strlen(result->violation));
		(void)fputc('}', f);
	} else {
		(void)fputs("null", f);
	}
}

/* Return: 0, or -1 when memory ran out. */
static int put_meta(FILE *f, json_t *meta)
{
	put_key(f, "meta");
	if (!meta)
		return fputs("null", f) < 0 ? -1 : 0;
	return json_dumpf(meta, f, JSON_COMPACT | JSON_ENCODE_ANY);
}

char *result_json(const struct result *result)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	bool rejected = result->status == STATUS_REJECTED;
	(void)fputs("{\"id\":", f);
	text_string(f, result->id, strlen(result->id));
	put_string(f, "status", job_status_name(result->status));
	put_int_or_null(f, "exit_code", result->status == STATUS_EXITED, result->exit_code);
	put_int_or_null(f, "signal", result->status == STATUS_SIGNALED, result->term_signal);
	put_string(f, "message", rejected && !result->message[0] ? result->reject.message : result->message);
	put_string(f, "field", rejected ? result->reject.field : NULL);
	put_string(f, "reason", rejected ? reject_reason_name(result->reject.reason) : NULL);
	put_counters(f, "usage", &result->usage, usage_rows, ARRAY_SIZE(usage_rows));
	put_stream(f, "stdout", &result->out);
	put_stream(f, "stderr", &result->errout);
	put_files(f, result);
	put_findings(f, result);
	put_unenforced(f, result);
	bool failed = put_meta(f, result->meta) < 0;
	put_counters(f, "timing", result, timing_rows, ARRAY_SIZE(timing_rows));
	put_string(f, "worker", result->worker);
	(void)fprintf(f, ",\"attempt\":%u}", result->attempt);
	failed = ferror(f) || failed;
	if (fclose(f) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}

void result_clear(struct result *result)
{
	free(result->out.data);
	free(result->errout.data);
	for (size_t i = 0; i < result->nfiles; i++) {
		free(result->files[i].path);
		free(result->files[i].data);
	}
	free(result->files);
	json_decref(result->meta);
	*result = (struct result){0};
}
