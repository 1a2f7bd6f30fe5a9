#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/cli.h"
#include "executor/limits.h"

static struct reject reject;

static int read_json(struct job_limits *limits, const char *text, const struct job_limits *max)
{
	json_t *object = json_loads(text, JSON_DECODE_ANY, NULL);
	cr_assert_not_null(object, "%s", text);
	memset(&reject, 0, sizeof(reject));
	int r = limits_json(limits, object, "limits", max, &reject);
	json_decref(object);
	return r;
}

Test(limits, table_is_consistent)
{
	for (const struct limit *limit = limit_table; limit->name; limit++) {
		cr_assert_eq(limits_find(limit->name), limit);
		if (limit->kind == LIMIT_CPUSET)
			continue;
		uint64_t standard = limits_get(&job_limits_default, limit);
		uint64_t ceiling = limits_get(&job_limits_ceiling, limit);
		cr_assert_lt(limit->min, ceiling, "%s", limit->name);
		if (limit->optional) {
			cr_assert_eq(standard, 0, "%s", limit->name);
			continue;
		}
		cr_assert_geq(standard, limit->min, "%s", limit->name);
		cr_assert_leq(standard, ceiling, "%s", limit->name);
	}
	cr_assert_null(limits_find("wall"));
	cr_assert_eq(limits_check(&job_limits_default, NULL, &reject), 0);
	cr_assert_eq(limits_check(&job_limits_ceiling, NULL, &reject), 0);
}

Test(limits, defaults_are_the_documented_ones)
{
	const struct job_limits *d = &job_limits_default;
	cr_assert_eq(d->wall_ms, 10000);
	cr_assert_eq(d->cpu_ms, 2000);
	cr_assert_eq(d->memory_bytes, 268435456);
	cr_assert_eq(d->swap_bytes, 0);
	cr_assert_eq(d->pids, 64);
	cr_assert_eq(d->cpus_milli, 1000);
	cr_assert_eq(d->disk_bytes, 67108864);
	cr_assert_eq(d->disk_inodes, 10000);
	cr_assert_eq(d->output_bytes, 1048576);
	cr_assert_eq(d->open_files, 256);
	cr_assert_eq(d->stack_bytes, 67108864);
	cr_assert_str_empty(d->cpuset);
}

Test(limits, flags)
{
	static const struct {
		const char *flag, *value, *name;
		uint64_t want;
	} cases[] = {{"wall", "1.5s", "wall_ms", 1500}, {"cpu", "250ms", "cpu_ms", 250},
		{"memory", "1G", "memory_bytes", 1ULL << 30}, {"swap", "0", "swap_bytes", 0}, {"pids", "1", "pids", 1},
		{"cpus", "0.5", "cpus", 500}, {"cpus", "0.01", "cpus", 10}, {"cpus", "1024", "cpus", 1024000},
		{"disk", "4096", "disk_bytes", 4096}, {"inodes", "16", "disk_inodes", 16},
		{"output", "0", "output_bytes", 0}, {"open-files", "4", "open_files", 4},
		{"stack", "64KiB", "stack_bytes", 65536}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct job_limits limits = job_limits_default;
		struct err err = ERR_INIT;
		cr_assert_eq(limits_flag(&limits, cases[i].flag, cases[i].value, &err), 1, "--%s %s: %s", cases[i].flag,
			cases[i].value, err.msg);
		cr_assert_eq(limits_get(&limits, limits_find(cases[i].name)), cases[i].want, "--%s %s", cases[i].flag,
			cases[i].value);
	}
}

Test(limits, flag_cpuset)
{
	struct job_limits limits = job_limits_default;
	cr_assert_eq(limits_flag(&limits, "cpuset", "0-1,3", NULL), 1);
	cr_assert_str_eq(limits.cpuset, "0-1,3");
}

Test(limits, flag_io)
{
	struct job_limits limits = job_limits_default;
	cr_assert_eq(limits_flag(&limits, "io", "rbps=10M,wbps=1G,riops=100,wiops=7", NULL), 1);
	cr_assert_eq(limits.io.rbps, 10 << 20);
	cr_assert_eq(limits.io.wbps, 1 << 30);
	cr_assert_eq(limits.io.riops, 100);
	cr_assert_eq(limits.io.wiops, 7);
	/* The last --io stands as a whole, like every other flag that is given twice. */
	cr_assert_eq(limits_flag(&limits, "io", "riops=5", NULL), 1);
	cr_assert_eq(limits.io.riops, 5);
	cr_assert_eq(limits.io.rbps, 0);
}

Test(limits, flag_that_is_none)
{
	struct job_limits limits = job_limits_default;
	static const char *const others[] = {"", "image", "wall_ms", "io.rbps", "rbps", "--wall", "Wall", "walls"};
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		cr_assert_eq(limits_flag(&limits, others[i], "1", NULL), 0, "%s", others[i]);
}

