/*
 * The metrics server's thread (executor/metrics_http.h): the main thread publishes and asks, as the worker's loop does, while clients
 * scrape, some of them hostile, and the server is stopped under them, time after time. Every figure of a picture is the same number, so
 * that an answer made of two pictures shows; ThreadSanitizer sees the accesses themselves.
 *
 * Seen to fail under TSan with this taken out of executor/metrics_http.c:
 * - take_picture()'s lock: "data race … in take_picture";
 * - metrics_server_publish()'s lock: the same;
 * - pthread_join() in metrics_server_stop(): an abort, "use of an invalid mutex".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/metrics_http.h"
#include "tests/threads/check.h"

#define SCRAPERS 3
#define ROUNDS 12
#define ANSWERS 8 /* of each kind, in each round, before the server is stopped */
#define WAIT_US 60000000u

static atomic_uint port, scrapes, checks, pests; /* answers of this round */
static atomic_bool end;

static const struct timespec a_moment = {.tv_nsec = 1000000};

/* ---- clients ---- */

static int dial(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atomic_load(&port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct timeval patience = {.tv_sec = 10};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0, "socket: %d", errno);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!a.sin_port || connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0) {
		(void)nanosleep(&a_moment, NULL);
		return -1;
	}
	return TAKE_FD(fd);
}

static void tell(int fd, const char *text, size_t len)
{
	(void)!send(fd, text, len, MSG_NOSIGNAL);
}

/* Return: what came until the end, of which there may be none. */
static size_t hear(int fd, char *text, size_t size)
{
	size_t len = 0;
	for (ssize_t n; len < size - 1 && (n = recv(fd, text + len, size - 1 - len, 0)) > 0;)
		len += (size_t)n;
	text[len] = '\0';
	return len;
}

static unsigned long long figure(const char *text, const char *name)
{
	const char *at = strstr(text, name);
	CHECK(at, "no %s in: %s", name, text);
	return strtoull(at + strlen(name), NULL, 10);
}

/* One picture only, and all of it. */
static void check_scrape(const char *text)
{
	unsigned long long n = figure(text, "\npetri_jobs_placed_total ");
	CHECK(figure(text, "\npetri_jobs_warm_total ") == n && figure(text, "\npetri_jobs_rerun_total ") == n &&
			figure(text, "\npetri_jobs_fetched_total ") == n && figure(text, "\npetri_jobs_total{status=\"exited\"} ") == n &&
			figure(text, "\npetri_nursery_restarts_total ") == n && figure(text, "\npetri_jobs_dead_total ") == n,
		"not one picture: %s", text);
}

static void *scrape(void *ctx)
{
	static const char metrics[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", health[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
	char *text = malloc(1 << 16);
	CHECK(text, "no memory");
	for (unsigned i = *(unsigned *)ctx; !atomic_load(&end); i++) {
		_cleanup_close_ int fd = dial();
		if (fd < 0)
			continue;
		tell(fd, i % 4 ? metrics : health, i % 4 ? strlen(metrics) : strlen(health));
		size_t len = hear(fd, text, 1 << 16);
		/* Cut off in the middle by the end of the server: no answer. */
		if (i % 4 && strstr(text, "\r\n\r\n") && strstr(text, "petri_redis_errors_total{") && text[len - 1] == '\n') {
			check_scrape(text);
			atomic_fetch_add(&scrapes, 1);
		} else if (i % 4 == 0 && strstr(text, "\r\n\r\n")) {
			CHECK(strncmp(text, "HTTP/1.1 200 ", 13) == 0, "%s", text);
			atomic_fetch_add(&checks, 1);
		}
	}
	free(text);
	return NULL;
}

/* Half of a request, nothing, too much, a body, several at once, rubbish, byte for byte; and gone, often by a reset. */
static void *pester(void *ctx)
{
	static const char *const says[] = {"GET /met", "", "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nabc",
		"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n",
		"\x16\x03\x01\x02\xff\xfe\r\n\r\n\r\n", "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"HEAD /metrics HTTP/1.0\r\n\r\n", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "DELETE /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"};
	const struct linger reset = {.l_onoff = 1};
	char huge[20000], text[512];
	int size = 1;
	(void)ctx;
	memset(huge, 'a', sizeof(huge));
	for (unsigned i = 0; !atomic_load(&end); i++) {
		_cleanup_close_ int fd = dial();
		if (fd < 0)
			continue;
		const char *what = says[i % ARRAY_SIZE(says)];
		if (i % 7 == 0)
			(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)); /* does not read, either */
		if (i % 5 == 0) {
			for (const char *c = what; *c && c < what + 20; c++)
				tell(fd, c, 1);
		} else {
			tell(fd, what, strlen(what));
		}
		if (i % 11 == 0)
			tell(fd, huge, sizeof(huge));
		if (i % 3 == 0)
			(void)recv(fd, text, sizeof(text), MSG_DONTWAIT);
		if (i % 2)
			(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		atomic_fetch_add(&pests, 1);
		cleanup_close(&fd);
		(void)nanosleep(&a_moment, NULL); /* more would only fill the queue of connections, and the others wait a second */
	}
	return NULL;
}

/* ---- the loop's part ---- */

static unsigned free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && bind(fd, (const struct sockaddr *)&a, len) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0, "a port: %d", errno);
	return ntohs(a.sin_port);
}

