/* What is started from outside, in turn with the floor; see the header. */
#include "bench/outside.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/sys.h"

#define WARM_RUNS 3
#define WARM_SPAWNS 20

static int warm(struct outside *o)
{
	struct spawn_cost cost;
	for (int i = 0; i < WARM_SPAWNS; i++)
		if (spawn_once(&o->floor, &cost) < 0)
			return -1;
	for (int i = 0; i < WARM_RUNS; i++)
		if (o->once(o, &cost) < 0)
			return -1;
	return 0;
}

static int measure_latency(struct outside *o)
{
	struct spawn_cost cost;
	uint64_t until = o->options.seconds > 0 ? now_us() + (uint64_t)(o->options.seconds * 1e6) : UINT64_MAX;
	unsigned i = 0;
	for (; i < o->options.runs && now_us() < until; i++) {
		if (spawn_once(&o->floor, &cost) < 0)
			return -1;
		samples_add(&o->floor_ns, cost.ns);
		o->floor_cpu_us += (double)cost.cpu_us;
		if (o->once(o, &cost) < 0)
			return -1;
		samples_add(&o->latency, cost.ns);
		o->cpu_us += (double)cost.cpu_us;
	}
	o->floor_cpu_us /= i ? i : 1;
	o->cpu_us /= i ? i : 1;
	return 0;
}

static int measure_rates(struct outside *o)
{
	for (size_t i = 0; i < o->options.ninflight; i++) {
		struct outside_rate *r = &o->rates[i];
		r->inflight = o->options.inflight[i];
		if (spawn_rate(&o->floor, o->options.runs, r->inflight, o->options.rate_seconds, &r->floor) < 0 ||
			o->many(o, o->options.runs, r->inflight, o->options.rate_seconds, &r->it) < 0)
			return -1;
		o->nrates++;
	}
	return 0;
}

int outside_measure(struct outside *o)
{
	o->floor_argv[0] = o->workspace.floor;
	o->floor = (struct program){.argv = o->floor_argv};
	int r = warm(o);
	r = r < 0 ? r : measure_latency(o);
	return r < 0 ? r : measure_rates(o);
}

static json_t *rates_json(const struct outside *o)
{
	json_t *array = json_array();
	for (size_t i = 0; i < o->nrates; i++) {
		const struct outside_rate *r = &o->rates[i];
		(void)json_array_append_new(array,
			json_pack("{s:i, s:f, s:f, s:f, s:f, s:f}", "inflight", r->inflight, "per_s", r->it.per_s, "native_per_s", r->floor.per_s,
				"ratio", r->it.per_s / r->floor.per_s, "cpu_us", r->it.cpu_us, "native_cpu_us", r->floor.cpu_us));
	}
	return array;
}

static void print_json(struct outside *o)
{
	json_t *words = json_array();
	for (char **word = o->options.argv; *word; word++)
		(void)json_array_append_new(words, json_string(*word));
	json_t *root = json_pack("{s:s, s:o, s:o, s:o, s:f, s:f, s:f, s:o}", "kind", o->kind, "argv", words, "floor",
		samples_json(&o->floor_ns), "latency", samples_json(&o->latency), "ratio_p50",
		samples_quantile_us(&o->latency, 0.5) / samples_quantile_us(&o->floor_ns, 0.5), "cpu_us", o->cpu_us, "floor_cpu_us",
		o->floor_cpu_us, "rates", rates_json(o));
	_cleanup_free_ char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	(void)puts(text ? text : "{}");
	json_decref(root);
}

static void row(const char *name, struct samples *s, double cpu_us, double floor)
{
	(void)printf("%-44s %6zu %9.0f %9.0f %9.0f %9.0f %7.2f %9.0f\n", name, s->n, samples_quantile_us(s, 0.5), samples_quantile_us(s, 0.9),
		samples_quantile_us(s, 0.99), samples_quantile_us(s, 0.999), samples_quantile_us(s, 0.5) / floor, cpu_us);
}

void outside_print(struct outside *o)
{
	if (o->options.json) {
		print_json(o);
		return;
	}
	double floor = samples_quantile_us(&o->floor_ns, 0.5);
	(void)printf("%-44s %6s %9s %9s %9s %9s %7s %9s\n", "one at a time, in turn; us", "runs", "p50", "p90", "p99", "p99.9", "ratio", "CPU");
	row("posix_spawn + wait of a static true", &o->floor_ns, o->floor_cpu_us, floor);
	row(o->options.argv[0], &o->latency, o->cpu_us, floor);
	if (o->nrates > 0)
		(void)printf("\n%-10s %12s %16s %7s %14s\n", "in flight", "runs/s", "posix_spawn/s", "ratio", "CPU a run us");
	for (size_t i = 0; i < o->nrates; i++)
		(void)printf("%-10u %12.0f %16.0f %7.2f %14.0f\n", o->rates[i].inflight, o->rates[i].it.per_s, o->rates[i].floor.per_s,
			o->rates[i].it.per_s / o->rates[i].floor.per_s, o->rates[i].it.cpu_us);
}
