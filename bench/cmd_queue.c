/*
 * petri-bench queue: what the queue alone carries. The worker's side of it runs here, in this process, and a job's work is
 * nothing: its result is given as soon as the job comes. Four figures, each with a redis-server of its own:
 *   rate     jobs a second, from XADD to the result, against a raw loop of XADD, XREADGROUP and XACK, pipelined, and a loop of all
 *            the commands that a job's keys need, pipelined too; the three in turn
 *   memory   of this process under a million jobs that wait
 *   held     as many results of 64 KiB as there are slots, held back while Redis was away: how long after its return they are there
 *   tenants  how many of one tenant's 100000 waiting jobs come before another's single one
 */
#include <errno.h>
#include <hiredis/hiredis.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "bench/child.h"
#include "bench/commands.h"
#include "bench/options.h"
#include "bench/workspace.h"
#include "executor/queue.h"
#include "executor/redis_reply.h"

#define BATCH 64u /* what the raw loop has on its way at once */
#define ROUNDS 5u /* raw and petri's in turn */
#define MILLION 1000000u
#define TENANT_JOBS 100000u
#define HELD_BYTES (64u << 10)
#define WAIT_US 60000000u
#define SLOTS_MAX 1024u

#define JOB "{\"argv\":[\"/bin/true\"]}"
#define RESULT "{\"status\":\"exited\",\"exit_code\":0}"

struct queue_bench {
	struct options options;
	struct workspace workspace;
	struct child server;
	char socket[320];
	redisContext *redis;
	struct loop *loop;
	struct queue *queue;
	/* what the present measurement does with a job */
	bool hold;
	struct queue_entry *held[SLOTS_MAX];
	unsigned out, came, finished, of_b_at;
	unsigned serial;
	char failed[256];
	/* figures */
	double raw_per_s, all_per_s, petri_per_s, held_ms;
	uint64_t before_kib, after_kib;
	unsigned tenant_jobs_before;
};

/* ---- the server ---- */

static int start_server(struct queue_bench *b, struct err *err)
{
	char *argv[] = {(char *)"redis-server", (char *)"--port", (char *)"0", (char *)"--unixsocket", b->socket, (char *)"--save", (char *)"",
		(char *)"--dir", b->workspace.dir, (char *)"--appendonly", (char *)(b->options.durable ? "yes" : "no"), (char *)"--appendfsync",
		(char *)"always", (char *)"--maxmemory-policy", (char *)"noeviction", (char *)"--logfile", (char *)"redis.log", NULL};
	int r = child_start(&b->server, argv, 0, err);
	for (int i = 0; r == 0 && i < 2500 && !bench_interrupted; i++) {
		b->redis = redisConnectUnix(b->socket);
		redisReply *pong = b->redis && !b->redis->err ? redisCommand(b->redis, "PING") : NULL;
		bool up = pong && pong->type == REDIS_REPLY_STATUS;
		freeReplyObject(pong);
		if (up)
			return 0;
		if (b->redis)
			redisFree(TAKE_PTR(b->redis));
		(void)poll(NULL, 0, 2);
	}
	return r < 0 ? r : err_say(err, ECONNREFUSED, "redis-server does not answer; is it installed?");
}

static void stop_server(struct queue_bench *b)
{
	if (b->redis)
		redisFree(TAKE_PTR(b->redis));
	child_stop(&b->server);
}

