/* What the tests of the queue share: a redis-server of their own, and workers on an event loop. Included once a file. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/queue.h"

#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"
#define SERVER "/usr/bin/redis-server"
#define SECRET "correct-horse"

/* ---- a server ---- */

static char dir[] = "/tmp/petri-queue-XXXXXX", socket_path[64];
static pid_t server;
static redisContext *ctl;
static const char *password;
static struct loop *loop;

static void start_server(const char *fsync)
{
	char port[] = "0";
	server = fork();
	if (server == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(SERVER, SERVER, "--port", port, "--unixsocket", socket_path, "--dir", dir, "--appendonly", "yes",
			"--appendfsync", fsync, "--maxmemory-policy", "noeviction", "--save", "", "--logfile",
			"redis.log", "--requirepass", password ? password : "", (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 1000; i++) {
		if (ctl)
			redisFree(ctl);
		ctl = redisConnectUnix(socket_path);
		if (ctl && !ctl->err) {
			redisReply *reply = password ? redisCommand(ctl, "AUTH %s", password) : redisCommand(ctl, "PING");
			bool up = reply && reply->type == REDIS_REPLY_STATUS;
			freeReplyObject(reply);
			if (up) {
				reply = redisCommand(ctl, "XLEN nothing"); /* LOADING? */
				up = reply && reply->type == REDIS_REPLY_INTEGER;
				freeReplyObject(reply);
			}
			if (up)
				return;
		}
		usleep(5000);
	}
	cr_assert_fail("redis-server did not start");
}

static void kill_server(void)
{
	cr_assert_gt(server, 0);
	cr_assert_eq(kill(server, SIGKILL), 0);
	cr_assert_eq(waitpid(server, NULL, 0), server);
	server = 0;
}

static void set_up(void)
{
	if (access(SERVER, X_OK) < 0)
		cr_skip_test("redis-server is not installed");
	cr_assert_not_null(mkdtemp(dir));
	(void)snprintf(socket_path, sizeof(socket_path), "%s/s", dir);
	log_set_level(LOG_ERROR_);
	start_server("always");
	struct err err = ERR_INIT;
	cr_assert_eq(loop_new(64, &loop, &err), 0, "%s", err_msg(&err));
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void tear_down(void)
{
	loop_free(loop);
	if (ctl)
		redisFree(ctl);
	if (server > 0) {
		(void)kill(server, SIGKILL);
		(void)waitpid(server, NULL, 0);
	}
	(void)nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static redisReply *last_reply;

static redisReply *redis(const char *format, ...)
{
	if (last_reply)
		freeReplyObject(last_reply);
	va_list ap;
	va_start(ap, format);
	last_reply = redisvCommand(ctl, format, ap);
	va_end(ap);
	cr_assert_not_null(last_reply, "%s: %s", format, ctl->errstr);
	cr_assert_neq(last_reply->type, REDIS_REPLY_ERROR, "%s: %s", format, last_reply->str);
	return last_reply;
}

static long long pending(const char *stream)
{
	return redis("XPENDING %s petri", stream)->element[0]->integer;
}

static void add(const char *stream, const char *id)
{
	if (id)
		redis("XADD %s * job {\"id\":\"%s\"} id %s", stream, id, id);
	else
		redis("XADD %s * job {}", stream);
}

/* Is a client of it blocked in this command? */
static bool blocked_in(const char *command)
{
	char needle[32];
	(void)snprintf(needle, sizeof(needle), "cmd=%s ", command);
	const char *list = redis("CLIENT LIST")->str;
	for (const char *line = list; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		const char *end = line + strcspn(line, "\n"), *flags = strstr(line, "flags=b"), *cmd = strstr(line, needle);
		if (flags && flags < end && cmd && cmd < end)
			return true;
	}
	return false;
}

/* ---- a worker ---- */

#define JOBS_MAX 512

struct worker {
	struct queue *queue;
	struct loop *loop;
	unsigned slots, out, peak, njobs, ncancel, nlost, nfinished, nfatal;
	bool by_hand; /* do not finish jobs at once */
	bool no_start;
	struct queue_entry *held[JOBS_MAX];
	char ids[JOBS_MAX][64], cancelled[64], fatal[512];
	unsigned attempts[JOBS_MAX];
	size_t json_len;
	char json[256];
	uint64_t at_us;
};

static void finish(struct worker *w, struct queue_entry *entry, const char *id)
{
	char json[200];
	(void)snprintf(json, sizeof(json), "{\"id\":\"%s\",\"status\":\"exited\",\"attempt\":%u}", id, entry->attempt);
	w->out--;
	queue_finish(w->queue, entry, id, json, "front", "exited", "{\"m\":1}");
	queue_want(w->queue, w->slots - w->out);
}

/* The id: the entry's field, else the JSON's {"id":"…"}, else the entry's own. */
static void on_job(void *ctx, struct queue_entry *entry)
{
	struct worker *w = ctx;
	w->at_us = now_us();
	w->out++;
	w->peak = MAX(w->peak, w->out);
	cr_assert_leq(w->out, w->slots);
	cr_assert_lt(w->njobs, JOBS_MAX);
	char *id = w->ids[w->njobs];
	if (entry->id_field)
		(void)snprintf(id, 64, "%.60s", entry->id_field);
	else if (sscanf(entry->json, "{\"id\":\"%40[^\"]", id) != 1)
		(void)snprintf(id, 64, "%s", entry->entry_id);
	w->json_len = entry->json_len;
	memcpy(w->json, entry->json, MIN(entry->json_len, sizeof(w->json)));
	w->attempts[w->njobs] = entry->attempt;
	w->held[w->njobs++] = entry;
	queue_want(w->queue, w->slots - w->out);
	if (!w->no_start)
		queue_started(w->queue, entry, id, 10000);
	if (!w->by_hand)
		finish(w, entry, id);
}

static void on_cancel(void *ctx, const char *id)
{
	struct worker *w = ctx;
	w->ncancel++;
	(void)snprintf(w->cancelled, sizeof(w->cancelled), "%.60s", id);
}

static void on_lost(void *ctx, struct queue_entry *entry)
{
	struct worker *w = ctx;
	w->nlost++;
	w->out--;
	queue_want(w->queue, w->slots - w->out);
}

static void on_finished(void *ctx, struct queue_entry *entry)
{
	((struct worker *)ctx)->nfinished++;
}

static void on_fatal(void *ctx, const struct err *err)
{
	struct worker *w = ctx;
	w->nfatal++;
	(void)snprintf(w->fatal, sizeof(w->fatal), "%s", err->msg);
}

static const struct queue_events events = {on_job, on_cancel, on_lost, on_finished, on_fatal};

static struct redis_url url(const char *secret)
{
	struct redis_url u = {0};
	(void)snprintf(u.path, sizeof(u.path), "%s", socket_path);
	if (secret)
		(void)snprintf(u.password, sizeof(u.password), "%s", secret);
	return u;
}

static struct queue_config settings(const char *name, uint64_t lease_ms)
{
	struct queue_config config = {.url = url(password), .prefix = "petri", .name = name};
	config.lease_ms = lease_ms;
	config.result_ttl_ms = 60000;
	config.max_attempts = 2;
	return config;
}

static void start_config(struct worker *w, struct queue_config config)
{
	struct err err = ERR_INIT;
	w->loop = w->loop ? w->loop : loop;
	cr_assert_eq(queue_new(w->loop, &config, &events, w, &w->queue, &err), 0, "%s", err_msg(&err));
	queue_want(w->queue, w->slots);
}

static void start(struct worker *w, const char *name, uint64_t lease_ms)
{
	struct queue_config config = settings(name, lease_ms);
	config.slots = w->slots;
	start_config(w, config);
}

static void nothing(struct loop_timer *timer)
{
}

static void step(struct loop *l, unsigned ms)
{
	struct loop_timer timer = {.fn = nothing};
	struct err err = ERR_INIT;
	loop_timer_set(l, &timer, now_us() + ms * 1000);
	cr_assert_eq(loop_step(l, &err), 0, "%s", err_msg(&err));
	loop_timer_clear(l, &timer);
}

#define UNTIL(condition) \
	do { \
		uint64_t until_ = now_us() + 20000000; \
		while (!(condition)) { \
			cr_assert_lt(now_us(), until_, "waited in vain: %s", #condition); \
			step(loop, 5); \
		} \
	} while (0)

static void run_for(unsigned ms)
{
	for (uint64_t end = now_us() + ms * 1000; now_us() < end;)
		step(loop, 5);
}

static struct queue_stats stats(struct worker *w)
{
	struct queue_stats s;
	queue_stats(w->queue, &s);
	return s;
}

static struct queue_client *client(void)
{
	struct queue_client *c = NULL;
	struct redis_url u = url(password);
	struct err err = ERR_INIT;
	cr_assert_eq(queue_client_open(&u, "petri", &c, &err), 0, "%s", err_msg(&err));
	return c;
}
