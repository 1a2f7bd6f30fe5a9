/* Steps by name; see the header. */
#include "bench/trace.h"

#include <string.h>

static struct samples *find_step(struct trace *t, const char *name)
{
	for (size_t i = 0; i < t->nsteps; i++)
		if (strcmp(t->steps[i].name, name) == 0)
			return &t->steps[i].samples;
	if (t->nsteps == TRACE_STEPS_MAX)
		return NULL;
	(void)snprintf(t->steps[t->nsteps].name, sizeof(t->steps[0].name), "%s", name);
	return &t->steps[t->nsteps++].samples;
}

void trace_add(struct trace *t, const char *name, uint64_t ns)
{
	struct samples *s = find_step(t, name);
	if (s)
		samples_add(s, ns);
}

void trace_timing(struct trace *t, const json_t *timing)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)timing, key, value)
	{
		size_t n = strlen(key);
		char name[40];
		if (n < 4 || n >= sizeof(name) || strcmp(key + n - 3, "_us") != 0 || !json_is_integer(value))
			continue;
		(void)snprintf(name, sizeof(name), "%.*s", (int)(n - 3), key);
		trace_add(t, name, (uint64_t)json_integer_value(value) * 1000);
	}
}

void trace_print(struct trace *t, FILE *f)
{
	for (size_t i = 0; i < t->nsteps; i++) {
		struct samples *s = &t->steps[i].samples;
		(void)fprintf(f, "\n%s: n %zu, p50 %.0f us, p90 %.0f us, p99 %.0f us, max %.0f us\n", t->steps[i].name, s->n,
			samples_quantile_us(s, 0.5), samples_quantile_us(s, 0.9), samples_quantile_us(s, 0.99), samples_quantile_us(s, 1));
		samples_histogram(s, f);
	}
}

json_t *trace_json(struct trace *t)
{
	json_t *o = json_object();
	for (size_t i = 0; i < t->nsteps; i++)
		(void)json_object_set_new(o, t->steps[i].name, samples_json(&t->steps[i].samples));
	return o;
}
