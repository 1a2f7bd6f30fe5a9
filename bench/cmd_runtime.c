/*
 * petri-bench runtime: what a warm runtime saves. From the job in hand until its exit is known, `python3 main.py` that says hello, with
 * the image host's runtime python3 waiting in each slot, in turn with posix_spawn + wait of `python3 -c pass`; then the same job
 * started cold. In the worker but for image and options, which are made ready before it exists.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "bench/bench_stats.h"
#include "bench/commands.h"
#include "bench/driver.h"
#include "bench/spawn.h"
#include "bench/yardstick.h"
#include "layers/store.h"
#include "pool/wire.h"

#define PYTHON "/usr/bin/python3"
#define SLOTS 4
#define LOOK_US 2000
#define SETTLE_US 20000 /* after the next interpreter waits, so that nothing of its start is measured */
#define HELLO "print(\"hello\")\n"
#define SAID "hello\n"

struct runtime_bench {
	struct options options;
	struct workspace workspace;
	struct driver driver;
	struct yardstick yardstick;
	struct loop_timer next;
	struct engine_job ej;
	struct samples native, warm, cold;
	uint64_t t0_ns, deadline_us;
	unsigned done; /* of this half */
	bool cold_half, settled;
	char file[400]; /* options.file */
};

static uint64_t deadline(const struct runtime_bench *b)
{
	return b->options.seconds > 0 ? now_us() + (uint64_t)(b->options.seconds * 1e6) : UINT64_MAX;
}

static void on_ended(struct engine_job *ej)
{
	struct runtime_bench *b = ej->user;
	samples_add(b->cold_half ? &b->cold : &b->warm, now_ns() - b->t0_ns);
}

/* The warm half comes first: a cold job has its slot be a plain one for the next. */
static void on_done(struct engine_job *ej)
{
	struct runtime_bench *b = ej->user;
	const struct result_stream *out = &ej->result.out;
	bool said = out->len == strlen(SAID) && memcmp(out->data, SAID, out->len) == 0;
	driver_job_clear(&b->driver, ej, STATUS_EXITED);
	if (!b->driver.failed && !said)
		driver_fail(&b->driver, "python3 did not say what it had to");
	if (b->driver.failed)
		return;
	if (++b->done >= b->options.runs || now_us() > b->deadline_us) {
		if (b->cold_half) {
			driver_finish(&b->driver);
			return;
		}
		b->cold_half = true;
		b->done = 0;
		b->deadline_us = deadline(b);
	}
	loop_timer_set(b->driver.loop, &b->next, now_us() + LOOK_US);
}

static void start_one(struct runtime_bench *b)
{
	static char *argv[] = {(char *)"python3", (char *)"main.py", NULL};
	struct spawn_cost cost;
	if (yardstick_once(&b->yardstick, 0, &cost) < 0) {
		driver_fail(&b->driver, "posix_spawn of " PYTHON " failed");
		return;
	}
	samples_add(&b->native, cost.ns);
	driver_job(&b->driver, &b->ej, argv);
	if (b->cold_half)
		b->ej.job.limits.open_files--; /* not the usual: no runtime serves it */
	b->ej.user = b;
	b->ej.ended = on_ended;
	b->ej.done = on_done;
	b->t0_ns = now_ns();
	engine_start(b->driver.engine, &b->ej);
}

static void on_next(struct loop_timer *timer)
{
	struct runtime_bench *b = timer->data;
	bool ready = engine_ready_slots(b->driver.engine) >= b->options.slots;
	if (ready && b->settled) {
		b->settled = false;
		start_one(b);
		return;
	}
	b->settled = ready;
	loop_timer_set(b->driver.loop, timer, now_us() + (ready ? SETTLE_US : LOOK_US));
}

static void on_ready(struct driver *d)
{
	struct runtime_bench *b = d->user;
	struct spawn_cost ignored;
	(void)yardstick_once(&b->yardstick, 0, &ignored); /* caches */
	b->deadline_us = deadline(b);
	b->next = (struct loop_timer){.fn = on_next, .data = b};
	loop_timer_set(d->loop, &b->next, now_us() + LOOK_US);
}

