/* Text of limits, and the flags of `petri run` that set them. Pure functions; faults are the operator's
 * typing. */
#include "executor/limits_text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"

/* Thousandths as a decimal without trailing zeros; printf's %g would follow the locale. */
static void milli_text(uint64_t milli, char ret[LIMIT_TEXT_MAX])
{
	(void)snprintf(ret, LIMIT_TEXT_MAX, "%" PRIu64 ".%03u", milli / 1000, (unsigned)(milli % 1000));
	size_t len = strlen(ret);
	while (ret[len - 1] == '0')
		ret[--len] = '\0';
	if (ret[len - 1] == '.')
		ret[len - 1] = '\0';
}

void limit_text_number(const struct limit *limit, uint64_t value, char ret[LIMIT_TEXT_MAX])
{
	if (limit->kind == LIMIT_CPUS)
		milli_text(value, ret);
	else
		(void)snprintf(ret, LIMIT_TEXT_MAX, "%" PRIu64, value);
}

void limit_text_flag(const struct limit *limit, uint64_t value, char ret[LIMIT_TEXT_MAX])
{
	static const struct {
		enum limit_kind kind;
		uint64_t unit;
		const char *suffix;
	} units[] = {{LIMIT_SIZE, 1ULL << 40, "T"}, {LIMIT_SIZE, 1 << 30, "G"}, {LIMIT_SIZE, 1 << 20, "M"},
		{LIMIT_SIZE, 1 << 10, "K"}, {LIMIT_DURATION, 86400000, "d"}, {LIMIT_DURATION, 3600000, "h"},
		{LIMIT_DURATION, 60000, "m"}, {LIMIT_DURATION, 1000, "s"}, {LIMIT_DURATION, 1, "ms"}};
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (units[i].kind != limit->kind || value == 0 || value % units[i].unit != 0)
			continue;
		(void)snprintf(ret, LIMIT_TEXT_MAX, "%" PRIu64 "%s", value / units[i].unit, units[i].suffix);
		return;
	}
	limit_text_number(limit, value, ret);
}

static int parse_cpus(const char *value, uint64_t *ret_milli, struct err *err)
{
	double cpus;
	int r = parse_decimal(value, &cpus, err);
	if (r < 0)
		return r;
	/* Far above every bound, and far below where the conversion would overflow. */
	*ret_milli = (uint64_t)(MIN(cpus, 1e9) * 1000 + 0.5);
	return 0;
}

static int parse_value(const struct limit *limit, const char *value, uint64_t *ret, struct err *err)
{
	switch (limit->kind) {
	case LIMIT_SIZE:
		return parse_size(value, ret, err);
	case LIMIT_DURATION:
		return parse_duration_ms(value, ret, err);
	case LIMIT_CPUS:
		return parse_cpus(value, ret, err);
	default:
		return parse_u64(value, ret, err);
	}
}

/* One number of a flag, checked against the bounds that hold on every worker. */
static int number_flag(struct job_limits *limits, const struct limit *limit, const char *value, struct err *err)
{
	uint64_t v;
	int r = parse_value(limit, value, &v, err);
	if (r < 0)
		return r;
	char bound[LIMIT_TEXT_MAX];
	uint64_t top = limits_get(&job_limits_ceiling, limit);
	if (v < limit->min) {
		limit_text_flag(limit, limit->min, bound);
		return err_say(err, EINVAL, "'%.100s' is too little: the least is %s", value, bound);
	}
	if (v > top) {
		limit_text_flag(limit, top, bound);
		return err_say(err, ERANGE, "'%.100s' is too much: the most is %s", value, bound);
	}
	limits_set(limits, limit, v);
	return 0;
}

static int cpuset_flag(struct job_limits *limits, const char *value, struct err *err)
{
	int r = parse_cpu_list(value, NULL, err);
	if (r < 0)
		return r;
	if (strlen(value) >= sizeof(limits->cpuset))
		return err_say(err, ERANGE, "a CPU list has at most %zu characters", sizeof(limits->cpuset) - 1);
	(void)snprintf(limits->cpuset, sizeof(limits->cpuset), "%s", value);
	return 0;
}

/* One "rbps=10M" of --io. */
static int io_item(struct job_limits *limits, char *item, struct err *err)
{
	char *equals = strchr(item, '=');
	if (!equals)
		return err_say(err, EINVAL, "'%.100s' is not rbps=, wbps=, riops= or wiops= and a number", item);
	*equals = '\0';
	char name[32];
	(void)snprintf(name, sizeof(name), "io.%.24s", item);
	const struct limit *limit = limits_find(name);
	if (!limit)
		return err_say(err, EINVAL, "'%.100s' is not one of rbps, wbps, riops, wiops", item);
	if (limits_get(limits, limit) != 0)
		return err_say(err, EINVAL, "%s is given twice", item);
	int r = number_flag(limits, limit, equals + 1, err);
	if (r < 0)
		(void)err_wrap(err, "%s", item);
	return r;
}

static int io_flag(struct job_limits *limits, const char *value, struct err *err)
{
	_cleanup_free_ char *copy = strdup(value);
	if (!copy)
		return err_set(err, ENOMEM, "read '%.100s'", value);
	/* A second --io replaces the first as a whole. */
	limits->io = (struct job_io){0};
	for (char *rest = copy, *item; (item = strsep(&rest, ","));) {
		int r = io_item(limits, item, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int limits_flag(struct job_limits *limits, const char *flag, const char *value, struct err *err)
{
	bool io = strcmp(flag, "io") == 0;
	const struct limit *limit = limit_table;
	while (limit->name && (!limit->flag || strcmp(limit->flag, flag) != 0))
		limit++;
	if (!limit->name && !io)
		return 0;
	if (!value)
		return err_say(err, EINVAL, "--%s needs a value", flag);
	struct job_limits changed = *limits;
	int r;
	if (io)
		r = io_flag(&changed, value, err);
	else if (limit->kind == LIMIT_CPUSET)
		r = cpuset_flag(&changed, value, err);
	else
		r = number_flag(&changed, limit, value, err);
	if (r < 0) {
		(void)err_wrap(err, "--%s", flag);
		return r;
	}
	*limits = changed;
	return 1;
}
