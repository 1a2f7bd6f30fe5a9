/* A worker's configuration as a JSON object: the older form of the file. The same settings, with JSON's types. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "executor/limits.h"
#include "executor/worker.h"

/* The line of a member's name, for messages: keys are not given twice, so the first is it. 0: not found. */
static unsigned line_of(const char *text, size_t len, const char *key)
{
	unsigned line = 1;
	size_t n = strlen(key);
	for (size_t i = 0; i + n + 2 <= len; i++) {
		if (text[i] == '\n')
			line++;
		else if (text[i] == '"' && memcmp(text + i + 1, key, n) == 0 && text[i + n + 1] == '"') {
			size_t j = i + n + 2;
			while (j < len && strchr(" \t\r\n", text[j]) && text[j])
				j++;
			if (j < len && text[j] == ':')
				return line;
		}
	}
	return 0;
}

static int read_limits(struct worker_config *c, json_t *value, const char *text, size_t len, struct err *err)
{
	struct reject why = {0};
	if (limits_json(&c->max_limits, value, "max_limits", &job_limits_ceiling, &why) != 0)
		return err_say(err, EINVAL, "%s: %s", why.field, why.message);
	for (const struct limit *limit = limit_table; limit->name; limit++) {
		bool io = strncmp(limit->name, "io.", 3) == 0;
		const char *member = io ? "io" : limit->name;
		const struct option *setting = setting_find("max_limits", io ? "io" : limit->flag);
		if (setting && json_object_get(value, member))
			c->sources[setting_index(setting)] = (struct setting_source){.origin = ORIGIN_FILE, .line = line_of(text, len, member)};
	}
	return 0;
}

static int read_member(struct worker_config *c, const char *key, json_t *value, unsigned line, struct err *err)
{
	const struct option *s = setting_find("", key);
	const struct setting_source source = {.origin = ORIGIN_FILE, .line = line};
	char number[32];
	const char *text = NULL;
	if (!s)
		return err_say(err, ENOENT, "unknown setting '%s'", key);
	if (s->kind == OPTION_SWITCH && json_is_boolean(value)) {
		text = json_is_true(value) ? "true" : "false";
	} else if (s->kind == OPTION_COUNT && json_is_integer(value)) {
		(void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		text = number;
	} else if ((s->kind == OPTION_BUFFER || s->kind == OPTION_DURATION || s->kind == OPTION_SIZE) && json_is_string(value)) {
		text = json_string_value(value);
	}
	if (!text || (text != number && json_is_string(value) && strlen(text) != json_string_length(value)))
		return err_say(err, EINVAL, "'%s' has a value of the wrong type", key);
	int r = setting_apply(c, s, text, source, err);
	return r < 0 ? err_wrap(err, "%s", key) : 0;
}

int worker_config_read_json(struct worker_config *c, const char *name, const char *text, size_t len, struct err *err)
{
	json_error_t where;
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where), *value;
	const char *key;
	int r = 0;
	if (!json_is_object(o)) {
		json_decref(o);
		return err_say(err, EINVAL, "%s:%d: not a JSON object: %.200s", name, where.line, where.text);
	}
	json_object_foreach(o, key, value)
	{
		unsigned line = line_of(text, len, key);
		r = strcmp(key, "max_limits") == 0 ? read_limits(c, value, text, len, err) : read_member(c, key, value, line, err);
		if (r < 0) {
			(void)err_wrap(err, "%s:%u", name, line);
			break;
		}
	}
	json_decref(o);
	return r;
}
