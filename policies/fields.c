/* Strict reading of JSON objects: no field that is not known, no value of another type, and the path in each error. */
#include "policies/profile.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

const char *policy_printable(const char *word, char buf[POLICY_WORD_MAX])
{
	size_t i = 0;
	for (; i < POLICY_WORD_MAX - 1 && word[i]; i++)
		buf[i] = (char)(word[i] >= 0x20 && word[i] < 0x7f ? word[i] : '?');
	buf[i] = '\0';
	return buf;
}

int policy_only_fields(const json_t *object, const char *path, const char *const *fields, struct err *err)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)object, key, value)
	{
		(void)value;
		size_t i = 0;
		while (fields[i] && strcmp(fields[i], key) != 0)
			i++;
		if (fields[i])
			continue;
		char word[POLICY_WORD_MAX];
		return err_say(err, EINVAL, "%s%s%s: unknown field", path, path[0] ? "." : "",
			policy_printable(key, word));
	}
	return 0;
}

int policy_field_strings(const json_t *object, const char *field, const char *path, const json_t **ret,
	struct err *err)
{
	const char *dot = path[0] ? "." : "";
	const json_t *list = json_object_get(object, field);
	if (!list || json_is_null(list)) {
		*ret = NULL;
		return 0;
	}
	if (!json_is_array(list))
		return err_say(err, EINVAL, "%s%s%s: not a list", path, dot, field);
	if (json_array_size(list) > POLICY_NAMES_MAX)
		return err_say(err, EINVAL, "%s%s%s: more than %d entries", path, dot, field, POLICY_NAMES_MAX);
	for (size_t i = 0; i < json_array_size(list); i++)
		if (!json_is_string(json_array_get(list, i)))
			return err_say(err, EINVAL, "%s%s%s[%zu]: not a string", path, dot, field, i);
	*ret = list;
	return 0;
}

int policy_field_string(const json_t *object, const char *field, const char *path, const char **ret, struct err *err)
{
	const json_t *value = json_object_get(object, field);
	*ret = NULL;
	if (!value || json_is_null(value))
		return 0;
	if (!json_is_string(value))
		return err_say(err, EINVAL, "%s%s%s: not a string", path, path[0] ? "." : "", field);
	*ret = json_string_value(value);
	return 0;
}

int policy_field_number(const json_t *object, const char *field, const char *path, uint64_t max, uint64_t *ret,
	struct err *err)
{
	const json_t *value = json_object_get(object, field);
	if (!value || json_is_null(value))
		return 0;
	json_int_t number = json_integer_value(value);
	if (!json_is_integer(value) || number < 0 || (uint64_t)number > max)
		return err_say(err, EINVAL, "%s%s%s: not a whole number from 0 to %llu", path, path[0] ? "." : "", field,
			(unsigned long long)max);
	*ret = (uint64_t)number;
	return 1;
}

/* The errno of an action, by number and by name; EPERM where neither is given. Return: 1 when one was. */
static int field_errno(const json_t *object, const char *number, const char *name, const char *path, unsigned *ret,
	struct err *err)
{
	const char *dot = path[0] ? "." : "", *word = NULL;
	uint64_t value = EPERM;
	int r = policy_field_number(object, number, path, POLICY_ERRNO_MAX, &value, err);
	int given = r;
	if (r >= 0)
		r = policy_field_string(object, name, path, &word, err);
	if (r < 0)
		return r;
	*ret = (unsigned)value;
	if (!word)
		return given;
	char text[POLICY_WORD_MAX];
	if (policy_word_errno(word, ret) < 0)
		return err_say(err, EINVAL, "%s%s%s: unknown errno %s", path, dot, name, policy_printable(word, text));
	if (given && *ret != value)
		return err_say(err, EINVAL, "%s%s%s: contradicts %s", path, dot, name, number);
	return 1;
}

int policy_field_action(const json_t *object, const char *const names[3], const char *path, uint32_t *ret,
	struct err *err)
{
	const char *dot = path[0] ? "." : "", *word = NULL;
	char text[POLICY_WORD_MAX];
	enum policy_action action;
	unsigned number = EPERM;
	int r = policy_field_string(object, names[0], path, &word, err);
	if (r < 0)
		return r;
	if (!word)
		return err_say(err, EINVAL, "%s%s%s: missing", path, dot, names[0]);
	if (policy_word_action(word, &action) < 0)
		return err_say(err, EINVAL, "%s%s%s: unknown action %s", path, dot, names[0], policy_printable(word, text));
	r = field_errno(object, names[1], names[2], path, &number, err);
	if (r < 0)
		return r;
	if (r > 0 && action != POLICY_ERRNO)
		return err_say(err, EINVAL, "%s%s%s: only for SCMP_ACT_ERRNO", path, dot, names[1]);
	switch (action) {
	case POLICY_ALLOW:
		*ret = SCMP_ACT_ALLOW;
		return 0;
	case POLICY_LOG:
		*ret = SCMP_ACT_LOG;
		return 0;
	case POLICY_ERRNO:
		*ret = SCMP_ACT_ERRNO(number);
		return 0;
	case POLICY_VIOLATION:
		*ret = SCMP_ACT_NOTIFY;
		return 0;
	case POLICY_TRACE:
	case POLICY_ACTION_MAX:
		break;
	}
	return err_say(err, EINVAL, "%s%s%s: SCMP_ACT_TRACE needs a tracer, which petri is not", path, dot, names[0]);
}
