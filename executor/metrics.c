/* Counting, and the judgement whether a worker is well. Pure functions on values; see the header. */
#include "executor/metrics.h"

#include "base/cleanup.h"

#define STALE_US 5000000u /* the loop takes a picture twice a second; a nursery is asked each time */

const uint64_t metrics_bucket_us[METRICS_BUCKETS] = {100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000,
	1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000, 1800000000};

const char *metrics_step_name(enum metrics_step step)
{
	static const char *const names[METRICS_STEP_MAX] = {"queued", "place", "dispatch", "exec", "run", "collect", "finish"};
	return (unsigned)step < METRICS_STEP_MAX ? names[step] : "?";
}

void metrics_observe(struct metrics *metrics, enum metrics_step step, uint64_t us)
{
	struct metrics_histogram *h = &metrics->step[step];
	size_t i = 0;
	while (i < METRICS_BUCKETS && us > metrics_bucket_us[i])
		i++;
	h->count[i]++;
	h->sum_us += us;
}

void metrics_result(struct metrics *metrics, const struct result *result, uint64_t placed_us)
{
	metrics->jobs[result->status]++;
	metrics_observe(metrics, METRICS_QUEUED, result->timing.queued_us);
	if (!placed_us)
		return;
	metrics_observe(metrics, METRICS_PLACE, placed_us);
	metrics_observe(metrics, METRICS_DISPATCH, result->timing.dispatch_us);
	/* Without a program that started there is nothing of what follows. */
	if (!result->usage.wall_us)
		return;
	metrics_observe(metrics, METRICS_EXEC, result->timing.exec_us);
	metrics_observe(metrics, METRICS_RUN, result->usage.wall_us);
	metrics_observe(metrics, METRICS_COLLECT, result->timing.collect_us);
}

static bool older(uint64_t at_us, uint64_t now_us)
{
	return now_us > at_us && now_us - at_us > STALE_US;
}

const char *metrics_health(const struct metrics *m, uint64_t now_us)
{
	unsigned slots = 0;
	if (!m->at_us)
		return "the worker is starting";
	if (older(m->at_us, now_us))
		return "the worker's loop does not turn";
	if (!m->nursery_us)
		return "the nursery has not answered yet";
	if (older(m->nursery_us, now_us))
		return "the nursery does not answer";
	for (unsigned i = 0; i < ENGINE_SLOT_MAX; i++)
		slots += m->slots[i];
	if (slots > 0 && m->slots[ENGINE_SLOT_RETIRED] == slots)
		return "every slot had to be retired";
	if (!m->queue.connected)
		return "Redis is not connected";
	return NULL;
}