Test(limits, flags_refused_by_name_and_nothing_touched)
{
	static const struct {
		const char *flag, *value;
	} cases[] = {{"wall", "0"}, {"wall", "-1"}, {"wall", ""}, {"wall", "31d"}, {"wall", "10x"}, {"wall", NULL},
		{"cpu", "0s"}, {"memory", "1023K"}, {"memory", "2T"}, {"memory", "64M "}, {"swap", "2T"}, {"pids", "0"},
		{"pids", "1.5"}, {"pids", "4194305"}, {"cpus", "0"}, {"cpus", "0.009"}, {"cpus", "1025"},
		{"cpus", "99999999999999999999"}, {"cpus", "1e3"}, {"disk", "4095"}, {"disk", "17T"}, {"inodes", "1"},
		{"output", "257M"}, {"open-files", "3"}, {"open-files", "1048577"}, {"stack", "1K"}, {"cpuset", ""},
		{"cpuset", "1-0"}, {"cpuset", "a"}, {"cpuset", NULL}, {"io", ""}, {"io", "rbps"}, {"io", "rbps="},
		{"io", "rbps=10M,"}, {"io", "rbps=10M,nope=1"}, {"io", "riops=0"}, {"io", "rbps=1"},
		{"io", "riops=1,riops=2"}, {"io", "riops=-1"}, {"io", "wall_ms=1"}, {"io", NULL}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct job_limits limits = job_limits_default;
		limits.io.wiops = 77;
		const struct job_limits before = limits;
		struct err err = ERR_INIT;
		char flag[32];
		(void)snprintf(flag, sizeof(flag), "--%s", cases[i].flag);
		cr_assert_lt(limits_flag(&limits, cases[i].flag, cases[i].value, &err), 0, "accepted %s %s", flag,
			cases[i].value ? cases[i].value : "(none)");
		cr_assert_eq(strncmp(err.msg, flag, strlen(flag)), 0, "'%s' does not begin with %s", err.msg, flag);
		cr_assert_eq(memcmp(&limits, &before, sizeof(limits)), 0, "%s changed something", flag);
		cr_assert_lt(limits_flag(&limits, cases[i].flag, cases[i].value, NULL), 0);
	}
}

Test(limits, flag_cpuset_too_long)
{
	char list[400] = "0";
	while (strlen(list) + 3 < sizeof(list))
		strcat(list, ",1");
	struct job_limits limits = job_limits_default;
	struct err err = ERR_INIT;
	cr_assert_lt(limits_flag(&limits, "cpuset", list, &err), 0);
	cr_assert_str_empty(limits.cpuset);
}

Test(limits, flag_messages_give_the_bound)
{
	struct job_limits limits = job_limits_default;
	struct err err = ERR_INIT;
	(void)limits_flag(&limits, "memory", "64", &err);
	cr_assert_str_eq(err.msg, "--memory: '64' is too little: the least is 1M");
	(void)limits_flag(&limits, "wall", "60d", &err);
	cr_assert_str_eq(err.msg, "--wall: '60d' is too much: the most is 30d");
	(void)limits_flag(&limits, "cpus", "0.001", &err);
	cr_assert_str_eq(err.msg, "--cpus: '0.001' is too little: the least is 0.01");
}

Test(limits, help_lists_every_flag_and_its_default)
{
	char text[16384] = "";
	FILE *f = fmemopen(text, sizeof(text) - 1, "w");
	verb_help(&run_verb, f);
	(void)fclose(f);
	static const char *const lines[] = {"--wall DURATION", "(10s; from 1ms to 30d)", "--memory SIZE",
		"(256M; from 1M to 1T)", "--cpus N", "(1; from 0.01 to 1024)", "--cpuset LIST", "--io LIST",
		"--swap SIZE", "(0; from 0 to 1T)"};
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		cr_assert_not_null(strstr(text, lines[i]), "no '%s' in\n%s", lines[i], text);
	for (const struct limit *limit = limit_table; limit->name; limit++) {
		char flag[40];
		(void)snprintf(flag, sizeof(flag), "  --%s ", limit->flag ? limit->flag : "io");
		cr_assert_not_null(strstr(text, flag), "%s", flag);
	}
}

