/* Samples, their quantiles, and the JSON and the histograms made of them. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct samples {
	uint64_t *ns;
	size_t n, cap;
};

void samples_add(struct samples *s, uint64_t ns);
/* samples_quantile_us - sorts; q in [0, 1]; 0 when empty. */
double samples_quantile_us(struct samples *s, double q);
double samples_mean_us(const struct samples *s);
void samples_free(struct samples *s);

/*
 * samples_json - {"n", "mean_us", "min_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "curve": [[q, µs], …]}, or
 * null when empty. The curve has more points towards q = 1, where the tail is. A new reference; sorts.
 */
json_t *samples_json(struct samples *s);

/* samples_histogram - a line a power of two of microseconds, with a bar; sorts. */
void samples_histogram(struct samples *s, FILE *f);