/* ---- print ---- */
static void row(const char *what, struct samples *s, double native)
{
	(void)printf("%-62s %8.0f %8.0f %8.0f %7.2f\n", what, samples_quantile_us(s, 0.5), samples_quantile_us(s, 0.9),
		samples_quantile_us(s, 0.99), samples_quantile_us(s, 0.5) / native);
}

static void print_table(struct runtime_bench *b)
{
	double native = samples_quantile_us(&b->native, 0.5);
	(void)printf("%-62s %8s %8s %8s %7s\n", "one at a time, in turn; us", "p50", "p90", "p99", "ratio");
	row("posix_spawn + wait of python3 -c pass", &b->native, native);
	row("python3 main.py, warm: job given until exit known (goal 0.15)", &b->warm, native);
	row("python3 main.py, cold", &b->cold, native);
	(void)printf("\n%u slots ready after %.0f ms; the largest with a waiting python3 is charged %.0f KiB\n", b->options.slots,
		b->driver.ready_ms, b->driver.idle_kib);
}

static void print_json(struct runtime_bench *b)
{
	double native = samples_quantile_us(&b->native, 0.5);
	json_t *root = json_pack("{s:s, s:i, s:f, s:f, s:f, s:f, s:o, s:o, s:o}", "kind", "runtime", "slots", b->options.slots, "ready_ms",
		b->driver.ready_ms, "idle_slot_kib", b->driver.idle_kib, "ratio_p50", samples_quantile_us(&b->warm, 0.5) / native,
		"cold_ratio_p50", samples_quantile_us(&b->cold, 0.5) / native, "native", samples_json(&b->native), "latency",
		samples_json(&b->warm), "cold", samples_json(&b->cold));
	_cleanup_free_ char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
	(void)puts(text ? text : "{}");
	json_decref(root);
}

static void print(struct driver *d)
{
	struct runtime_bench *b = d->user;
	if (b->options.json)
		print_json(b);
	else
		print_table(b);
}

/* ---- before ---- */
/* The program, and python3 as the runtime of the image host. */
static int prepare(struct runtime_bench *b, struct err *err)
{
	const struct image_runtime runtime = {.shipped = (char *)"python3"};
	struct store *store = NULL;
	char source[300];
	(void)snprintf(source, sizeof(source), "%s/main.py", b->workspace.dir);
	(void)snprintf(b->file, sizeof(b->file), "/work/main.py=%s", source);
	b->options.file = b->file;
	_cleanup_close_ int fd = open(source, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || fd_write_all(fd, HELLO, strlen(HELLO)) < 0)
		return err_set(err, errno, "write %s", source);
	int r = store_open(b->workspace.state, &store, err);
	if (r == 0)
		r = image_set_runtime(store, "host", &runtime, err);
	store_free(store);
	return r;
}

static int run(struct runtime_bench *b)
{
	static char *python[] = {(char *)PYTHON, (char *)"-c", (char *)"pass", NULL};
	const struct program program = {.argv = python, .foreign = true, .log_fd = STDERR_FILENO};
	struct err err = ERR_INIT;
	int code = 1;
	bench_catch_signals();
	int r = workspace_make(&b->workspace, &err);
	r = r < 0 ? r : prepare(b, &err);
	r = r < 0 ? r : yardstick_start(&b->yardstick, &program, 1, &err);
	if (r < 0)
		log_error("%s", err_msg(&err));
	else
		code = driver_run(&b->driver);
	yardstick_stop(&b->yardstick);
	workspace_remove(&b->workspace);
	return code;
}

int bench_runtime(int argc, char **argv)
{
	static struct runtime_bench b = {.options = {.verb = "runtime", .runs = 200, .slots = SLOTS, .host = true}};
	int code = options_parse(&b.options, OPT_RUNS | OPT_SLOTS | OPT_SECONDS | OPT_JSON, argc, argv);
	if (code != 0)
		return MAX(code, 0);
	if (b.options.slots > POOL_SLOTS_MAX) {
		(void)fprintf(stderr, "petri-bench runtime: at most %d slots\n", POOL_SLOTS_MAX);
		return 125;
	}
	b.driver = (struct driver){.workspace = &b.workspace, .options = &b.options, .ready = on_ready, .print = print, .user = &b};
	return run(&b);
}
