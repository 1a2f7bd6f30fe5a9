/* Counting, the judgement of health, the text, and where the server may listen. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "executor/metrics.h"
#include "executor/metrics_http.h"

static struct metrics well(void)
{
	struct metrics m = {.at_us = 10000000, .nursery_us = 10000000, .queue.connected = true};
	m.slots[ENGINE_SLOT_READY] = 1;
	return m;
}

Test(metrics, buckets)
{
	struct metrics m = {0};
	metrics_observe(&m, METRICS_RUN, 0);
	metrics_observe(&m, METRICS_RUN, metrics_bucket_us[0]); /* a bound belongs to its bucket */
	metrics_observe(&m, METRICS_RUN, metrics_bucket_us[0] + 1);
	metrics_observe(&m, METRICS_RUN, metrics_bucket_us[METRICS_BUCKETS - 1] + 1);
	const struct metrics_histogram *h = &m.step[METRICS_RUN];
	cr_assert_eq(h->count[0], 2);
	cr_assert_eq(h->count[1], 1);
	cr_assert_eq(h->count[METRICS_BUCKETS], 1);
	cr_assert_eq(h->sum_us, 2 * metrics_bucket_us[0] + metrics_bucket_us[METRICS_BUCKETS - 1] + 2);
	for (size_t i = 1; i < METRICS_BUCKETS; i++)
		cr_assert_gt(metrics_bucket_us[i], metrics_bucket_us[i - 1]);
}

/* A refused job took part in no step but the first; one whose program did not start in none after the hand-over. */
Test(metrics, steps_that_were_not)
{
	struct metrics m = {0};
	struct result refused = {.status = STATUS_REJECTED}, failed = {.status = STATUS_EXEC_FAILED};
	metrics_result(&m, &refused, 0);
	cr_assert_eq(m.jobs[STATUS_REJECTED], 1);
	cr_assert_eq(m.step[METRICS_QUEUED].count[0], 1);
	cr_assert_eq(m.step[METRICS_PLACE].count[0], 0);
	metrics_result(&m, &failed, 5);
	cr_assert_eq(m.step[METRICS_PLACE].count[0], 1);
	cr_assert_eq(m.step[METRICS_DISPATCH].count[0], 1);
	cr_assert_eq(m.step[METRICS_EXEC].count[0], 0);
}

Test(metrics, health)
{
	struct metrics m = well();
	cr_assert_null(metrics_health(&m, 10000001));
	cr_assert_null(metrics_health(&m, 9000000)); /* a clock read before the picture was taken */
	cr_assert_str_eq(metrics_health(&m, 16000001), "the worker's loop does not turn");
	m.nursery_us = 1;
	cr_assert_str_eq(metrics_health(&m, 10000001), "the nursery does not answer");
	m.nursery_us = 0;
	cr_assert_not_null(metrics_health(&m, 10000001));
	m = well();
	m.slots[ENGINE_SLOT_RETIRED] = 1;
	cr_assert_null(metrics_health(&m, 10000001));
	m.slots[ENGINE_SLOT_READY] = 0;
	cr_assert_str_eq(metrics_health(&m, 10000001), "every slot had to be retired");
	m = well();
	m.queue.connected = false;
	cr_assert_str_eq(metrics_health(&m, 10000001), "Redis is not connected");
	m = (struct metrics){0};
	cr_assert_str_eq(metrics_health(&m, 10000001), "the worker is starting");
}

Test(metrics, text)
{
	struct metrics m = well();
	(void)strcpy(m.name, "a\"b\\c\nd");
	char *text = metrics_text(&m, 3, -1);
	cr_assert_not_null(strstr(text, "worker=\"a\\\"b\\\\c\\nd\"} 1\n"));
	cr_assert_not_null(strstr(text, "\npetri_cgroups_dying 3\n"));
	cr_assert_null(strstr(text, "petri_host_memory_cgroups"));
	cr_assert_null(strstr(text, "petri_queue_depth"), "nobody has looked yet");
	cr_assert_not_null(strstr(text, "petri_job_step_seconds_bucket{step=\"run\",le=\"0.0001\"} 0\n"));
	cr_assert_not_null(strstr(text, "petri_job_step_seconds_bucket{step=\"run\",le=\"+Inf\"} 0\n"));
	free(text);
	metrics_observe(&m, METRICS_RUN, UINT64_C(3600000000)); /* beyond the last bound */
	m.look.at_us = 1;
	m.look.by[1].oldest_us = 1234567;
	text = metrics_text(&m, -1, -1);
	cr_assert_not_null(strstr(text, "petri_queue_oldest_seconds{priority=\"normal\"} 1.234567\n"));
	cr_assert_not_null(strstr(text, "step=\"run\",le=\"1800\"} 0\n"));
	cr_assert_not_null(strstr(text, "step=\"run\",le=\"+Inf\"} 1\npetri_job_step_seconds_sum{step=\"run\"} 3600.000000\n"
					"petri_job_step_seconds_count{step=\"run\"} 1\n"));
	free(text);
}

Test(metrics, places)
{
	static const char *const good[] = {"on", "9464", "1", "65535", "127.0.0.1:9464", "0.0.0.0:80", "[::1]:9464", "[::]:1"},
				 *const bad[] = {"", ":", "0", "65536", "-1", "9464x", "localhost:9464", "127.0.0.1", "127.0.0.1:", ":9464",
					 "::1:9464", "[::1]", "[::1]9464", "[]:1", "[::1:1", "1.2.3:4", "256.0.0.1:1", "on:1", "99999999999999999999",
					 "[1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111]:1"};
	struct err err = ERR_INIT;
	cr_assert_eq(metrics_server_check("off", &err), 1);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		cr_assert_eq(metrics_server_check(good[i], &err), 0, "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(metrics_server_check(bad[i], &err), -EINVAL, "%s", bad[i]);
}
