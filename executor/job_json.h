/* Reading hostile JSON values into a job: what job_json.c, job_source.c and limits_json.c share. Every
 * function returns 0, 1 with *reject filled, or -ENOMEM. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "executor/job.h"

#define JOB_FIELD_MAX sizeof(((struct reject *)0)->field)

/* One member of an object. A null is taken for an absent member, so read() never sees one. */
struct job_field {
	const char *name;
	int (*read)(void *ctx, json_t *value, const char *field, struct reject *reject);
};

/*
 * job_fields_read - read an object by a table that ends with a NULL name.
 * The members are read in the order of the table; one that is not in it is refused by its path, so that a
 * mistyped name is never silently absent. A row without a function is known, and was read elsewhere.
 */
int job_fields_read(
	const struct job_field *fields, json_t *object, const char *parent, void *ctx, struct reject *reject);

/* job_field_text - format a path or a key into a buffer that may be too short for it. */
void job_field_text(char *out, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* job_field_join - "parent.name", or "name" beneath the document itself (""). */
void job_field_join(char out[JOB_FIELD_MAX], const char *parent, const char *name);

/* job_json_string - a string of at most max bytes, without NUL. *ret is freed and replaced on success. */
int job_json_string(json_t *value, const char *field, size_t max, char **ret, struct reject *reject);
/* job_json_name - a string of [A-Za-z0-9] and the characters of extra, as it goes into keys and file names.
 */
int job_json_name(json_t *value, const char *field, const char *extra, char **ret, struct reject *reject);
/* job_json_u64 - a whole number, not negative. @unit: as struct limit has it, for the message. */
int job_json_u64(json_t *value, const char *field, const char *unit, uint64_t *ret, struct reject *reject);
int job_json_bool(json_t *value, const char *field, bool *ret, struct reject *reject);
/* job_json_id128 - "xxh128:" and 32 hex digits. */
int job_json_id128(json_t *value, const char *field, uint8_t ret[16], struct reject *reject);
/* job_json_choice - the index of one of n names. */
int job_json_choice(json_t *value, const char *field, const char *(*name)(unsigned), unsigned n, unsigned *ret,
	struct reject *reject);

/* job_source.c: the rows of the job's "stdin" and "files"; ctx is the struct job. */
int job_read_stdin(void *ctx, json_t *value, const char *field, struct reject *reject);
int job_read_files(void *ctx, json_t *value, const char *field, struct reject *reject);
/* job_collect.c: "collect". */
int job_read_collect(void *ctx, json_t *value, const char *field, struct reject *reject);

/*
 * job_scan - bound what a document can cost before a tree of it is built: its depth and its number of values,
 * without which 8 MiB of "{}," would take a GiB of memory. Not a parser: what it lets through may not be
 * JSON.
 */
int job_scan(const char *json, size_t len, struct reject *reject);

static inline void cleanup_json(json_t **json)
{
	json_decref(*json);
}
#define _cleanup_json_ _cleanup_(cleanup_json)