static void picture(struct metrics *m, uint64_t n)
{
	m->at_us = m->nursery_us = now_us();
	m->placed = m->warm = m->rerun = m->nurseries = m->queue.fetched = m->queue.dead = n;
	for (unsigned i = 0; i < STATUS_MAX; i++)
		m->jobs[i] = n;
	for (unsigned i = 0; i < ENGINE_SLOT_MAX; i++)
		m->slots[i] = 2;
	m->queue.connected = true;
	(void)snprintf(m->name, sizeof(m->name), "worker-%llu", (unsigned long long)n);
}

static bool enough(void)
{
	return atomic_load(&scrapes) >= ANSWERS && atomic_load(&checks) >= ANSWERS / 4 && atomic_load(&pests) >= 4 * ANSWERS;
}

static void serve_once(uint64_t *n)
{
	static struct metrics m;
	struct metrics_server *server = NULL;
	struct err err = ERR_INIT;
	char where[16];
	int r = -EADDRINUSE;
	for (unsigned tries = 0; r == -EADDRINUSE && tries < 20; tries++) {
		(void)snprintf(where, sizeof(where), "%u", free_port());
		r = metrics_server_start(where, &server, &err);
	}
	CHECK(r == 0 && server, "%s", err_msg(&err));
	picture(&m, ++*n);
	metrics_server_publish(server, &m);
	atomic_store(&scrapes, 0);
	atomic_store(&checks, 0);
	atomic_store(&pests, 0);
	atomic_store(&port, (unsigned)strtoul(where, NULL, 10));
	bool asked = false;
	for (uint64_t until = now_us() + WAIT_US; !enough();) {
		CHECK(now_us() < until, "%u scrapes, %u checks, %u pests", atomic_load(&scrapes), atomic_load(&checks), atomic_load(&pests));
		picture(&m, ++*n);
		metrics_server_publish(server, &m);
		asked |= metrics_server_asked(server);
		log_debug("published");
		if (*n % 64 == 0)
			(void)nanosleep(&a_moment, NULL);
	}
	CHECK(asked, "nobody asked");
	metrics_server_stop(server); /* the clients go on */
}

int main(void)
{
	pthread_t threads[SCRAPERS + 1];
	unsigned first[SCRAPERS];
	uint64_t n = 0;
	log_init();
	for (unsigned i = 0; i <= SCRAPERS; i++) {
		if (i < SCRAPERS)
			first[i] = i;
		int r = pthread_create(&threads[i], NULL, i < SCRAPERS ? scrape : pester, i < SCRAPERS ? &first[i] : NULL);
		CHECK(r == 0, "a thread: %d", r);
	}
	for (unsigned i = 0; i < ROUNDS; i++)
		serve_once(&n);
	atomic_store(&end, true);
	for (unsigned i = 0; i <= SCRAPERS; i++)
		(void)pthread_join(threads[i], NULL);
	return 0;
}
