/* Reading command lines by a verb's table; see the header. Runs before anything else does; faults are the operator's typing. */
#include "executor/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "executor/cli.h"

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; verbs[i]; i++)
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	return NULL;
}

/* ---- options of a verb ---- */
static const struct option *first_limit(const struct verb *verb)
{
	const struct option *limits = verb->limits ? verb->limits() : NULL;
	return limits && limits->name ? limits : NULL;
}

static bool is_limit(const struct verb *verb, const struct option *option)
{
	for (const struct option *o = first_limit(verb); o && o->name; o++)
		if (o == option)
			return true;
	return false;
}

const struct option *option_next(const struct verb *verb, const struct option *option)
{
	const struct option *next = option ? option + 1 : verb->options;
	if (next && next->name)
		return next;
	return option && is_limit(verb, option) ? NULL : first_limit(verb);
}

const struct option *option_find(const struct verb *verb, const char *name, size_t len)
{
	for (const struct option *o = NULL; (o = option_next(verb, o));)
		if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
			return o;
	return NULL;
}

/* ---- values ---- */
void option_number(enum option_kind kind, uint64_t value, char ret[32])
{
	static const struct {
		enum option_kind kind;
		uint64_t unit;
		const char *suffix;
	} units[] = {{OPTION_SIZE, 1ULL << 40, "T"}, {OPTION_SIZE, 1 << 30, "G"}, {OPTION_SIZE, 1 << 20, "M"}, {OPTION_SIZE, 1 << 10, "K"},
		{OPTION_DURATION, 86400000, "d"}, {OPTION_DURATION, 3600000, "h"}, {OPTION_DURATION, 60000, "m"}, {OPTION_DURATION, 1000, "s"},
		{OPTION_DURATION, 1, "ms"}};
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (units[i].kind != kind || value == 0 || value % units[i].unit != 0)
			continue;
		(void)snprintf(ret, 32, "%" PRIu64 "%s", value / units[i].unit, units[i].suffix);
		return;
	}
	(void)snprintf(ret, 32, "%" PRIu64, value);
}

void option_bounds(const struct option *option, char *ret, size_t cap)
{
	char least[32], most[32];
	const char *standard = option->standard ? option->standard : "";
	option_number(option->kind, option->min, least);
	option_number(option->kind, option->max, most);
	if (option->max)
		(void)snprintf(ret, cap, "%s%sfrom %s to %s", standard, *standard ? "; " : "", least, most);
	else
		(void)snprintf(ret, cap, "%s", standard);
}

static bool is_choice(const char *choices, const char *value)
{
	size_t len = strlen(value);
	for (const char *p = choices; len && (p = strstr(p, value)); p += len)
		if ((p == choices || p[-1] == ' ') && (p[len] == '\0' || p[len] == ' '))
			return true;
	return false;
}

static int set_number(void *at, const struct option *option, const char *value, struct err *err)
{
	uint64_t v;
	int r = option->kind == OPTION_SIZE	  ? parse_size(value, &v, err)
		: option->kind == OPTION_DURATION ? parse_duration_ms(value, &v, err)
						  : parse_u64(value, &v, err);
	if (r < 0)
		return r;
	uint64_t most = option->max ? option->max : option->size == sizeof(unsigned) ? UINT32_MAX
										     : UINT64_MAX;
	if (v < option->min || v > most) {
		char least[32], top[32];
		option_number(option->kind, option->min, least);
		option_number(option->kind, most, top);
		return err_say(err, ERANGE, "'%.100s' is not from %s to %s", value, least, top);
	}
	if (option->size == sizeof(unsigned))
		*(unsigned *)at = (unsigned)v;
	else
		*(uint64_t *)at = v;
	return 0;
}

