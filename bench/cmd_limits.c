/*
 * petri-bench limits: how far past its limit a job got before it was ended, by petri's own account of it: CPU time by its cgroup
 * against cpu_ms, wall time from exec until the sandbox was empty against wall_ms. One job at a time. In the worker.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "bench/bench_stats.h"
#include "bench/commands.h"
#include "bench/driver.h"

#define LIMIT_MS 50
#define PLENTY_MS 60000
#define SLOTS 4
#define SETTLE_US 2000
#define GOAL_US 10000 /* of wall time, and of CPU time for each CPU that the job may use */

struct limit_case {
	const char *name, *mode;
	unsigned spinners, cpus_milli;
	bool cpu; /* else wall */
	/* results */
	struct samples over;
	unsigned early, wrong; /* ended before the limit; not ended by it */
	uint64_t goal_us;
};

static struct limit_case cases[] = {
	{.name = "cpu, 0.5 CPUs, 1 process", .mode = "spin", .spinners = 1, .cpus_milli = 500, .cpu = true},
	{.name = "cpu, 1 CPU, 1 process", .mode = "spin", .spinners = 1, .cpus_milli = 1000, .cpu = true},
	{.name = "cpu, 1 CPU, 4 processes", .mode = "spin", .spinners = 4, .cpus_milli = 1000, .cpu = true},
	{.name = "cpu, 2 CPUs, 2 processes", .mode = "spin", .spinners = 2, .cpus_milli = 2000, .cpu = true},
	{.name = "wall, asleep", .mode = "sleep", .cpus_milli = 1000},
	{.name = "wall, 0.2 CPUs, 1 process busy", .mode = "spin", .spinners = 1, .cpus_milli = 200},
};

struct limits_bench {
	struct options options;
	struct workspace workspace;
	struct driver driver;
	struct loop_timer next;
	struct engine_job ej;
	size_t at;
	unsigned done;
	uint64_t deadline_us;
};

static bool is_possible(const struct limit_case *c)
{
	return c->cpus_milli <= 1000u * (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

static void note(struct limit_case *c, const struct result *r)
{
	const struct usage *u = &r->usage;
	enum job_status expected = c->cpu ? STATUS_CPU_LIMIT : STATUS_WALL_LIMIT;
	uint64_t used_us = c->cpu ? u->cpu_user_us + u->cpu_system_us : u->wall_us;
	if (r->status != expected) {
		log_warn("limits: %s: a job ended as %s: %s", c->name, job_status_name(r->status), r->message);
		c->wrong++;
		return;
	}
	if (used_us < LIMIT_MS * 1000)
		c->early++;
	samples_add(&c->over, (used_us - MIN(used_us, (uint64_t)LIMIT_MS * 1000)) * 1000);
}

static uint64_t case_deadline(const struct limits_bench *b)
{
	return b->options.seconds > 0 ? now_us() + (uint64_t)(b->options.seconds * 1e6) : UINT64_MAX;
}

static void on_done(struct engine_job *ej)
{
	struct limits_bench *b = ej->user;
	note(&cases[b->at], &ej->result);
	result_clear(&ej->result);
	job_clear(&ej->job);
	if (++b->done >= b->options.runs || now_us() > b->deadline_us) {
		b->done = 0;
		b->at++;
		b->deadline_us = case_deadline(b);
	}
	loop_timer_set(b->driver.loop, &b->next, now_us() + SETTLE_US);
}

static void on_next(struct loop_timer *timer)
{
	struct limits_bench *b = timer->data;
	while (b->at < ARRAY_SIZE(cases) && !is_possible(&cases[b->at]))
		b->at++;
	if (b->at == ARRAY_SIZE(cases)) {
		driver_finish(&b->driver);
		return;
	}
	struct limit_case *c = &cases[b->at];
	char spinners[16];
	char *argv[] = {(char *)"/load", (char *)c->mode, c->spinners ? spinners : NULL, NULL};
	(void)snprintf(spinners, sizeof(spinners), "%u", c->spinners);
	c->goal_us = c->cpu ? (uint64_t)GOAL_US * c->cpus_milli / 1000 : GOAL_US;
	driver_job(&b->driver, &b->ej, argv);
	b->ej.user = b;
	b->ej.done = on_done;
	b->ej.job.limits.cpus_milli = c->cpus_milli;
	b->ej.job.limits.cpu_ms = c->cpu ? LIMIT_MS : PLENTY_MS;
	b->ej.job.limits.wall_ms = c->cpu ? PLENTY_MS : LIMIT_MS;
	engine_start(b->driver.engine, &b->ej);
}

static void on_ready(struct driver *d)
{
	struct limits_bench *b = d->user;
	b->next = (struct loop_timer){.fn = on_next, .data = b};
	b->deadline_us = case_deadline(b);
	loop_timer_set(d->loop, &b->next, now_us() + SETTLE_US);
}

/* ---- print ---- */
static void print_json(void)
{
	json_t *array = json_array();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct limit_case *c = &cases[i];
		if (!is_possible(c))
			continue;
		(void)json_array_append_new(array,
			json_pack("{s:s, s:s, s:i, s:f, s:i, s:I, s:i, s:i, s:o}", "name", c->name, "limit", c->cpu ? "cpu_ms" : "wall_ms",
				"limit_ms", LIMIT_MS, "cpus", c->cpus_milli / 1000.0, "processes", MAX(c->spinners, 1u), "goal_us",
				(json_int_t)c->goal_us, "early", c->early, "wrong", c->wrong, "over", samples_json(&c->over)));
	}
	json_t *root = json_pack("{s:s, s:o}", "kind", "limits", "cases", array);
	_cleanup_free_ char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	(void)puts(text ? text : "{}");
	json_decref(root);
}

static void print_table(void)
{
	(void)printf("%-34s %6s %9s %9s %9s %9s %7s %7s\n", "past the limit of 50 ms; us", "runs", "p50", "p99", "max", "goal p99", "early", "wrong");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct limit_case *c = &cases[i];
		if (is_possible(c))
			(void)printf("%-34s %6zu %9.0f %9.0f %9.0f %9llu %7u %7u\n", c->name, c->over.n, samples_quantile_us(&c->over, 0.5),
				samples_quantile_us(&c->over, 0.99), samples_quantile_us(&c->over, 1), (unsigned long long)c->goal_us, c->early, c->wrong);
	}
}

static void print(struct driver *d)
{
	struct limits_bench *b = d->user;
	if (b->options.json)
		print_json();
	else
		print_table();
}

int bench_limits(int argc, char **argv)
{
	static struct limits_bench b = {.options = {.verb = "limits", .runs = 200, .slots = SLOTS}};
	struct err err = ERR_INIT;
	int code = options_parse(&b.options, OPT_RUNS | OPT_SECONDS | OPT_JSON, argc, argv);
	if (code != 0)
		return MAX(code, 0);
	b.driver = (struct driver){.workspace = &b.workspace, .options = &b.options, .ready = on_ready, .print = print, .user = &b};
	bench_catch_signals();
	code = 1;
	int r = workspace_make(&b.workspace, &err);
	if (r == 0)
		r = workspace_image(&b.workspace, &b.options, &err);
	if (r < 0)
		log_error("%s", err_msg(&err));
	else
		code = driver_run(&b.driver);
	workspace_remove(&b.workspace);
	return code;
}
