/* Samples and their quantiles. */
#include "bench/bench_stats.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define BAR_WIDTH 40

void samples_add(struct samples *s, uint64_t ns)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 1024;
		uint64_t *bigger = realloc(s->ns, cap * sizeof(*bigger));
		if (!bigger)
			abort(); /* a bench that drops samples would lie */
		s->ns = bigger;
		s->cap = cap;
	}
	s->ns[s->n++] = ns;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void sort(struct samples *s)
{
	if (s->n > 0)
		qsort(s->ns, s->n, sizeof(*s->ns), compare);
}

static double quantile(const struct samples *s, double q)
{
	return s->n == 0 ? 0 : (double)s->ns[(size_t)(q * (double)(s->n - 1) + 0.5)] / 1e3;
}

double samples_quantile_us(struct samples *s, double q)
{
	sort(s);
	return quantile(s, q);
}

double samples_mean_us(const struct samples *s)
{
	double sum = 0;
	for (size_t i = 0; i < s->n; i++)
		sum += (double)s->ns[i];
	return s->n == 0 ? 0 : sum / (double)s->n / 1e3;
}

void samples_free(struct samples *s)
{
	free(s->ns);
	*s = (struct samples){0};
}

static json_t *curve(const struct samples *s)
{
	static const double at[] = {0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7,
		0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.993, 0.995, 0.997, 0.999, 1};
	json_t *points = json_array();
	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		(void)json_array_append_new(points, json_pack("[f, f]", at[i], quantile(s, at[i])));
	return points;
}

json_t *samples_json(struct samples *s)
{
	sort(s);
	if (s->n == 0)
		return json_null();
	return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "n", (json_int_t)s->n, "mean_us", samples_mean_us(s),
		"min_us", quantile(s, 0), "p50_us", quantile(s, 0.5), "p90_us", quantile(s, 0.9), "p99_us", quantile(s, 0.99),
		"p99_9_us", quantile(s, 0.999), "max_us", quantile(s, 1), "curve", curve(s));
}

static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / 1000;
	return us == 0 ? 0 : 64 - (unsigned)__builtin_clzll(us);
}

void samples_histogram(struct samples *s, FILE *f)
{
	size_t counts[65] = {0}, most = 1;
	unsigned first = 64, last = 0;
	for (size_t i = 0; i < s->n; i++) {
		unsigned b = bucket_of(s->ns[i]);
		counts[b]++;
		most = MAX(most, counts[b]);
		first = MIN(first, b);
		last = MAX(last, b);
	}
	for (unsigned b = first; s->n > 0 && b <= last; b++) {
		char bar[BAR_WIDTH + 1] = "";
		memset(bar, '#', (counts[b] * BAR_WIDTH + most - 1) / most);
		(void)fprintf(f, "  %8llu us …  %7zu  %s\n", b == 0 ? 0ull : 1ull << ((b - 1) & 63), counts[b], bar);
	}
}