int option_set(void *target, const struct option *option, const char *value, struct err *err)
{
	void *at = (char *)target + option->offset;
	if (option->choices && !is_choice(option->choices, value))
		return err_say(err, EINVAL, "'%.100s' is none of: %s", value, option->choices);
	switch (option->kind) {
	case OPTION_SWITCH:
		if (*value && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
			return err_say(err, EINVAL, "'%.100s' is neither true nor false", value);
		*(bool *)at = strcmp(value, "false") != 0;
		return 0;
	case OPTION_WORD:
		*(const char **)at = value;
		return 0;
	case OPTION_BUFFER:
		if (strlen(value) >= option->size)
			return err_say(err, E2BIG, "longer than %zu bytes", option->size - 1);
		(void)snprintf(at, option->size, "%s", value);
		return 0;
	case OPTION_CALL:
		return option->take(target, option, value, err);
	default:
		return set_number(at, option, value, err);
	}
}

void option_show(const void *target, const struct option *option, char ret[OPTION_TEXT_MAX])
{
	const void *at = (const char *)target + option->offset;
	const char *word;
	*ret = '\0';
	switch (option->kind) {
	case OPTION_SWITCH:
		(void)snprintf(ret, OPTION_TEXT_MAX, "%s", *(const bool *)at ? "true" : "false");
		break;
	case OPTION_WORD:
		word = *(const char *const *)at;
		(void)snprintf(ret, OPTION_TEXT_MAX, "%s", word ? word : "");
		break;
	case OPTION_BUFFER:
		(void)snprintf(ret, OPTION_TEXT_MAX, "%s", (const char *)at);
		break;
	case OPTION_CALL:
		if (option->show)
			option->show(target, option, ret);
		break;
	default:
		option_number(option->kind, option->size == sizeof(unsigned) ? *(const unsigned *)at : *(const uint64_t *)at, ret);
	}
}

/* ---- a command line ---- */
int verb_complain(const struct verb *verb, const char *fmt, ...)
{
	va_list ap;
	(void)fprintf(stderr, "petri %s: ", verb->name);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "; see petri %s --help\n", verb->name);
	return EXIT_USAGE;
}

/* The option of argv[*at], which begins with a dash; *at is moved past its value. Return: false after a message. */
static bool take_option(const struct verb *verb, void *target, int argc, char **argv, int *at)
{
	struct err err = ERR_INIT;
	const char *arg = argv[(*at)++], *equals = strchr(arg, '=');
	size_t len = equals ? (size_t)(equals - arg) : strlen(arg);
	const struct option *option = strncmp(arg, "--", 2) == 0 ? option_find(verb, arg + 2, len - 2) : NULL;
	if (!option)
		return verb_complain(verb, "unknown option '%.*s'", (int)len, arg), false;
	const char *value = "";
	if (!option->arg && equals)
		return verb_complain(verb, "--%s takes no value", option->name), false;
	if (option->arg) {
		if (!equals && *at >= argc)
			return verb_complain(verb, "--%s needs a value", option->name), false;
		value = equals ? equals + 1 : argv[(*at)++];
	}
	int r = verb->take ? verb->take(target, option, value, &err) : option_set(target, option, value, &err);
	if (r < 0)
		(void)verb_complain(verb, "--%s: %s", option->name, err_msg(&err));
	return r >= 0;
}

static bool wants_help(const char *arg)
{
	return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

bool verb_parse(const struct verb *verb, void *target, int argc, char **argv, char ***ret_words, int *ret_exit)
{
	int at = 1, nwords = 0;
	*ret_exit = EXIT_USAGE;
	while (at < argc) {
		const char *arg = argv[at];
		if (strcmp(arg, "--") == 0) {
			at++;
			break;
		}
		if (arg[0] != '-' || arg[1] == '\0') {
			if (verb->program)
				break;
			/* Words may stand before options: they are gathered behind the verb, where they overtake nothing unread. */
			argv[1 + nwords++] = argv[at++];
		} else if (wants_help(arg)) {
			verb_help(verb, stdout);
			*ret_exit = 0;
			return false;
		} else if (!take_option(verb, target, argc, argv, &at)) {
			return false;
		}
	}
	while (at < argc)
		argv[1 + nwords++] = argv[at++];
	argv[1 + nwords] = NULL;
	*ret_words = argv + 1;
	if (nwords < verb->min_words || (verb->max_words >= 0 && nwords > verb->max_words)) {
		for (size_t i = 0; verb->forms[i]; i++)
			(void)fprintf(stderr, "%s petri %s %s\n", i == 0 ? "usage:" : "      ", verb->name, verb->forms[i]);
		return false;
	}
	return true;
}