Test(limits, json_all)
{
	struct job_limits limits = job_limits_default;
	cr_assert_eq(read_json(&limits,
			     "{\"wall_ms\":1,\"cpu_ms\":2,\"memory_bytes\":1048576,\"swap_bytes\":4,\"pids\":5,"
			     "\"cpus\":0.25,\"cpuset\":\"0-1\",\"disk_bytes\":4096,\"disk_inodes\":17,"
			     "\"output_bytes\":0,\"open_files\":10,\"stack_bytes\":65536,"
			     "\"io\":{\"rbps\":65536,\"wbps\":65537,\"riops\":1,\"wiops\":2}}",
			     NULL),
		0, "%s: %s", reject.field, reject.message);
	cr_assert_eq(limits.wall_ms, 1);
	cr_assert_eq(limits.cpu_ms, 2);
	cr_assert_eq(limits.memory_bytes, 1048576);
	cr_assert_eq(limits.swap_bytes, 4);
	cr_assert_eq(limits.pids, 5);
	cr_assert_eq(limits.cpus_milli, 250);
	cr_assert_str_eq(limits.cpuset, "0-1");
	cr_assert_eq(limits.disk_bytes, 4096);
	cr_assert_eq(limits.disk_inodes, 17);
	cr_assert_eq(limits.output_bytes, 0);
	cr_assert_eq(limits.open_files, 10);
	cr_assert_eq(limits.stack_bytes, 65536);
	cr_assert_eq(limits.io.rbps, 65536);
	cr_assert_eq(limits.io.wbps, 65537);
	cr_assert_eq(limits.io.riops, 1);
	cr_assert_eq(limits.io.wiops, 2);
}

Test(limits, json_null_is_absent)
{
	struct job_limits limits = job_limits_default;
	cr_assert_eq(read_json(&limits, "{\"wall_ms\":null,\"cpuset\":null,\"io\":null}", NULL), 0);
	cr_assert_eq(read_json(&limits, "{\"io\":{\"rbps\":null}}", NULL), 0);
	cr_assert_eq(memcmp(&limits, &job_limits_default, sizeof(limits)), 0);
}

Test(limits, json_refused_by_field_and_nothing_touched)
{
	static const struct {
		const char *text, *field;
		enum reject_reason reason;
	} cases[] = {{"[]", "limits", REJECT_INVALID}, {"7", "limits", REJECT_INVALID},
		{"{\"wal_ms\":1}", "limits.wal_ms", REJECT_INVALID}, {"{\"\":1}", "limits.", REJECT_INVALID},
		{"{\"io.rbps\":65536}", "limits.io.rbps", REJECT_INVALID},
		{"{\"wall_ms\":0}", "limits.wall_ms", REJECT_INVALID},
		{"{\"wall_ms\":-1}", "limits.wall_ms", REJECT_INVALID},
		{"{\"wall_ms\":1.0}", "limits.wall_ms", REJECT_INVALID},
		{"{\"wall_ms\":\"1\"}", "limits.wall_ms", REJECT_INVALID},
		{"{\"wall_ms\":true}", "limits.wall_ms", REJECT_INVALID},
		{"{\"wall_ms\":2592000001}", "limits.wall_ms", REJECT_TOO_LARGE},
		{"{\"cpu_ms\":9223372036854775807}", "limits.cpu_ms", REJECT_TOO_LARGE},
		{"{\"memory_bytes\":1048575}", "limits.memory_bytes", REJECT_INVALID},
		{"{\"swap_bytes\":-9223372036854775808}", "limits.swap_bytes", REJECT_INVALID},
		{"{\"pids\":0}", "limits.pids", REJECT_INVALID},
		{"{\"pids\":4194305}", "limits.pids", REJECT_TOO_LARGE},
		{"{\"cpus\":0}", "limits.cpus", REJECT_INVALID}, {"{\"cpus\":0.009}", "limits.cpus", REJECT_INVALID},
		{"{\"cpus\":-0.5}", "limits.cpus", REJECT_INVALID}, {"{\"cpus\":\"1\"}", "limits.cpus", REJECT_INVALID},
		{"{\"cpus\":1024.1}", "limits.cpus", REJECT_TOO_LARGE},
		{"{\"cpus\":1e300}", "limits.cpus", REJECT_TOO_LARGE},
		{"{\"cpuset\":\"\"}", "limits.cpuset", REJECT_INVALID},
		{"{\"cpuset\":[0]}", "limits.cpuset", REJECT_INVALID},
		{"{\"disk_bytes\":4095}", "limits.disk_bytes", REJECT_INVALID},
		{"{\"disk_inodes\":15}", "limits.disk_inodes", REJECT_INVALID},
		{"{\"output_bytes\":268435457}", "limits.output_bytes", REJECT_TOO_LARGE},
		{"{\"open_files\":3}", "limits.open_files", REJECT_INVALID},
		{"{\"stack_bytes\":65535}", "limits.stack_bytes", REJECT_INVALID},
		{"{\"io\":1}", "limits.io", REJECT_INVALID}, {"{\"io\":{\"bps\":1}}", "limits.io.bps", REJECT_INVALID},
		{"{\"io\":{\"io\":{}}}", "limits.io.io", REJECT_INVALID},
		{"{\"io\":{\"rbps\":0}}", "limits.io.rbps", REJECT_INVALID},
		{"{\"io\":{\"wbps\":65535}}", "limits.io.wbps", REJECT_INVALID},
		{"{\"io\":{\"wiops\":1.5}}", "limits.io.wiops", REJECT_INVALID},
		{"{\"pids\":7,\"io\":{\"riops\":1000000000000001}}", "limits.io.riops", REJECT_TOO_LARGE}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct job_limits limits = job_limits_default;
		cr_assert_eq(read_json(&limits, cases[i].text, NULL), 1, "accepted %s", cases[i].text);
		cr_assert_str_eq(reject.field, cases[i].field, "%s", cases[i].text);
		cr_assert_eq(reject.reason, cases[i].reason, "%s: %s", cases[i].text, reject.message);
		cr_assert_str_not_empty(reject.message);
		cr_assert_eq(memcmp(&limits, &job_limits_default, sizeof(limits)), 0, "%s", cases[i].text);
	}
}

