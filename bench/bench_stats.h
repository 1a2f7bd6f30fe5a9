/* Samples and their quantiles. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct samples {
	uint64_t *ns;
	size_t n, cap;
};

void samples_add(struct samples *s, uint64_t ns);
/* samples_quantile_us - sorts; q in [0, 1]; 0 when empty. */
double samples_quantile_us(struct samples *s, double q);
void samples_free(struct samples *s);
