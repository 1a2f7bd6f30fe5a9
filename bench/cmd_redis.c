/*
 * petri-bench redis: from XADD until the result can be read (BLPOP answers), one at a time, in turn with posix_spawn of the static
 * true (and of the program, when it is another) and with PING, so that the queue's share can be told; then jobs a second. CPU is the
 * worker's, with all below it, and the redis-server's; this client's is not in it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "bench/commands.h"
#include "bench/cpu.h"
#include "bench/redis_scene.h"
#include "bench/subject.h"
#include "bench/trace.h"

#define SETTLE_MS 3 /* for the slot to be made ready again */
#define WARM_FLIGHT 16u
#define NATIVE_A_CPU 4u

struct redis_rate {
	unsigned inflight;
	double jobs_per_s, cpu_us;
	struct spawn_rate native;
	struct samples latency;
};

struct redis_bench {
	struct options options;
	struct workspace workspace;
	struct redis_scene scene;
	struct subject subject;
	struct samples floor_ns, native_ns, ping_ns, latency;
	double floor_cpu_us, native_cpu_us, cpu_us; /* of one */
	struct trace trace;
	struct redis_rate rates[BENCH_INFLIGHT_MAX];
	size_t nrates;
	unsigned serial; /* of jobs */
	/* a rate under way */
	uint64_t *t0_ns;
	unsigned first, expected;
	struct samples *into;
};

static uint64_t service_cpu_us(const struct redis_bench *b)
{
	return cpu_tree_us(b->scene.worker.pid, 0) + cpu_tree_us(b->scene.server.pid, 0);
}

/* ---- one at a time ---- */
static int spawn_into(struct redis_bench *b, enum subject_program program, struct samples *samples, double *cpu_us, struct err *err)
{
	struct spawn_cost cost;
	if (spawn_once(&b->subject.programs[program], &cost) < 0)
		return err_say(err, EIO, "posix_spawn of %s failed", b->subject.programs[program].argv[0]);
	samples_add(samples, cost.ns);
	*cpu_us += (double)cost.cpu_us;
	return 0;
}

static int one(struct redis_bench *b, struct err *err)
{
	char id[32];
	(void)snprintf(id, sizeof(id), "b-%u", b->serial++);
	int r = spawn_into(b, SUBJECT_FLOOR, &b->floor_ns, &b->floor_cpu_us, err);
	if (r == 0 && !b->subject.is_floor)
		r = spawn_into(b, SUBJECT_NATIVE, &b->native_ns, &b->native_cpu_us, err);
	uint64_t t0 = now_ns();
	r = r < 0 ? r : scene_ping(&b->scene, err);
	samples_add(&b->ping_ns, now_ns() - t0);
	t0 = now_ns();
	r = r < 0 ? r : scene_add(&b->scene, id, err);
	r = r < 0 ? r : scene_wait(&b->scene, id, err);
	uint64_t took = now_ns() - t0;
	json_t *result = r < 0 ? NULL : scene_result(&b->scene, id, err);
	if (!result)
		return -EIO;
	samples_add(&b->latency, took);
	if (b->options.trace) {
		trace_add(&b->trace, "XADD to result", took);
		trace_timing(&b->trace, json_object_get(result, "timing"));
	}
	json_decref(result);
	(void)usleep(SETTLE_MS * 1000);
	return 0;
}

static int measure_latency(struct redis_bench *b, struct err *err)
{
	uint64_t until = b->options.seconds > 0 ? now_us() + (uint64_t)(b->options.seconds * 1e6) : UINT64_MAX;
	uint64_t cpu = service_cpu_us(b);
	unsigned done = 0;
	int r = 0;
	for (; r == 0 && done < b->options.runs && now_us() < until; done++)
		r = bench_interrupted ? err_say(err, EINTR, "interrupted") : one(b, err);
	b->cpu_us = (double)(service_cpu_us(b) - cpu) / MAX(done, 1u);
	b->floor_cpu_us /= MAX(done, 1u);
	b->native_cpu_us /= MAX(done, 1u);
	return r;
}

/* ---- many at a time ---- */
static void on_seen(void *ctx, unsigned number)
{
	struct redis_bench *b = ctx;
	if (b->into && number >= b->first && number - b->first < b->expected)
		samples_add(b->into, now_ns() - b->t0_ns[number - b->first]);
}

