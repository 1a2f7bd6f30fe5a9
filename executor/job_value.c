/* Single JSON values of a job: strings, numbers, names, ids, and objects by a table. Hostile input; every
 * fault is a refusal that names its field. */
#include "executor/job_json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"

void job_field_text(char *out, size_t cap, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(out, cap, fmt, ap);
	va_end(ap);
}

void job_field_join(char out[JOB_FIELD_MAX], const char *parent, const char *name)
{
	job_field_text(out, JOB_FIELD_MAX, "%s%s%s", parent, *parent ? "." : "", name);
}

static const struct job_field *find(const struct job_field *fields, const char *name)
{
	for (; fields->name; fields++)
		if (strcmp(fields->name, name) == 0)
			return fields;
	return NULL;
}

int job_fields_read(
	const struct job_field *fields, json_t *object, const char *parent, void *ctx, struct reject *reject)
{
	if (!json_is_object(object))
		return reject_set(reject, parent, REJECT_INVALID, "must be an object");
	char field[JOB_FIELD_MAX];
	const char *key;
	json_t *value;
	json_object_foreach(object, key, value)
	{
		if (find(fields, key))
			continue;
		job_field_join(field, parent, key);
		return reject_set(reject, field, REJECT_INVALID, "unknown field");
	}
	for (; fields->name; fields++) {
		value = json_object_get(object, fields->name);
		if (!value || json_is_null(value) || !fields->read)
			continue;
		job_field_join(field, parent, fields->name);
		int r = fields->read(ctx, value, field, reject);
		if (r != 0)
			return r;
	}
	return 0;
}

/* NULL, with *reject filled, unless value is a string without NUL. */
static const char *plain_string(json_t *value, const char *field, struct reject *reject)
{
	const char *text = json_string_value(value);
	if (!text)
		(void)reject_set(reject, field, REJECT_INVALID, "must be a string");
	else if (strlen(text) == json_string_length(value))
		return text;
	else
		(void)reject_set(reject, field, REJECT_INVALID, "must not hold a NUL character");
	return NULL;
}

int job_json_string(json_t *value, const char *field, size_t max, char **ret, struct reject *reject)
{
	const char *text = plain_string(value, field, reject);
	if (!text)
		return 1;
	if (strlen(text) > max)
		return reject_set(
			reject, field, REJECT_TOO_LARGE, "%zu bytes are too many: the most is %zu", strlen(text), max);
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*ret);
	*ret = copy;
	return 0;
}

int job_json_name(json_t *value, const char *field, const char *extra, char **ret, struct reject *reject)
{
	static const char alnum[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	const char *text = plain_string(value, field, reject);
	if (!text)
		return 1;
	size_t len = 0;
	while (text[len] && (strchr(alnum, text[len]) || strchr(extra, text[len])))
		len++;
	if (len == 0 || text[len])
		return reject_set(reject, field, REJECT_INVALID, "must be a name of letters, digits and %s", extra);
	return job_json_string(value, field, JOB_ID_MAX, ret, reject);
}

int job_json_u64(json_t *value, const char *field, const char *unit, uint64_t *ret, struct reject *reject)
{
	if (!json_is_integer(value))
		return reject_set(
			reject, field, REJECT_INVALID, "must be a whole number%s%s", *unit ? " of" : "", unit);
	json_int_t number = json_integer_value(value);
	if (number < 0)
		return reject_set(reject, field, REJECT_INVALID, "must not be negative");
	*ret = (uint64_t)number;
	return 0;
}

int job_json_bool(json_t *value, const char *field, bool *ret, struct reject *reject)
{
	if (!json_is_boolean(value))
		return reject_set(reject, field, REJECT_INVALID, "must be true or false");
	*ret = json_is_true(value);
	return 0;
}

int job_json_id128(json_t *value, const char *field, uint8_t ret[16], struct reject *reject)
{
	const char *text = plain_string(value, field, reject);
	if (!text)
		return 1;
	if (parse_id128(text, ret, NULL) < 0)
		return reject_set(reject, field, REJECT_INVALID, "must be \"xxh128:\" and 32 lower-case hex digits");
	return 0;
}

int job_json_choice(json_t *value, const char *field, const char *(*name)(unsigned), unsigned n, unsigned *ret,
	struct reject *reject)
{
	const char *text = plain_string(value, field, reject);
	if (!text)
		return 1;
	char all[128];
	size_t len = 0;
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(text, name(i)) == 0) {
			*ret = i;
			return 0;
		}
		job_field_text(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", name(i));
		len += strlen(all + len);
	}
	return reject_set(reject, field, REJECT_INVALID, "must be one of %s", all);
}
