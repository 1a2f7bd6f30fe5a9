/* The figures of `petri-bench pool`: a table, JSON, and the short form of petri-bench without a verb. */
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "bench/pool.h"

/* ---- JSON ---- */
static json_t *rates_json(struct pool_bench *b)
{
	json_t *array = json_array();
	for (size_t i = 0; i < b->options.ninflight; i++) {
		struct pool_rate *r = &b->rates[i];
		(void)json_array_append_new(array,
			json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:o}", "inflight", r->inflight, "per_s", r->jobs_per_s, "native_per_s",
				r->native.per_s, "ratio", r->jobs_per_s / r->native.per_s, "cpu_us", r->cpu_us, "native_cpu_us",
				r->native.cpu_us, "latency", samples_json(&r->latency)));
	}
	return array;
}

static json_t *words_json(char **words)
{
	json_t *array = json_array();
	for (; *words; words++)
		(void)json_array_append_new(array, json_string(*words));
	return array;
}

void pool_print_json(struct pool_bench *b)
{
	const struct options *o = &b->options;
	double floor = samples_quantile_us(&b->floor_ns, 0.5), exit_known = samples_quantile_us(&b->exit_known, 0.5);
	json_t *root = json_pack("{s:s, s:o, s:i, s:i, s:i, s:f, s:f}", "kind", "pool", "program", words_json(b->subject.argv), "slots", o->slots,
		"layers", MAX(o->layers, 1u), "files", o->files, "ready_ms", b->driver.ready_ms, "idle_slot_kib", b->driver.idle_kib);
	(void)json_object_set_new(root, "floor", samples_json(&b->floor_ns));
	(void)json_object_set_new(root, "native", samples_json(b->subject.is_floor ? &b->floor_ns : &b->native_ns));
	(void)json_object_set_new(root, "latency", samples_json(&b->exit_known));
	(void)json_object_set_new(root, "handed", samples_json(&b->handed));
	(void)json_object_set_new(root, "complete", samples_json(&b->complete));
	(void)json_object_set_new(root, "ratio_p50", json_real(exit_known / floor));
	(void)json_object_set_new(root, "cpu_us", json_real(b->cpu_us));
	(void)json_object_set_new(root, "floor_cpu_us", json_real(b->floor_cpu_us));
	(void)json_object_set_new(root, "native_cpu_us", json_real(b->subject.is_floor ? b->floor_cpu_us : b->native_cpu_us));
	(void)json_object_set_new(root, "rates", rates_json(b));
	if (o->trace)
		(void)json_object_set_new(root, "steps", trace_json(&b->trace));
	_cleanup_free_ char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	(void)puts(text ? text : "{}");
	json_decref(root);
}

/* ---- tables ---- */
static void row(const char *name, struct samples *s, double cpu_us, double floor)
{
	char cpu[24] = "";
	if (cpu_us > 0)
		(void)snprintf(cpu, sizeof(cpu), "%.0f", cpu_us);
	(void)printf("%-50s %8.0f %8.0f %8.0f %8.0f %7.2f %8s\n", name, samples_quantile_us(s, 0.5), samples_quantile_us(s, 0.9),
		samples_quantile_us(s, 0.99), samples_quantile_us(s, 0.999), samples_quantile_us(s, 0.5) / floor, cpu);
}