static int add(struct redis_bench *b, unsigned n, struct err *err)
{
	uint64_t now = now_ns();
	unsigned at = b->serial - b->first;
	for (unsigned i = 0; i < n; i++)
		b->t0_ns[at + i] = now;
	b->serial += n;
	return scene_add_many(&b->scene, b->serial - n, n, err);
}

/* Return: 0 with the number of jobs done, or -errno. */
static int flood(struct redis_bench *b, unsigned runs, unsigned inflight, unsigned *ret_done, struct err *err)
{
	unsigned started = MIN(runs, inflight), done = 0;
	uint64_t until = b->options.rate_seconds > 0 ? now_us() + (uint64_t)(b->options.rate_seconds * 1e6) : UINT64_MAX;
	_cleanup_free_ uint64_t *t0_ns = calloc(runs, sizeof(*t0_ns));
	if (!t0_ns)
		abort();
	b->t0_ns = t0_ns;
	b->first = b->serial;
	b->expected = runs;
	int r = add(b, started, err);
	while (r == 0 && done < started) {
		int n = scene_read(&b->scene, on_seen, b, err);
		if (n < 0)
			return n;
		done += (unsigned)n;
		unsigned more = now_us() < until ? MIN((unsigned)n, runs - started) : 0;
		started += more;
		r = more ? add(b, more, err) : 0;
	}
	*ret_done = done;
	return r;
}

static int measure_rate(struct redis_bench *b, unsigned inflight, struct err *err)
{
	struct redis_rate *rate = &b->rates[b->nrates];
	unsigned done = 0, most = NATIVE_A_CPU * (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	rate->inflight = inflight;
	if (spawn_rate(&b->subject.programs[SUBJECT_NATIVE], b->options.runs, MIN(inflight, most), b->options.rate_seconds, &rate->native) < 0)
		return err_say(err, EIO, "posix_spawn of %s failed", b->subject.programs[SUBJECT_NATIVE].argv[0]);
	b->into = &rate->latency;
	uint64_t cpu = service_cpu_us(b), t0 = now_us();
	int r = flood(b, MAX(b->options.runs, inflight), inflight, &done, err);
	if (r < 0)
		return r;
	rate->jobs_per_s = done * 1e6 / (double)(now_us() - t0);
	rate->cpu_us = (double)(service_cpu_us(b) - cpu) / done;
	b->into = NULL;
	b->nrates++;
	return 0;
}

static int measure(struct redis_bench *b, struct err *err)
{
	unsigned done;
	/* Until every slot has run a job or two: the worker is then surely up, and its caches warm. */
	int r = flood(b, 2 * b->options.slots + WARM_FLIGHT, MIN(b->options.slots, WARM_FLIGHT), &done, err);
	r = r < 0 ? r : measure_latency(b, err);
	for (size_t i = 0; r == 0 && i < b->options.ninflight; i++)
		r = measure_rate(b, b->options.inflight[i], err);
	return r;
}

/* ---- print ---- */
static void print_json(struct redis_bench *b)
{
	double floor = samples_quantile_us(&b->floor_ns, 0.5), ping = samples_quantile_us(&b->ping_ns, 0.5);
	double native = samples_quantile_us(b->subject.is_floor ? &b->floor_ns : &b->native_ns, 0.5);
	double p50 = samples_quantile_us(&b->latency, 0.5);
	json_t *rates = json_array();
	for (size_t i = 0; i < b->nrates; i++) {
		struct redis_rate *r = &b->rates[i];
		(void)json_array_append_new(rates,
			json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:o}", "inflight", r->inflight, "per_s", r->jobs_per_s, "native_per_s",
				r->native.per_s, "ratio", r->jobs_per_s / r->native.per_s, "cpu_us", r->cpu_us, "native_cpu_us",
				r->native.cpu_us, "latency", samples_json(&r->latency)));
	}
	json_t *root = json_pack("{s:s, s:i, s:b, s:f, s:f, s:o}", "kind", "redis", "slots", b->options.slots, "durable", b->options.durable,
		"ratio_p50", p50 / floor, "ratio_to_native_and_4_pings", p50 / (native + 4 * ping), "rates", rates);
	(void)json_object_set_new(root, "floor", samples_json(&b->floor_ns));
	(void)json_object_set_new(root, "native", samples_json(b->subject.is_floor ? &b->floor_ns : &b->native_ns));
	(void)json_object_set_new(root, "ping", samples_json(&b->ping_ns));
	(void)json_object_set_new(root, "latency", samples_json(&b->latency));
	(void)json_object_set_new(root, "cpu_us", json_real(b->cpu_us));
	(void)json_object_set_new(root, "floor_cpu_us", json_real(b->floor_cpu_us));
	(void)json_object_set_new(root, "native_cpu_us", json_real(b->subject.is_floor ? b->floor_cpu_us : b->native_cpu_us));
	if (b->options.trace)
		(void)json_object_set_new(root, "steps", trace_json(&b->trace));
	_cleanup_free_ char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	(void)puts(text ? text : "{}");
	json_decref(root);
}