Test(limits, json_messages_give_the_bound)
{
	struct job_limits limits = job_limits_default;
	(void)read_json(&limits, "{\"memory_bytes\":4096}", NULL);
	cr_assert_str_eq(reject.message, "4096 is too little: the least is 1048576 bytes");
	struct job_limits max = job_limits_ceiling;
	max.wall_ms = 5000;
	(void)read_json(&limits, "{\"wall_ms\":5001}", &max);
	cr_assert_str_eq(reject.message, "5001 is too much: the most here is 5000 ms");
	(void)read_json(&limits, "{\"pids\":1.5}", NULL);
	cr_assert_str_eq(reject.message, "must be a whole number");
	(void)read_json(&limits, "{\"cpus\":2000}", NULL);
	cr_assert_str_eq(reject.message, "2000 is too much: the most here is 1024");
}

Test(limits, max_bounds_each)
{
	for (const struct limit *limit = limit_table; limit->name; limit++) {
		if (limit->kind == LIMIT_CPUSET)
			continue;
		struct job_limits max = job_limits_ceiling, limits = job_limits_default;
		limits_set(&max, limit, limit->min + 1);
		limits_set(&limits, limit, limit->min + 1);
		cr_assert_eq(limits_check(&limits, &max, &reject), 0, "%s: %s", limit->name, reject.message);
		limits_set(&limits, limit, limit->min + 2);
		cr_assert_eq(limits_check(&limits, &max, &reject), 1, "%s", limit->name);
		cr_assert_eq(reject.reason, REJECT_TOO_LARGE);
		cr_assert_str_eq(reject.field + strlen("limits."), limit->name);
	}
}

Test(limits, max_above_the_ceiling_does_not_raise_it)
{
	struct job_limits max = job_limits_ceiling, limits = job_limits_default;
	max.pids = UINT64_MAX;
	limits.pids = job_limits_ceiling.pids + 1;
	cr_assert_eq(limits_check(&limits, &max, &reject), 1);
}

Test(limits, cpuset_within_the_workers)
{
	struct job_limits max = job_limits_ceiling, limits = job_limits_default;
	strcpy(max.cpuset, "0-3,8,64-70");
	static const struct {
		const char *list;
		int want;
	} cases[] = {{"0", 0}, {"1-3", 0}, {"3,8", 0}, {"64-70,0", 0}, {"4", 1}, {"2-4", 1}, {"8-9", 1}, {"63-64", 1},
		{"65535", 1}, {"zero", 1}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		strcpy(limits.cpuset, cases[i].list);
		cr_assert_eq(limits_check(&limits, &max, &reject), cases[i].want, "%s", cases[i].list);
		if (cases[i].want)
			cr_assert_str_eq(reject.field, "limits.cpuset");
	}
}

Test(limits, cap_lowers_defaults_only)
{
	struct job_limits max = job_limits_ceiling, limits = job_limits_default;
	limits_cap(&limits, &max);
	cr_assert_eq(memcmp(&limits, &job_limits_default, sizeof(limits)), 0, "the ceiling caps no default");
	max.wall_ms = 5000;
	max.io.rbps = 1 << 20;
	max.io.wbps = 0;
	strcpy(max.cpuset, "1");
	limits_cap(&limits, &max);
	cr_assert_eq(limits.wall_ms, 5000);
	cr_assert_eq(limits.cpu_ms, 2000);
	cr_assert_eq(limits.io.rbps, 1 << 20);
	cr_assert_eq(limits.io.wbps, 0);
	cr_assert_eq(limits.io.riops, 0);
	cr_assert_str_eq(limits.cpuset, "1");
	cr_assert_eq(limits_check(&limits, &max, &reject), 0);
}
