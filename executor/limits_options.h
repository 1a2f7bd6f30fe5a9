/* The limits as options of a verb: `petri run --memory`, `petri worker --max-memory`. */
#pragma once

#include "executor/limits.h"
#include "executor/options.h"

#define LIMIT_OPTIONS_MAX 24

struct limit_options {
	struct option rows[LIMIT_OPTIONS_MAX + 1]; /* ends with a row without a name; zeroed before limits_options() */
	char names[LIMIT_OPTIONS_MAX][24], standards[LIMIT_OPTIONS_MAX][128];
};

/*
 * limits_options - make a row for each limit's flag, and one for io; once.
 * @prefix: of their names. @like: the rest of each row: its take, show and more.
 * @defaults: shown as such. @bounds: show the bounds as well.
 * Return: the rows.
 */
const struct option *limits_options(struct limit_options *ret, const char *prefix, const struct option *like, const struct job_limits *defaults, bool bounds);
/* limits_show - the value of one flag as limits_flag() takes it; "" when there is none. */
void limits_show(const struct job_limits *limits, const char *flag, char ret[OPTION_TEXT_MAX]);