static void row(const char *name, struct samples *s, double floor)
{
	(void)printf("%-50s %8.0f %8.0f %8.0f %8.0f %7.2f\n", name, samples_quantile_us(s, 0.5), samples_quantile_us(s, 0.9),
		samples_quantile_us(s, 0.99), samples_quantile_us(s, 0.999), samples_quantile_us(s, 0.5) / floor);
}

static void print_table(struct redis_bench *b)
{
	double floor = samples_quantile_us(&b->floor_ns, 0.5), ping = samples_quantile_us(&b->ping_ns, 0.5);
	double native = samples_quantile_us(b->subject.is_floor ? &b->floor_ns : &b->native_ns, 0.5);
	(void)printf("%-50s %8s %8s %8s %8s %7s\n", "one at a time, in turn; us", "p50", "p90", "p99", "p99.9", "ratio");
	row("posix_spawn + wait of a static true", &b->floor_ns, floor);
	if (!b->subject.is_floor)
		row("posix_spawn + wait of the program", &b->native_ns, floor);
	row("Redis round trip (PING)", &b->ping_ns, floor);
	row("XADD until the result can be read", &b->latency, floor);
	(void)printf("%-50s %8.0f %34.2f\n", "posix_spawn + 4 round trips; the result against it", native + 4 * ping,
		samples_quantile_us(&b->latency, 0.5) / (native + 4 * ping));
	(void)printf("CPU of one: posix_spawn %.0f us, through Redis %.0f us\n", b->subject.is_floor ? b->floor_cpu_us : b->native_cpu_us, b->cpu_us);
	if (b->nrates > 0)
		(void)printf("\n%-10s %12s %16s %7s %14s %14s %14s\n", "in flight", "jobs/s", "posix_spawn/s", "ratio", "CPU a job us", "latency p50 us", "p99 us");
	for (size_t i = 0; i < b->nrates; i++) {
		struct redis_rate *r = &b->rates[i];
		(void)printf("%-10u %12.0f %16.0f %7.2f %14.0f %14.0f %14.0f\n", r->inflight, r->jobs_per_s, r->native.per_s,
			r->jobs_per_s / r->native.per_s, r->cpu_us, samples_quantile_us(&r->latency, 0.5), samples_quantile_us(&r->latency, 0.99));
	}
	if (b->options.trace)
		trace_print(&b->trace, stdout);
}

int bench_redis(int argc, char **argv)
{
	static struct redis_bench b = {.options = {.verb = "redis", .runs = 1000, .slots = 64, .inflight = {1, 2, 4, 8}, .ninflight = 4}};
	struct err err = ERR_INIT;
	int code = options_parse(&b.options, OPT_RUNS | OPT_SLOTS | OPT_INFLIGHT | OPT_SECONDS | OPT_JSON | OPT_TRACE | OPT_IMAGE | OPT_FILE | OPT_NATIVE | OPT_DURABLE | OPT_PROGRAM, argc, argv);
	if (code != 0)
		return MAX(code, 0);
	bench_catch_signals();
	int r = workspace_make(&b.workspace, &err);
	r = r < 0 ? r : workspace_image(&b.workspace, &b.options, &err);
	r = r < 0 ? r : subject_choose(&b.subject, &b.workspace, &b.options, &err);
	r = r < 0 ? r : scene_open(&b.scene, &b.workspace, &b.options, b.subject.argv, &err);
	r = r < 0 ? r : measure(&b, &err);
	scene_close(&b.scene);
	workspace_remove(&b.workspace);
	if (r < 0)
		log_error("%s", err_msg(&err));
	else if (b.options.json)
		print_json(&b);
	else
		print_table(&b);
	return r < 0 ? 1 : 0;
}
