/* Samples and their quantiles. */
#include "bench/bench_stats.h"

#include <stdlib.h>

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

double samples_quantile_us(struct samples *s, double q)
{
	if (s->n == 0)
		return 0;
	qsort(s->ns, s->n, sizeof(*s->ns), compare);
	size_t at = (size_t)(q * (double)(s->n - 1) + 0.5);
	return (double)s->ns[at] / 1e3;
}

void samples_free(struct samples *s)
{
	free(s->ns);
	*s = (struct samples){0};
}
