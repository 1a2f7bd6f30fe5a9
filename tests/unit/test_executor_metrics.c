/* Counting, the judgement of health, the text, and where the server may listen. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* ---- the server's thread beside a loop that publishes (for the thread sanitizer, too) ---- */

static uint16_t free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	(void)close(fd);
	return ntohs(a.sin_port);
}

static char *fetch(uint16_t port, const char *request)
{
	static char reply[256 << 10];
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	size_t len = 0;
	ssize_t n;
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(write(fd, request, strlen(request)), (ssize_t)strlen(request));
	while ((n = read(fd, reply + len, sizeof(reply) - 1 - len)) > 0)
		len += (size_t)n;
	reply[len] = '\0';
	(void)close(fd);
	return reply;
}

static atomic_bool enough;

static void *publish(void *server)
{
	struct metrics m = well();
	while (!enough) {
		m.at_us++;
		m.running++;
		m.jobs[STATUS_EXITED] = m.running; /* these two are always the same in one picture */
		metrics_server_publish(server, &m);
		(void)metrics_server_asked(server);
	}
	return NULL;
}

static unsigned long long sample(const char *text, const char *name)
{
	const char *at = strstr(text, name);
	cr_assert_not_null(at, "no %s in %s", name, text);
	return strtoull(at + strlen(name), NULL, 10);
}

Test(metrics, pictures_are_whole, .timeout = 60)
{
	struct metrics_server *server = NULL;
	struct err err = ERR_INIT;
	char where[16];
	uint16_t port = free_port();
	pthread_t loop;
	(void)snprintf(where, sizeof(where), "%u", port);
	cr_assert_eq(metrics_server_start(where, &server, &err), 0, "%s", err_msg(&err));
	cr_assert_not_null(strstr(fetch(port, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), "the worker is starting"));
	cr_assert_eq(pthread_create(&loop, NULL, publish, server), 0);
	for (int i = 0; i < 200; i++) {
		const char *text = fetch(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
		cr_assert_eq(sample(text, "\npetri_jobs_running "), sample(text, "\npetri_jobs_total{status=\"exited\"} "));
	}
	enough = true;
	(void)pthread_join(loop, NULL);
	metrics_server_stop(server);
	cr_assert_eq(metrics_server_start("off", &server, &err), 0);
	cr_assert_null(server);
	metrics_server_stop(NULL);
}
