/*
 * petri-bench pool: warm dispatch against posix_spawn of a static true, in turn, in one run; then jobs a second. The jobs go straight
 * to the engine. In the worker but for options and image, which are made ready before it exists.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "bench/commands.h"
#include "bench/pool.h"
#include "pool/wire.h"

#define SETTLE_US 2000	    /* between one dispatch and the next, so that no background clean-up is measured with it */
#define PATIENCE_US 2000000 /* a slot that is not ready again by then does not hold up the rest */
#define WARM_SPAWNS 20

/* ---- one at a time ---- */
static void note_trace(struct pool_bench *b, const struct engine_job *ej, uint64_t now)
{
	_cleanup_free_ char *text = result_json(&ej->result);
	json_t *result = text ? json_loads(text, 0, NULL) : NULL;
	trace_add(&b->trace, "given to handed over", ej->dispatched_ns - b->t0_ns);
	trace_add(&b->trace, "handed over to exit known", ej->ended_ns - ej->dispatched_ns);
	trace_add(&b->trace, "exit known to result", now - ej->ended_ns);
	trace_add(&b->trace, "exec to exit", ej->result.usage.wall_us * 1000);
	trace_timing(&b->trace, json_object_get(result, "timing"));
	json_decref(result);
}

static void on_one_ended(struct engine_job *ej)
{
	struct pool_bench *b = ej->user;
	uint64_t now = now_ns();
	samples_add(&b->exit_known, now - b->t0_ns);
	samples_add(&b->handed, now - ej->dispatched_ns);
}

static void on_one_done(struct engine_job *ej)
{
	struct pool_bench *b = ej->user;
	uint64_t now = now_ns();
	samples_add(&b->complete, now - b->t0_ns);
	if (b->options.trace)
		note_trace(b, ej, now);
	driver_job_clear(&b->driver, ej, STATUS_EXITED);
	if (b->driver.failed)
		return;
	b->wait_since_us = 0;
	if (++b->done >= b->options.runs || now_us() > b->deadline_us)
		pool_start_rates(b);
	else
		loop_timer_set(b->driver.loop, &b->next, now_us() + SETTLE_US);
}

static bool spawn_into(struct pool_bench *b, enum subject_program program, struct samples *samples, double *cpu_us)
{
	struct spawn_cost cost;
	if (yardstick_once(&b->yardstick, program, &cost) < 0) {
		driver_fail(&b->driver, "posix_spawn of %s failed", b->subject.programs[program].argv[0]);
		return false;
	}
	samples_add(samples, cost.ns);
	*cpu_us += (double)cost.cpu_us;
	return true;
}

/* Every slot waits again, or one takes too long to be waited for. */
static bool is_settled(struct pool_bench *b)
{
	uint64_t now = now_us();
	if (engine_ready_slots(b->driver.engine) >= b->options.slots)
		return true;
	if (!b->wait_since_us)
		b->wait_since_us = now;
	return now - b->wait_since_us > PATIENCE_US && engine_ready_slots(b->driver.engine) > 0;
}

static void on_next(struct loop_timer *timer)
{
	struct pool_bench *b = timer->data;
	if (!is_settled(b)) {
		loop_timer_set(b->driver.loop, timer, now_us() + 500);
		return;
	}
	/* One of each in turn: whatever else the machine does, it does to all. */
	if (!spawn_into(b, SUBJECT_FLOOR, &b->floor_ns, &b->floor_cpu_us))
		return;
	if (!b->subject.is_floor && !spawn_into(b, SUBJECT_NATIVE, &b->native_ns, &b->native_cpu_us))
		return;
	driver_job(&b->driver, &b->ej, b->subject.argv);
	b->ej.user = b;
	b->ej.ended = on_one_ended;
	b->ej.done = on_one_done;
	b->t0_ns = now_ns();
	engine_start(b->driver.engine, &b->ej);
}

static uint64_t deadline(const struct pool_bench *b)
{
	return b->options.seconds > 0 ? now_us() + (uint64_t)(b->options.seconds * 1e6) : UINT64_MAX;
}

static void on_ready(struct driver *d)
{
	struct pool_bench *b = d->user;
	struct spawn_cost ignored;
	for (int i = 0; i < WARM_SPAWNS; i++)
		(void)yardstick_once(&b->yardstick, SUBJECT_FLOOR, &ignored); /* caches */
	if (!b->subject.is_floor)
		(void)yardstick_once(&b->yardstick, SUBJECT_NATIVE, &ignored);
	b->deadline_us = deadline(b);
	b->cpu_begin_us = driver_cpu_us(b->yardstick.pid);
	b->next = (struct loop_timer){.fn = on_next, .data = b};
	loop_timer_set(d->loop, &b->next, now_us() + SETTLE_US);
}

/* ---- before ---- */
static void print_worker(struct driver *d)
{
	struct pool_bench *b = d->user;
	if (b->options.json)
		pool_print_json(b);
	else
		pool_print(b);
}

static void print_short(struct driver *d)
{
	pool_print_short(d->user);
}

static int run(struct pool_bench *b)
{
	struct err err = ERR_INIT;
	int code = 1;
	if (b->options.slots > POOL_SLOTS_MAX) {
		(void)fprintf(stderr, "petri-bench pool: at most %d slots\n", POOL_SLOTS_MAX);
		return 125;
	}
	bench_catch_signals();
	int r = workspace_make(&b->workspace, &err);
	if (r == 0)
		r = workspace_image(&b->workspace, &b->options, &err);
	if (r == 0)
		r = subject_choose(&b->subject, &b->workspace, &b->options, &err);
	if (r == 0)
		r = yardstick_start(&b->yardstick, b->subject.programs, SUBJECT_PROGRAMS, &err);
	if (r < 0)
		log_error("%s", err_msg(&err));
	else
		code = driver_run(&b->driver);
	yardstick_stop(&b->yardstick);
	workspace_remove(&b->workspace);
	return code;
}

int bench_pool(int argc, char **argv)
{
	static struct pool_bench b = {.options = {.verb = "pool", .runs = 2000, .slots = 64, .inflight = {1, 2, 4, 8}, .ninflight = 4}};
	int r = options_parse(&b.options, OPT_RUNS | OPT_SLOTS | OPT_INFLIGHT | OPT_SECONDS | OPT_JSON | OPT_TRACE | OPT_IMAGE | OPT_FILE | OPT_NATIVE | OPT_PROGRAM, argc, argv);
	if (r != 0)
		return MAX(r, 0);
	b.driver = (struct driver){.workspace = &b.workspace, .options = &b.options, .ready = on_ready, .print = print_worker, .user = &b};
	return run(&b);
}

int bench_combined(int argc, char **argv)
{
	static struct pool_bench b = {.options = {.verb = "", .runs = 2000, .slots = 64, .inflight = {4}, .ninflight = 1}};
	int r = options_parse(&b.options, OPT_RUNS | OPT_SLOTS | OPT_INFLIGHT | OPT_JSON | OPT_TRACE, argc, argv);
	if (r != 0)
		return MAX(r, 0);
	b.options.ninflight = MIN(b.options.ninflight, (size_t)1);
	b.driver = (struct driver){.workspace = &b.workspace, .options = &b.options, .ready = on_ready, .print = print_short, .user = &b};
	return run(&b);
}
