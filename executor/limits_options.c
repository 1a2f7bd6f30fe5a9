/* Rows of options from the table of limits; see the header. Pure functions. */
#include "executor/limits_options.h"

#include <string.h>

#include "executor/limits_text.h"

static const char *const placeholders[LIMIT_KIND_MAX] = {
	[LIMIT_SIZE] = "SIZE", [LIMIT_DURATION] = "DURATION", [LIMIT_COUNT] = "N", [LIMIT_CPUS] = "N", [LIMIT_CPUSET] = "LIST"};

static const struct limit *find_flag(const char *flag)
{
	for (const struct limit *limit = limit_table; limit->name; limit++)
		if (limit->flag && strcmp(limit->flag, flag) == 0)
			return limit;
	return NULL;
}

void limits_show(const struct job_limits *limits, const char *flag, char ret[OPTION_TEXT_MAX])
{
	char text[LIMIT_TEXT_MAX];
	const struct limit *limit = find_flag(flag);
	*ret = '\0';
	if (limit && limit->kind == LIMIT_CPUSET) {
		(void)snprintf(ret, OPTION_TEXT_MAX, "%s", limits->cpuset);
	} else if (limit) {
		limit_text_flag(limit, limits_get(limits, limit), text);
		(void)snprintf(ret, OPTION_TEXT_MAX, "%s", text);
	} else if (strcmp(flag, "io") == 0) {
		size_t n = 0;
		for (limit = limit_table; limit->name; limit++) {
			if (strncmp(limit->name, "io.", 3) != 0 || limits_get(limits, limit) == 0)
				continue;
			limit_text_flag(limit, limits_get(limits, limit), text);
			n += (size_t)snprintf(ret + n, OPTION_TEXT_MAX - n, "%s%s=%s", n ? "," : "", limit->name + 3, text);
		}
	}
}

static void add(struct limit_options *set, size_t i, const char *prefix, const char *flag, const char *arg, const char *help, const struct option *like)
{
	set->rows[i] = *like;
	(void)snprintf(set->names[i], sizeof(set->names[i]), "%s%s", prefix, flag);
	set->rows[i].name = set->names[i];
	set->rows[i].arg = arg;
	set->rows[i].kind = OPTION_CALL;
	set->rows[i].help = help;
	set->rows[i].standard = set->standards[i];
}

const struct option *limits_options(struct limit_options *ret, const char *prefix, const struct option *like, const struct job_limits *defaults, bool bounds)
{
	size_t n = 0;
	if (ret->rows[0].name)
		return ret->rows;
	for (const struct limit *limit = limit_table; limit->name; limit++) {
		char standard[LIMIT_TEXT_MAX], least[LIMIT_TEXT_MAX], most[LIMIT_TEXT_MAX];
		if (!limit->flag || n + 1 >= LIMIT_OPTIONS_MAX)
			continue;
		add(ret, n, prefix, limit->flag, placeholders[limit->kind], limit->help, like);
		if (limit->kind == LIMIT_CPUSET) {
			(void)snprintf(ret->standards[n++], sizeof(ret->standards[0]), "unset; a list such as 0-1,3");
			continue;
		}
		limit_text_flag(limit, limits_get(defaults, limit), standard);
		limit_text_flag(limit, limit->min, least);
		limit_text_flag(limit, limits_get(&job_limits_ceiling, limit), most);
		if (bounds)
			(void)snprintf(ret->standards[n++], sizeof(ret->standards[0]), "%s; from %s to %s", standard, least, most);
		else
			(void)snprintf(ret->standards[n++], sizeof(ret->standards[0]), "%s", standard);
	}
	add(ret, n, prefix, "io", "LIST", "bytes and operations a second, such as rbps=10M,wbps=10M,riops=100,wiops=100", like);
	(void)snprintf(ret->standards[n], sizeof(ret->standards[0]), "unset");
	return ret->rows;
}