void pool_print(struct pool_bench *b)
{
	double floor = samples_quantile_us(&b->floor_ns, 0.5);
	(void)printf("%-50s %8s %8s %8s %8s %7s %8s\n", "one at a time, in turn; us", "p50", "p90", "p99", "p99.9", "ratio", "CPU");
	row("posix_spawn + wait of a static true", &b->floor_ns, b->floor_cpu_us, floor);
	if (!b->subject.is_floor)
		row("posix_spawn + wait of the program", &b->native_ns, b->native_cpu_us, floor);
	row("warm dispatch: job given until its exit is known", &b->exit_known, b->cpu_us, floor);
	row("  of which from the message to the zygote on", &b->handed, 0, floor);
	row("job given until its result is complete", &b->complete, 0, floor);
	(void)printf("\n%-10s %12s %16s %7s %14s %14s %14s\n", "in flight", "jobs/s", "posix_spawn/s", "ratio", "CPU a job us", "latency p50 us", "p99 us");
	for (size_t i = 0; i < b->options.ninflight; i++) {
		struct pool_rate *r = &b->rates[i];
		(void)printf("%-10u %12.0f %16.0f %7.2f %14.0f %14.0f %14.0f\n", r->inflight, r->jobs_per_s, r->native.per_s,
			r->jobs_per_s / r->native.per_s, r->cpu_us, samples_quantile_us(&r->latency, 0.5), samples_quantile_us(&r->latency, 0.99));
	}
	(void)printf("\n%u slots ready after %.0f ms; the largest idle slot is charged %.0f KiB\n", b->options.slots, b->driver.ready_ms,
		b->driver.idle_kib);
	if (b->options.trace)
		trace_print(&b->trace, stdout);
}

/* ---- the short form ---- */
static void short_json(struct pool_bench *b, double spawn50, double dispatch50)
{
	const struct options *o = &b->options;
	const struct pool_rate *r = &b->rates[0];
	json_t *root = json_pack("{s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "runs", o->runs, "slots", o->slots,
		"inflight", r->inflight, "spawn_p50_us", spawn50, "spawn_p99_us", samples_quantile_us(&b->floor_ns, 0.99), "dispatch_p50_us",
		dispatch50, "dispatch_p99_us", samples_quantile_us(&b->exit_known, 0.99), "message_to_exit_p50_us",
		samples_quantile_us(&b->handed, 0.5), "dispatch_ratio_p50", dispatch50 / spawn50, "idle_slot_kib", b->driver.idle_kib,
		"slots_ready_ms", b->driver.ready_ms, "jobs_per_s", r->jobs_per_s, "spawns_per_s", r->native.per_s);
	if (o->trace)
		(void)json_object_set_new(root, "steps", trace_json(&b->trace));
	_cleanup_free_ char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
	(void)puts(text ? text : "{}");
	json_decref(root);
}

void pool_print_short(struct pool_bench *b)
{
	double spawn50 = samples_quantile_us(&b->floor_ns, 0.5), dispatch50 = samples_quantile_us(&b->exit_known, 0.5);
	if (b->options.json) {
		short_json(b, spawn50, dispatch50);
		return;
	}
	(void)printf("%-52s %10s %10s\n", "", "p50", "p99");
	(void)printf("%-52s %7.0f us %7.0f us\n", "posix_spawn + wait of a static true", spawn50, samples_quantile_us(&b->floor_ns, 0.99));
	(void)printf("%-52s %7.0f us %7.0f us\n", "warm dispatch: job given until its exit is known", dispatch50,
		samples_quantile_us(&b->exit_known, 0.99));
	(void)printf("%-52s %7.0f us\n", "  of which from the message to the zygote on", samples_quantile_us(&b->handed, 0.5));
	(void)printf("%-52s %7.2f x\n", "ratio at p50 (goal: at most 1.0)", dispatch50 / spawn50);
	(void)printf("%-52s %7.0f KiB\n", "largest idle slot, all charged to its leaf (goal: 400)", b->driver.idle_kib);
	(void)printf("%u %-49s %7.0f ms\n", b->options.slots, "slots ready after start (goal for 1024: 3000)", b->driver.ready_ms);
	(void)printf("%-52s %7.0f /s\n", "posix_spawn, in flight as below", b->rates[0].native.per_s);
	(void)printf("jobs through the pool, %u in flight %17s %8.0f /s\n", b->rates[0].inflight, "", b->rates[0].jobs_per_s);
	if (b->options.trace)
		trace_print(&b->trace, stdout);
}