/* Read n replies. Return: 0, or -errno where one is an error. */
static int replies(struct queue_bench *b, unsigned n, redisReply **ret_last, struct err *err)
{
	for (unsigned i = 0; i < n; i++) {
		redisReply *reply = NULL;
		if (redisGetReply(b->redis, (void **)&reply) != REDIS_OK || !reply)
			return err_say(err, EIO, "redis: %s", b->redis->errstr);
		int r = reply->type == REDIS_REPLY_ERROR ? err_say(err, EIO, "redis: %s", reply->str) : 0;
		if (r == 0 && ret_last && i + 1 == n)
			*ret_last = reply;
		else
			freeReplyObject(reply);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add(struct queue_bench *b, const char *stream, unsigned n, struct err *err)
{
	for (unsigned done = 0; done < n && !bench_interrupted;) {
		unsigned batch = MIN(n - done, 1000u);
		for (unsigned i = 0; i < batch; i++)
			(void)redisAppendCommand(b->redis, "XADD %s * job %s id j%u", stream, JOB, b->serial++);
		int r = replies(b, batch, NULL, err);
		if (r < 0)
			return r;
		done += batch;
	}
	return 0;
}

/* ---- the worker's side ---- */

static void give(struct queue_bench *b, struct queue_entry *entry, const char *result)
{
	b->out--;
	queue_finish(b->queue, entry, entry->id_field ? entry->id_field : entry->entry_id, result, NULL, "exited", NULL);
	queue_want(b->queue, b->hold ? 0 : b->options.slots - b->out);
}

static void on_job(void *ctx, struct queue_entry *entry)
{
	struct queue_bench *b = ctx;
	b->came++;
	if (entry->json_len == 1 && !b->of_b_at)
		b->of_b_at = b->came;
	b->held[b->out++] = entry;
	queue_started(b->queue, entry, entry->id_field ? entry->id_field : entry->entry_id, 10000);
	if (!b->hold)
		give(b, entry, RESULT);
}

static void on_finished(void *ctx, struct queue_entry *entry)
{
	(void)entry;
	((struct queue_bench *)ctx)->finished++;
}

static void on_cancel(void *ctx, const char *id)
{
	(void)ctx;
	(void)id;
}

static void on_lost(void *ctx, struct queue_entry *entry)
{
	struct queue_bench *b = ctx;
	(void)snprintf(b->failed, sizeof(b->failed), "the lease of %s was lost", entry->entry_id);
}

static void on_fatal(void *ctx, const struct err *why)
{
	struct queue_bench *b = ctx;
	(void)snprintf(b->failed, sizeof(b->failed), "%.250s", err_msg(why));
}

static int open_queue(struct queue_bench *b, struct err *err)
{
	static const struct queue_events events = {on_job, on_cancel, on_lost, on_finished, on_fatal};
	struct queue_config config = {.prefix = "petri", .name = "bench", .lease_ms = 30000, .result_ttl_ms = 60000, .max_attempts = 3, .allow_volatile = true, .slots = b->options.slots};
	(void)snprintf(config.url.path, sizeof(config.url.path), "%.250s", b->socket);
	b->out = b->came = b->finished = b->of_b_at = 0;
	b->hold = false;
	return queue_new(b->loop, &config, &events, b, &b->queue, err);
}

static void close_queue(struct queue_bench *b)
{
	queue_free(TAKE_PTR(b->queue));
}

static void nothing(struct loop_timer *timer)
{
	(void)timer;
}

/* Steps until *count is n. */
static int until(struct queue_bench *b, const unsigned *count, unsigned n, struct err *err)
{
	uint64_t end = now_us() + WAIT_US;
	int r = 0;
	while (r == 0 && *count < n) {
		struct loop_timer timer = {.fn = nothing};
		if (bench_interrupted || b->failed[0] || now_us() > end)
			return err_say(err, EIO, "%s", bench_interrupted ? "interrupted" : b->failed[0] ? b->failed
													: "no end within a minute");
		loop_timer_set(b->loop, &timer, now_us() + 100000);
		r = loop_step(b->loop, err);
		loop_timer_clear(b->loop, &timer);
	}
	return r;
}

/* ---- the figures ---- */

static unsigned raw_ack(struct queue_bench *b, const char *entry, unsigned serial)
{
	(void)serial;
	(void)redisAppendCommand(b->redis, "XACK raw petri %s", entry);
	return 1;
}

/* What the scripts do for a job that nobody cancelled and nobody waits for by `reply`, a request a command: what is left of a job's price
 * where neither Lua nor the worker has a part in it. */
static unsigned all_commands(struct queue_bench *b, const char *entry, unsigned serial)
{
	(void)redisAppendCommand(b->redis, "EXISTS all:result:j%u all:cancelled:j%u all:state:j%u", serial, serial, serial);
	(void)redisAppendCommand(b->redis, "HSET all:state:j%u worker bench entry %s attempt 1", serial, entry);
	(void)redisAppendCommand(b->redis, "PEXPIRE all:state:j%u 60000", serial);
	(void)raw_ack(b, entry, serial);
	(void)redisAppendCommand(b->redis, "XDEL raw %s", entry);
	(void)redisAppendCommand(b->redis, "SET all:result:j%u %s NX PX 60000", serial, RESULT);
	(void)redisAppendCommand(b->redis, "DEL all:done:j%u all:state:j%u all:cancelled:j%u", serial, serial, serial);
	(void)redisAppendCommand(b->redis, "RPUSH all:done:j%u exited", serial);
	(void)redisAppendCommand(b->redis, "PEXPIRE all:done:j%u 60000", serial);
	return 9;
}

/* XADD, XREADGROUP, and what is done with an entry, by batches: one request an entry, as entries come and end one by one, but for the read. */
static int raw_loop(struct queue_bench *b, unsigned runs, unsigned (*each)(struct queue_bench *, const char *, unsigned), struct err *err)
{
	int r = 0;
	for (unsigned done = 0; r == 0 && done < runs && !bench_interrupted; done += BATCH) {
		redisReply *read = NULL;
		unsigned first = b->serial, n = 0;
		for (unsigned i = 0; i < BATCH; i++)
			(void)redisAppendCommand(b->redis, "XADD raw * job %s id j%u", JOB, b->serial++);
		(void)redisAppendCommand(b->redis, "XREADGROUP GROUP petri raw COUNT %u STREAMS raw >", BATCH);
		r = replies(b, BATCH + 1, &read, err);
		const redisReply *list = redis_reply_at(redis_reply_at(read, 0), 1);
		for (unsigned i = 0; r == 0 && redis_reply_at(list, i); i++)
			n += each(b, redis_reply_text(redis_reply_at(redis_reply_at(list, i), 0)), first + i);
		freeReplyObject(read);
		r = r < 0 ? r : replies(b, n, NULL, err);
	}
	return r;
}

static int petri_loop(struct queue_bench *b, unsigned runs, struct err *err)
{
	unsigned target = b->finished;
	int r = 0;
	for (unsigned done = 0; r == 0 && done < runs;) {
		unsigned n = MIN(runs - done, 4 * b->options.slots);
		r = add(b, "petri:jobs", n, err);
		r = r < 0 ? r : until(b, &b->finished, target += n, err);
		done += n;
	}
	return r;
}

static int measure_rate(struct queue_bench *b, struct err *err)
{
	uint64_t raw_us = 0, all_us = 0, petri_us = 0;
	unsigned runs = MAX(b->options.runs / ROUNDS / BATCH, 1u) * BATCH;
	freeReplyObject(redisCommand(b->redis, "XGROUP CREATE raw petri 0 MKSTREAM"));
	int r = open_queue(b, err);
	if (r < 0)
		return r;
	queue_want(b->queue, b->options.slots);
	r = petri_loop(b, BATCH, err); /* connected, and warm */
	for (unsigned i = 0; r == 0 && i < ROUNDS; i++) {
		uint64_t t0 = now_us();
		r = raw_loop(b, runs, raw_ack, err);
		uint64_t t1 = now_us();
		r = r < 0 ? r : raw_loop(b, runs, all_commands, err);
		uint64_t t2 = now_us();
		r = r < 0 ? r : petri_loop(b, runs, err);
		raw_us += t1 - t0;
		all_us += t2 - t1;
		petri_us += now_us() - t2;
	}
	b->raw_per_s = raw_us ? (double)runs * ROUNDS * 1e6 / (double)raw_us : 0;
	b->all_per_s = all_us ? (double)runs * ROUNDS * 1e6 / (double)all_us : 0;
	b->petri_per_s = petri_us ? (double)runs * ROUNDS * 1e6 / (double)petri_us : 0;
	close_queue(b);
	return r;
}

static uint64_t resident_kib(void)
{
	unsigned long long size = 0, resident = 0;
	_cleanup_fclose_ FILE *f = fopen("/proc/self/statm", "re");
	if (!f || fscanf(f, "%llu %llu", &size, &resident) != 2)
		return 0;
	// cppcheck-suppress resourceLeak ; its cleanup attribute closes it
	return resident * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

static int measure_memory(struct queue_bench *b, struct err *err)
{
	int r = open_queue(b, err);
	if (r < 0)
		return r;
	queue_want(b->queue, b->options.slots);
	r = petri_loop(b, 4 * b->options.slots, err);
	b->before_kib = resident_kib();
	r = r < 0 ? r : add(b, "petri:jobs", MILLION, err);
	r = r < 0 ? r : until(b, &b->finished, b->finished + 20000, err);
	b->after_kib = resident_kib();
	close_queue(b);
	return r;
}

static int measure_held(struct queue_bench *b, struct err *err)
{
	_cleanup_free_ char *result = malloc(HELD_BYTES + 1);
	if (!result)
		return err_set(err, ENOMEM, "a result");
	memset(result, 'x', HELD_BYTES);
	result[HELD_BYTES] = '\0';
	int r = open_queue(b, err);
	if (r < 0)
		return r;
	b->hold = true;
	queue_want(b->queue, b->options.slots);
	r = add(b, "petri:jobs", b->options.slots, err);
	r = r < 0 ? r : until(b, &b->came, b->options.slots, err);
	stop_server(b);
	for (unsigned n = b->out; r == 0 && n; n--)
		give(b, b->held[n - 1], result);
	for (uint64_t end = now_us() + 3000000; r == 0 && now_us() < end;) { /* the backoff grows meanwhile */
		struct loop_timer timer = {.fn = nothing};
		loop_timer_set(b->loop, &timer, now_us() + 50000);
		r = loop_step(b->loop, err);
		loop_timer_clear(b->loop, &timer);
	}
	r = r < 0 ? r : start_server(b, err);
	uint64_t t0 = now_us();
	r = r < 0 ? r : until(b, &b->finished, b->options.slots, err);
	b->held_ms = (double)(now_us() - t0) / 1000;
	close_queue(b);
	return r;
}

/* One slot, so that the order in which jobs come is the order in which they were chosen. */
static int measure_tenants(struct queue_bench *b, struct err *err)
{
	unsigned slots = b->options.slots;
	freeReplyObject(redisCommand(b->redis, "SADD petri:tenants a b"));
	int r = add(b, "petri:jobs:t:a", TENANT_JOBS, err);
	r = r < 0 ? r : open_queue(b, err);
	if (r < 0)
		return r;
	b->options.slots = 1;
	queue_want(b->queue, 1);
	r = until(b, &b->finished, 100, err);
	unsigned at = b->came;
	freeReplyObject(redisCommand(b->redis, "XADD petri:jobs:t:b * job b"));
	while (r == 0 && !b->of_b_at)
		r = until(b, &b->came, b->came + 1, err);
	b->tenant_jobs_before = b->of_b_at - at - 1;
	b->options.slots = slots;
	close_queue(b);
	return r;
}

static void print(const struct queue_bench *b)
{
	double ratio = b->raw_per_s > 0 ? b->petri_per_s / b->raw_per_s : 0;
	if (b->options.json) {
		(void)printf("{\"kind\": \"queue\", \"durable\": %s, \"slots\": %u, \"raw_per_s\": %.0f, \"all_per_s\": %.0f, \"jobs_per_s\": %.0f, \"ratio\": %.3f, "
			     "\"memory_before_kib\": %llu, \"memory_after_kib\": %llu, \"held\": %u, \"held_ms\": %.0f, \"tenant_jobs_before\": %u}\n",
			b->options.durable ? "true" : "false", b->options.slots, b->raw_per_s, b->all_per_s, b->petri_per_s, ratio,
			(unsigned long long)b->before_kib, (unsigned long long)b->after_kib, b->options.slots, b->held_ms, b->tenant_jobs_before);
		return;
	}
	(void)printf("raw XADD, XREADGROUP, XACK        %9.0f a second\n", b->raw_per_s);
	(void)printf("all commands that a job's keys need %7.0f a second\n", b->all_per_s);
	(void)printf("jobs of no work                   %9.0f a second, %.2f of that\n", b->petri_per_s, ratio);
	(void)printf("memory with 1000000 jobs waiting  %9llu KiB, %llu before\n", (unsigned long long)b->after_kib, (unsigned long long)b->before_kib);
	(void)printf("held back, %4u of 64 KiB         %9.0f ms after Redis' return\n", b->options.slots, b->held_ms);
	(void)printf("another tenant's job waited for   %9u of the 100000 before it\n", b->tenant_jobs_before);
}

int bench_queue(int argc, char **argv)
{
	static struct queue_bench b = {.options = {.verb = "queue", .runs = 50000, .slots = SLOTS_MAX}};
	static int (*const steps[])(struct queue_bench *, struct err *) = {measure_rate, measure_memory, measure_held, measure_tenants};
	struct err err = ERR_INIT;
	int code = options_parse(&b.options, OPT_RUNS | OPT_SLOTS | OPT_JSON | OPT_DURABLE, argc, argv);
	if (code != 0)
		return MAX(code, 0);
	bench_catch_signals();
	b.options.slots = MIN(b.options.slots, SLOTS_MAX);
	redis_ignore_sigpipe();
	int r = workspace_make(&b.workspace, &err);
	(void)snprintf(b.socket, sizeof(b.socket), "%s/redis.sock", b.workspace.dir);
	r = r < 0 ? r : loop_new(256, &b.loop, &err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(steps); i++) {
		r = start_server(&b, &err);
		if (r == 0)
			freeReplyObject(redisCommand(b.redis, "FLUSHALL"));
		r = r < 0 ? r : steps[i](&b, &err);
		stop_server(&b);
	}
	loop_free(b.loop);
	workspace_remove(&b.workspace);
	if (r < 0)
		log_error("%s", err_msg(&err));
	else
		print(&b);
	return r < 0 ? 1 : 0;
}
