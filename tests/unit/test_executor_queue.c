/* The queue against a real redis-server, one for each test, on a unix socket in a directory of its own. */
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

TestSuite(queue, .init = set_up, .fini = tear_down, .timeout = 100);

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

/* ---- fetch and finish ---- */

Test(queue, fetch_and_finish)
{
	struct worker w = {.slots = 2, .by_hand = true};
	add("petri:jobs", "a");
	start(&w, "w1", 30000);
	UNTIL(w.njobs == 1);
	cr_assert_str_eq(w.ids[0], "a");
	cr_assert_str_eq(w.held[0]->id_field, "a");
	cr_assert_eq(w.attempts[0], 1);
	UNTIL(redis("EXISTS petri:state:a")->integer == 1);
	cr_assert_str_eq(redis("HGET petri:state:a worker")->str, "w1");
	finish(&w, w.held[0], "a");
	UNTIL(w.nfinished == 1);
	cr_assert(queue_drained(w.queue));
	cr_assert_not_null(strstr(redis("GET petri:result:a")->str, "\"exited\""));
	cr_assert_gt(redis("PTTL petri:result:a")->integer, 50000);
	cr_assert_eq(redis("LLEN petri:done:a")->integer, 1);
	cr_assert_gt(redis("PTTL petri:done:a")->integer, 50000);
	cr_assert_eq(redis("EXISTS petri:state:a")->integer, 0);
	cr_assert_eq(redis("XLEN petri:jobs")->integer, 0);
	cr_assert_eq(pending("petri:jobs"), 0);
	redisReply *front = redis("XRANGE petri:results:front - +");
	cr_assert_eq(front->elements, 1);
	cr_assert_str_eq(front->element[0]->element[1]->element[5]->str, "{\"m\":1}");
	queue_free(w.queue);
}

Test(queue, never_more_than_wanted)
{
	enum { N = 60 };
	struct worker w = {.slots = 3, .by_hand = true};
	for (int i = 0; i < N; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "j%d", i);
		add("petri:jobs", id);
	}
	start(&w, "w1", 30000);
	for (unsigned i = 0; i < N; i++) {
		UNTIL(w.njobs == MIN(i + 3, (unsigned)N));
		cr_assert_leq(pending("petri:jobs"), 3);
		char id[16];
		(void)snprintf(id, sizeof(id), "j%u", i);
		cr_assert_str_eq(w.ids[i], id);
		finish(&w, w.held[i], id);
	}
	UNTIL(w.nfinished == N);
	cr_assert_eq(w.peak, 3);
	cr_assert_eq(redis("XLEN petri:results:front")->integer, N);
	queue_free(w.queue);
}

Test(queue, want_zero_fetches_nothing)
{
	struct worker w = {.slots = 0};
	start(&w, "w1", 30000);
	UNTIL(stats(&w).connected);
	add("petri:jobs", "a");
	run_for(100);
	cr_assert_eq(pending("petri:jobs"), 0);
	w.slots = 1;
	queue_want(w.queue, 1);
	UNTIL(w.nfinished == 1);
	queue_free(w.queue);
}

/* The number shrinks while a fetch is under way: the surplus goes back, uncounted, and comes again. */
Test(queue, surplus_is_handed_back)
{
	struct worker w = {.slots = 4, .by_hand = true};
	start(&w, "w1", 30000);
	UNTIL(stats(&w).connected);
	queue_want(w.queue, 0);
	run_for(1200); /* the wait ends */
	for (int i = 0; i < 4; i++)
		add("petri:jobs", NULL);
	w.slots = 1;
	queue_want(w.queue, 4);
	queue_want(w.queue, 1);
	for (unsigned i = 0; i < 4; i++) {
		UNTIL(w.njobs == i + 1);
		cr_assert_eq(w.out, 1);
		cr_assert_eq(w.attempts[i], 1);
		UNTIL(queue_drained(w.queue));
		finish(&w, w.held[i], w.ids[i]);
	}
	UNTIL(w.nfinished == 4);
	cr_assert_eq(w.peak, 1);
	cr_assert_eq(w.njobs, 4);
	queue_free(w.queue);
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

Test(queue, an_idle_worker_is_quick)
{
	enum { N = 100 };
	struct worker w = {.slots = 2};
	uint64_t taken[N];
	redis("CONFIG SET appendonly no"); /* no fsync in the figure */
	struct queue_config config = settings("w1", 30000);
	config.allow_volatile = true;
	start_config(&w, config);
	UNTIL(stats(&w).connected);
	run_for(50);
	for (unsigned i = 0; i < N; i++) {
		uint64_t begin = now_us();
		add("petri:jobs", NULL);
		UNTIL(w.njobs == i + 1);
		taken[i] = w.at_us - begin;
		UNTIL(w.nfinished == i + 1);
		run_for(2);
	}
	qsort(taken, N, sizeof(taken[0]), compare_u64);
	cr_log_info("XADD sent until the job is here: p50 %lu us, p90 %lu us", (unsigned long)taken[N / 2],
		(unsigned long)taken[N * 9 / 10]);
	cr_assert_lt(taken[N / 2], 20000); /* far from a poll's second */
	queue_free(w.queue);
}

Test(queue, priorities_are_weighted)
{
	struct worker w = {.slots = 1};
	for (int i = 0; i < 40; i++) {
		add("petri:jobs:high", "h");
		redis("DEL petri:result:h");
		add("petri:jobs", NULL);
		add("petri:jobs:low", NULL);
	}
	redis("XTRIM petri:jobs:high MAXLEN 0");
	for (int i = 0; i < 40; i++)
		redis("XADD petri:jobs:high * job high");
	redis("XTRIM petri:jobs:low MAXLEN 0");
	for (int i = 0; i < 40; i++)
		redis("XADD petri:jobs:low * job low");
	start(&w, "w1", 30000);
	unsigned high = 0, low = 0;
	for (unsigned n = 1; n <= 26; n++) {
		w.by_hand = true;
		UNTIL(w.njobs == n);
		high += w.json_len == 4;
		low += w.json_len == 3 && w.json[0] == 'l';
		finish(&w, w.held[n - 1], w.ids[n - 1]);
	}
	cr_assert_eq(high, 16);
	cr_assert_eq(low, 2);
	queue_free(w.queue);
}

Test(queue, tenants_take_turns)
{
	struct worker w = {.slots = 1, .by_hand = true};
	static const char *const streams[] = {"petri:jobs", "petri:jobs:t:a", "petri:jobs:t:b", "petri:jobs:t:c"};
	redis("SADD petri:tenants a b c idle %b", "../\xff\n", (size_t)5);
	for (int i = 0; i < 4; i++)
		for (int n = 0; n < (i == 1 ? 100 : 10); n++)
			redis("XADD %s * job %d", streams[i], i);
	redis("SET petri:jobs:t:idle nonsense"); /* a key of the wrong type stops nobody else */
	start(&w, "w1", 300);
	unsigned counts[4] = {0};
	for (unsigned n = 1; n <= 40; n++) {
		UNTIL(w.njobs == n);
		counts[w.json[0] - '0']++;
		finish(&w, w.held[n - 1], w.ids[n - 1]);
		if (n == 12)
			for (int i = 0; i < 4; i++)
				cr_assert_eq(counts[i], 3, "stream %d: %u", i, counts[i]);
	}
	for (int i = 0; i < 4; i++)
		cr_assert_eq(counts[i], 10);
	cr_assert_eq(redis("XLEN petri:jobs:t:b")->integer, 0);
	queue_free(w.queue);
}

Test(queue, a_tenant_rings_and_is_forgotten)
{
	struct worker w = {.slots = 1};
	struct queue_client *c = client();
	struct job job = {.tenant = (char *)"school-7", .priority = JOB_PRIORITY_HIGH, .id = "t1"};
	char id[JOB_ID_MAX + 1];
	struct err err = ERR_INIT;
	start(&w, "w1", 200);
	UNTIL(stats(&w).connected);
	run_for(100);
	for (int i = 0; i < 40; i++) { /* each poll would cost up to a second */
		(void)snprintf(job.id, sizeof(job.id), "t%d", i);
		uint64_t begin = now_us();
		cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 0, id, &err), 0, "%s", err_msg(&err));
		UNTIL(w.nfinished == (unsigned)i + 1);
		cr_assert_lt(w.at_us - begin, 500000);
		run_for(20);
	}
	UNTIL(redis("EXISTS petri:tenants petri:jobs:high:t:school-7")->integer == 0);
	cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 0, id, &err), 0, "%s", err_msg(&err));
	UNTIL(stats(&w).duplicates == 1); /* it has its result */
	queue_client_free(c);
	queue_free(w.queue);
}

Test(queue, jobs_for_one_worker)
{
	struct worker a = {.slots = 1}, b = {.slots = 1};
	struct queue_client *c = client();
	struct job job = {.worker = (char *)"wb", .tenant = (char *)"ignored", .id = "x"};
	char id[JOB_ID_MAX + 1];
	start(&a, "wa", 30000);
	start(&b, "wb", 30000);
	cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 0, id, NULL), 0);
	UNTIL(b.nfinished == 1);
	cr_assert_eq(a.njobs, 0);
	queue_client_free(c);
	queue_free(a.queue);
	queue_free(b.queue);
}

/* ---- once and only once ---- */

Test(queue, a_second_entry_of_an_id_does_not_run)
{
	struct worker w = {.slots = 1};
	start(&w, "w1", 30000);
	add("petri:jobs", "a");
	UNTIL(w.nfinished == 1);
	add("petri:jobs", "a");
	UNTIL(stats(&w).duplicates == 1);
	cr_assert_eq(w.njobs, 1);
	cr_assert_eq(redis("XLEN petri:jobs")->integer, 0);
	cr_assert_eq(pending("petri:jobs"), 0);
	cr_assert_eq(redis("LLEN petri:done:a")->integer, 1);
	/* known only once the worker has read the JSON: stopped when it starts */
	w.by_hand = true;
	redis("XADD petri:jobs * job {\"id\":\"a\"}");
	UNTIL(w.nlost == 1);
	cr_assert_eq(stats(&w).duplicates, 2);
	cr_assert_eq(pending("petri:jobs"), 0);
	cr_assert_eq(w.out, 0);
	queue_free(w.queue);
}

Test(queue, two_results_of_one_id_keep_the_first)
{
	struct worker w = {.slots = 2, .by_hand = true, .no_start = true};
	start(&w, "w1", 30000);
	add("petri:jobs", "a");
	add("petri:jobs", "a");
	UNTIL(w.njobs == 2);
	finish(&w, w.held[0], "a");
	char *json = strdup("{\"id\":\"a\",\"status\":\"second\"}");
	w.out--;
	queue_finish(w.queue, w.held[1], "a", json, "front", "exited", NULL);
	free(json);
	UNTIL(w.nfinished == 2);
	cr_assert_null(strstr(redis("GET petri:result:a")->str, "second"));
	cr_assert_eq(redis("LLEN petri:done:a")->integer, 1);
	cr_assert_eq(redis("XLEN petri:results:front")->integer, 1);
	queue_free(w.queue);
}

Test(queue, results_survive_a_redis_restart)
{
	struct worker w = {.slots = 3, .by_hand = true};
	start(&w, "w1", 30000);
	for (int i = 0; i < 5; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "r%d", i);
		add("petri:jobs", id);
	}
	UNTIL(w.njobs == 3);
	finish(&w, w.held[0], "r0"); /* on its way when the server dies, or not */
	kill_server();
	finish(&w, w.held[1], "r1");
	run_for(300);
	cr_assert_not(queue_drained(w.queue));
	cr_assert_not(stats(&w).connected);
	start_server("always");
	w.by_hand = false;
	UNTIL(w.nfinished >= 4);
	finish(&w, w.held[2], "r2");
	UNTIL(w.nfinished == 5);
	cr_assert_eq(w.nlost, 0);
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(redis("EXISTS petri:result:r%d", i)->integer, 1);
		cr_assert_eq(redis("LLEN petri:done:r%d", i)->integer, 1);
	}
	cr_assert_eq(redis("XLEN petri:jobs")->integer, 0);
	cr_assert_eq(redis("XLEN petri:results:front")->integer, 5);
	queue_free(w.queue);
}

Test(queue, while_a_result_waits_nothing_is_fetched)
{
	struct worker w = {.slots = 2, .by_hand = true};
	start(&w, "w1", 30000);
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	redis("REPLICAOF 127.0.0.1 1"); /* read-only now */
	finish(&w, w.held[0], "a");
	UNTIL(stats(&w).undelivered == 1);
	run_for(300);
	cr_assert_eq(w.nfinished, 0);
	redis("REPLICAOF NO ONE");
	add("petri:jobs", "b");
	UNTIL(w.nfinished == 1);
	UNTIL(w.njobs == 2);
	cr_assert_eq(redis("EXISTS petri:result:a")->integer, 1);
	queue_free(w.queue);
}

Test(queue, a_full_redis_still_takes_results)
{
	struct worker w = {.slots = 1, .by_hand = true};
	struct queue_client *c = client();
	struct job job = {.id = "b"};
	char id[JOB_ID_MAX + 1];
	struct err err = ERR_INIT;
	start(&w, "w1", 30000);
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	redis("CONFIG SET maxmemory 1");
	cr_assert_lt(queue_client_submit(c, &job, "{}", 2, 0, id, &err), 0);
	cr_assert_not_null(strstr(err.msg, "OOM"), "%s", err.msg);
	finish(&w, w.held[0], "a");
	UNTIL(w.nfinished == 1);
	cr_assert_eq(redis("EXISTS petri:result:a")->integer, 1);
	redis("CONFIG SET maxmemory 0");
	queue_client_free(c);
	queue_free(w.queue);
}

Test(queue, scripts_flushed)
{
	struct worker w = {.slots = 1};
	start(&w, "w1", 300);
	for (unsigned i = 0; i < 5; i++) {
		add("petri:jobs", NULL);
		UNTIL(w.nfinished == i + 1);
		redis("SCRIPT FLUSH");
	}
	queue_free(w.queue);
}

Test(queue, groups_come_back_after_flushall)
{
	struct worker w = {.slots = 1, .by_hand = true};
	start(&w, "w1", 300);
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	redis("FLUSHALL");
	UNTIL(w.nlost == 1); /* its entry is gone, and the next renewal says so */
	add("petri:jobs", "b");
	UNTIL(w.njobs == 2);
	finish(&w, w.held[1], "b");
	UNTIL(w.nfinished == 1);
	queue_free(w.queue);
}

/* A reply that was lost: the entry is pending for us, and we never saw it. */
Test(queue, own_entries_are_read_again)
{
	struct worker w = {.slots = 2, .by_hand = true};
	start(&w, "w1", 30000);
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	UNTIL(redis("EXISTS petri:worker:w1")->integer == 1);
	char consumer[200];
	(void)snprintf(consumer, sizeof(consumer), "%s", redis("HGET petri:worker:w1 consumer")->str);
	queue_want(w.queue, 0);
	run_for(1100);
	add("petri:jobs", "b");
	redis("XREADGROUP GROUP petri %s COUNT 1 STREAMS petri:jobs >", consumer);
	queue_want(w.queue, 1);
	redis("CLIENT KILL TYPE normal SKIPME yes");
	UNTIL(w.njobs == 2);
	cr_assert_str_eq(w.ids[1], "b");
	cr_assert_eq(w.attempts[1], 1);
	finish(&w, w.held[0], "a");
	finish(&w, w.held[1], "b");
	UNTIL(w.nfinished == 2);
	cr_assert_eq(w.njobs, 2);
	queue_free(w.queue);
}

/* ---- leases ---- */

Test(queue, a_lease_is_renewed)
{
	struct worker a = {.slots = 1, .by_hand = true}, b = {.slots = 1, .by_hand = true};
	start(&a, "wa", 300);
	add("petri:jobs", "a");
	UNTIL(a.njobs == 1);
	start(&b, "wb", 300);
	run_for(1500);
	cr_assert_eq(b.njobs, 0);
	cr_assert_eq(a.nlost, 0);
	cr_assert_eq(redis("EXISTS petri:state:a")->integer, 1);
	finish(&a, a.held[0], "a");
	UNTIL(a.nfinished == 1);
	queue_free(a.queue);
	queue_free(b.queue);
}

Test(queue, another_takes_over)
{
	struct worker a = {.slots = 1, .by_hand = true}, b = {.slots = 1, .by_hand = true};
	add("petri:jobs", "a");
	start(&a, "wa", 300);
	UNTIL(a.njobs == 1);
	queue_free(a.queue); /* vanishes */
	start(&b, "wb", 300);
	UNTIL(b.njobs == 1);
	cr_assert_eq(b.attempts[0], 2);
	finish(&b, b.held[0], "a");
	UNTIL(b.nfinished == 1);
	cr_assert_not_null(strstr(redis("GET petri:result:a")->str, "\"attempt\":2"));
	cr_assert_eq(redis("XLEN petri:jobs")->integer, 0);
	queue_free(b.queue);
}

/* A worker that was stopped and wakes up is told that its job is another's now. */
Test(queue, a_lost_lease_is_told)
{
	struct loop *other;
	cr_assert_eq(loop_new(16, &other, NULL), 0);
	struct worker a = {.slots = 1, .by_hand = true, .loop = other}, b = {.slots = 1, .by_hand = true};
	add("petri:jobs", "a");
	start(&a, "wa", 300);
	while (!a.njobs)
		step(other, 5);
	for (uint64_t end = now_us() + 50000; now_us() < end;)
		step(other, 5);
	start(&b, "wb", 300);
	UNTIL(b.njobs == 1);
	while (!a.nlost)
		step(other, 5);
	cr_assert_eq(a.nlost, 1);
	cr_assert_eq(a.nfinished, 0);
	finish(&b, b.held[0], "a");
	UNTIL(b.nfinished == 1);
	cr_assert_eq(redis("LLEN petri:done:a")->integer, 1);
	queue_free(a.queue);
	loop_free(other);
	queue_free(b.queue);
}

Test(queue, a_reclaimed_job_runs_alone)
{
	struct worker a = {.slots = 1, .by_hand = true}, b = {.slots = 4, .by_hand = true};
	start(&b, "wb", 300);
	add("petri:jobs", "b0");
	add("petri:jobs", "b1");
	UNTIL(b.njobs == 2);
	queue_want(b.queue, 0);
	run_for(1100);
	start(&a, "wa", 300);
	add("petri:jobs", "poison");
	UNTIL(a.njobs == 1);
	queue_free(a.queue);
	queue_want(b.queue, 2);
	run_for(700); /* claimed by now */
	for (int i = 0; i < 4; i++)
		add("petri:jobs", NULL);
	run_for(200);
	cr_assert_eq(b.njobs, 2);
	finish(&b, b.held[0], "b0");
	run_for(200);
	cr_assert_eq(b.njobs, 2);
	finish(&b, b.held[1], "b1");
	UNTIL(b.njobs == 3);
	cr_assert_str_eq(b.ids[2], "poison");
	run_for(200);
	cr_assert_eq(b.njobs, 3);
	finish(&b, b.held[2], "poison");
	UNTIL(b.njobs == 7);
	queue_free(b.queue);
}

/* Claimed, and waiting for its turn when the worker stops: it goes back as it came. */
Test(queue, stopping_hands_back)
{
	struct worker a = {.slots = 1, .by_hand = true}, b = {.slots = 2, .by_hand = true}, d = {.slots = 1, .by_hand = true};
	start(&a, "wa", 300);
	add("petri:jobs", "twice");
	UNTIL(a.njobs == 1);
	start(&b, "wb", 300);
	add("petri:jobs", "b0");
	UNTIL(b.njobs == 1);
	queue_free(a.queue);
	run_for(900); /* claimed by now */
	cr_assert_eq(b.njobs, 1);
	queue_stop(b.queue);
	queue_want(b.queue, 2);
	finish(&b, b.held[0], "b0");
	UNTIL(queue_drained(b.queue));
	cr_assert_eq(b.nfinished, 1);
	queue_free(b.queue);
	start(&d, "wd", 300);
	UNTIL(d.njobs == 1);
	cr_assert_str_eq(d.ids[0], "twice");
	cr_assert_eq(d.attempts[0], 2);
	queue_free(d.queue);
}

Test(queue, too_many_attempts)
{
	redis("XADD petri:jobs * job %s",
		"{\"id\":\"p\",\"argv\":[\"/bin/true\"],\"reply\":\"front\",\"meta\":{\"k\":1}}");
	for (int i = 0; i < 2; i++) {
		struct worker w = {.slots = 1, .by_hand = true};
		start(&w, "w1", 200);
		UNTIL(w.njobs == 1);
		cr_assert_eq(w.attempts[0], (unsigned)i + 1);
		queue_free(w.queue);
	}
	struct worker w = {.slots = 1};
	start(&w, "w2", 200);
	log_set_level(LOG_LEVEL_MAX);
	UNTIL(stats(&w).dead == 1);
	cr_assert_eq(w.njobs, 0);
	cr_assert_not_null(strstr(redis("GET petri:result:p")->str, "internal_error"));
	cr_assert_not_null(strstr(redis("GET petri:result:p")->str, "{\"k\":1}"));
	cr_assert_eq(redis("XLEN petri:jobs")->integer, 0);
	cr_assert_eq(redis("XLEN petri:results:front")->integer, 1);
	redisReply *dead = redis("XRANGE petri:dead - +");
	cr_assert_eq(dead->elements, 1);
	cr_assert_str_eq(dead->element[0]->element[1]->element[1]->str, "p");
	cr_assert_str_eq(dead->element[0]->element[1]->element[5]->str, "2");
	cr_assert_not_null(strstr(dead->element[0]->element[1]->element[7]->str, "w1/"));
	queue_free(w.queue);
}

Test(queue, released_jobs_keep_their_count)
{
	struct worker a = {.slots = 1, .by_hand = true, .no_start = true}, b = {.slots = 1, .by_hand = true};
	start(&a, "wa", 30000);
	add("petri:jobs", "a");
	UNTIL(a.njobs == 1);
	start(&b, "wb", 30000);
	UNTIL(stats(&b).connected);
	run_for(50);
	a.slots = 0;
	a.out = 0;
	queue_want(a.queue, 0);
	queue_release(a.queue, a.held[0]);
	uint64_t begin = now_us();
	UNTIL(queue_drained(a.queue));
	UNTIL(b.njobs == 1);
	cr_assert_lt(now_us() - begin, 900000);
	cr_assert_eq(b.attempts[0], 1);
	cr_assert_eq(a.nfinished, 0);
	finish(&b, b.held[0], "a");
	UNTIL(b.nfinished == 1);
	queue_free(a.queue);
	queue_free(b.queue);
}

/* ---- everything at once ---- */

struct crew {
	struct worker w;
	struct queue_entry *running[4];
	char ids[4][64];
	unsigned n;
};

static void crew_job(void *ctx, struct queue_entry *entry)
{
	struct crew *crew = ctx;
	cr_assert_lt(crew->n, 4);
	(void)snprintf(crew->ids[crew->n], 64, "%.60s", entry->id_field);
	crew->running[crew->n++] = entry;
	queue_want(crew->w.queue, 4 - crew->n);
	queue_started(crew->w.queue, entry, entry->id_field, 10000);
}

static void crew_forget(struct crew *crew, unsigned i)
{
	crew->running[i] = crew->running[--crew->n];
	memcpy(crew->ids[i], crew->ids[crew->n], 64);
	queue_want(crew->w.queue, 4 - crew->n);
}

static void crew_lost(void *ctx, struct queue_entry *entry)
{
	struct crew *crew = ctx;
	for (unsigned i = 0; i < crew->n; i++)
		if (crew->running[i] == entry) {
			crew_forget(crew, i);
			return;
		}
	cr_assert_fail("lost what was never ours");
}

static void crew_start(struct crew *crew, const char *name)
{
	static const struct queue_events crew_events = {crew_job, on_cancel, crew_lost, on_finished, on_fatal};
	struct queue_config config = settings(name, 300);
	config.max_attempts = 1000;
	crew->n = 0;
	cr_assert_eq(queue_new(loop, &config, &crew_events, crew, &crew->w.queue, NULL), 0);
	queue_want(crew->w.queue, 4);
}

static void crew_work(struct crew *crew)
{
	unsigned i = (unsigned)rand();
	if (!crew->n)
		return;
	i %= crew->n;
	char json[128];
	(void)snprintf(json, sizeof(json), "{\"id\":\"%s\"}", crew->ids[i]);
	struct queue_entry *entry = crew->running[i];
	char id[64];
	memcpy(id, crew->ids[i], sizeof(id));
	crew_forget(crew, i);
	if (rand() % 8 == 0)
		queue_release(crew->w.queue, entry);
	else
		queue_finish(crew->w.queue, entry, id, json, "front", "exited", NULL);
}

/* Workers vanish, Redis dies, connections break: every job gets one result, and nothing stays behind. */
Test(queue, chaos)
{
	enum { N = 400,
		CREWS = 3 };
	static const char *const streams[] = {"petri:jobs", "petri:jobs:high", "petri:jobs:low", "petri:jobs:t:x"};
	static const char *const names[CREWS] = {"wa", "wb", "wc"};
	struct crew crews[CREWS] = {0};
	const char *seed = getenv("PETRI_TEST_SEED");
	srand(seed ? (unsigned)atoi(seed) : 7);
	redis("SADD petri:tenants x");
	for (int i = 0; i < CREWS; i++)
		crew_start(&crews[i], names[i]);
	int added = 0;
	uint64_t quiet = 0, until = now_us() + 60000000;
	for (unsigned turn = 0;; turn++) {
		cr_assert_lt(now_us(), until);
		if (added < N && turn % 3 == 0) {
			redis("SADD petri:tenants x");
			redis("XADD %s * id c%d job x", streams[rand() % 4], added);
			added++;
		}
		step(loop, 2);
		struct crew *crew = &crews[rand() % CREWS];
		int dice = added < N ? rand() % 100 : 99;
		if (dice == 0) {
			queue_free(crew->w.queue);
			crew_start(crew, names[crew - crews]);
		} else if (dice == 1) {
			redis("CLIENT KILL TYPE %s SKIPME yes", rand() % 2 ? "normal" : "pubsub");
		} else if (dice == 2 && rand() % 2) {
			kill_server();
			run_for(50);
			start_server("always");
		} else if (dice == 3) {
			redis("SCRIPT FLUSH");
		} else {
			crew_work(crew);
		}
		if (added == N && turn % 50 == 0) {
			quiet = redis("XLEN petri:results:front")->integer;
			if (quiet == N)
				break;
		}
	}
	run_for(500);
	for (int i = 0; i < N; i++)
		cr_assert_eq(redis("LLEN petri:done:c%d", i)->integer, 1, "job c%d", i);
	cr_assert_eq(redis("XLEN petri:results:front")->integer, N);
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
		cr_assert_eq(redis("XLEN %s", streams[i])->integer, 0, "%s", streams[i]);
	cr_assert_eq(redis("KEYS petri:state:*")->elements, 0);
	for (int i = 0; i < CREWS; i++) {
		cr_assert_eq(crews[i].n, 0);
		cr_assert(queue_drained(crews[i].w.queue));
		queue_free(crews[i].w.queue);
	}
}

/* ---- cancel ---- */

Test(queue, cancel_in_each_state)
{
	struct worker w = {.slots = 1, .by_hand = true};
	struct queue_client *c = client();
	struct job job = {.id = "queued"};
	char id[JOB_ID_MAX + 1];
	const char *what = NULL;
	struct err err = ERR_INIT;
	start(&w, "w1", 300);
	add("petri:jobs", "running");
	UNTIL(w.njobs == 1);
	UNTIL(redis("EXISTS petri:state:running")->integer == 1);
	cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 0, id, &err), 0);

	cr_assert_eq(queue_client_cancel(c, "queued", &what, &err), 0, "%s", err_msg(&err));
	cr_assert_str_eq(what, "cancelled");
	cr_assert_not_null(strstr(redis("GET petri:result:queued")->str, "\"cancelled\""));
	cr_assert_eq(queue_client_cancel(c, "queued", &what, &err), 1);

	cr_assert_eq(queue_client_cancel(c, "running", &what, &err), 0);
	cr_assert_str_eq(what, "requested");
	UNTIL(w.ncancel == 1);
	cr_assert_str_eq(w.cancelled, "running");
	run_for(400); /* told once, whatever the renewals see */
	cr_assert_eq(w.ncancel, 1);
	finish(&w, w.held[0], "running");
	UNTIL(w.nfinished == 1);
	cr_assert_eq(queue_client_cancel(c, "running", &what, &err), 1);
	cr_assert_str_eq(what, "finished");

	UNTIL(stats(&w).duplicates == 1); /* the cancelled one was taken, and never ran */
	cr_assert_eq(w.njobs, 1);
	cr_assert_eq(redis("XLEN petri:jobs")->integer, 0);
	cr_assert_eq(redis("EXISTS petri:cancelled:running")->integer, 0);
	cr_assert_lt(queue_client_cancel(c, "bad id", &what, &err), 0);
	queue_client_free(c);
	queue_free(w.queue);
}

/* The message was missed (pub/sub forgets): the key is seen at the next renewal. */
Test(queue, cancel_without_the_message)
{
	struct worker w = {.slots = 1, .by_hand = true};
	start(&w, "w1", 300);
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	redis("SET petri:cancelled:a requested");
	UNTIL(w.ncancel == 1);
	queue_free(w.queue);
}

/* ---- what strangers put into the streams ---- */

Test(queue, malformed_entries)
{
	struct worker w = {.slots = 1};
	char *big = malloc(JOB_JSON_MAX + 1);
	memset(big, ' ', JOB_JSON_MAX + 1);
	start(&w, "w1", 30000);
	char first[64];
	(void)snprintf(first, sizeof(first), "%s", redis("XADD petri:jobs * foo bar")->str);
	UNTIL(redis("EXISTS petri:result:%s", first)->integer == 1);
	cr_assert_not_null(strstr(redis("GET petri:result:%s", first)->str, "rejected"));
	redis("XADD petri:jobs * id named nojob 1");
	UNTIL(redis("EXISTS petri:result:named")->integer == 1);
	redis("XADD petri:jobs * id big job %b", big, (size_t)JOB_JSON_MAX + 1);
	UNTIL(redis("EXISTS petri:result:big")->integer == 1);
	cr_assert_not_null(strstr(redis("GET petri:result:big")->str, "too_large"));
	cr_assert_eq(w.njobs, 0);

	char junk[256], text[64];
	for (int i = 0; i < 256; i++)
		junk[i] = (char)i;
	(void)snprintf(text, sizeof(text), "%s",
		redis("XADD petri:jobs * id %b job %b", "a\0b", (size_t)3, junk, (size_t)256)->str);
	UNTIL(w.njobs == 1);
	cr_assert_str_eq(w.ids[0], text); /* an unusable id field counts for nothing */
	cr_assert_eq(w.json_len, 256);
	cr_assert_eq(memcmp(w.json, junk, 256), 0);
	redis("XADD petri:jobs * id ../../etc job x");
	UNTIL(w.njobs == 2);
	redis("XADD petri:jobs * job %b", big, (size_t)JOB_JSON_MAX); /* exactly the most is allowed */
	UNTIL(w.njobs == 3);
	cr_assert_eq(w.json_len, JOB_JSON_MAX);
	redis("XADD petri:jobs * job %b", "", (size_t)0);
	UNTIL(w.njobs == 4);
	UNTIL(w.nfinished == 4);
	cr_assert_eq(redis("XLEN petri:jobs")->integer, 0);
	cr_assert_eq(redis("KEYS petri:result:*etc*")->elements, 0);
	free(big);
	queue_free(w.queue);
}

Test(queue, foreign_messages)
{
	struct worker w = {.slots = 1, .by_hand = true};
	start(&w, "w1", 30000);
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	UNTIL(redis("PUBLISH petri:cancel %b", "\0\xff\n", (size_t)3)->integer == 1);
	redis("PUBLISH petri:cancel nobody");
	redis("PUBLISH petri:bell %b", "", (size_t)0);
	run_for(50);
	cr_assert_eq(w.ncancel, 0);
	redis("PUBLISH petri:cancel a");
	UNTIL(w.ncancel == 1);
	queue_free(w.queue);
}

/* ---- set-up ---- */

Test(queue, a_volatile_redis_is_refused)
{
	redis("CONFIG SET appendfsync everysec");
	struct worker w = {.slots = 1}, tolerant = {.slots = 1};
	start(&w, "w1", 30000);
	UNTIL(w.nfatal == 1);
	cr_assert_not_null(strstr(w.fatal, "appendfsync"), "%s", w.fatal);
	cr_assert_not_null(strstr(w.fatal, "--allow-volatile-redis"), "%s", w.fatal);
	add("petri:jobs", "a");
	run_for(100);
	cr_assert_eq(w.njobs, 0);
	struct queue_config config = settings("w2", 30000);
	config.allow_volatile = true;
	start_config(&tolerant, config);
	UNTIL(tolerant.nfinished == 1);
	queue_free(w.queue);
	queue_free(tolerant.queue);
}

static void with_password(void)
{
	kill_server(); /* the suite's own, without */
	password = SECRET;
	start_server("always");
}

Test(queue, passwords, .init = with_password)
{
	static const char *const wrong[] = {NULL, "tr0ub4dor"};
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct worker w = {.slots = 1};
		struct queue_config config = settings("w1", 30000);
		config.url = url(wrong[i]);
		start_config(&w, config);
		UNTIL(w.nfatal == 1);
		cr_assert_not_null(strstr(w.fatal, "PETRI_REDIS"), "%s", w.fatal);
		cr_assert_null(strstr(w.fatal, "tr0ub4dor"));
		run_for(50);
		cr_assert_eq(w.nfatal, 1);
		queue_free(w.queue);
		struct redis_url u = url(wrong[i]);
		struct queue_client *c = NULL;
		struct err err = ERR_INIT;
		int r = queue_client_open(&u, "petri", &c, &err);
		const char *what;
		r = r < 0 ? r : queue_client_cancel(c, "a", &what, &err);
		cr_assert_eq(r, -EACCES, "%s", err.msg);
		cr_assert_null(strstr(err.msg, "tr0ub4dor"));
		queue_client_free(c);
	}
	struct worker w = {.slots = 1};
	start(&w, "w1", 30000);
	add("petri:jobs", "a");
	UNTIL(w.nfinished == 1);
	queue_free(w.queue);
}

/* An account that may not use CONFIG: a warning, and work. */
Test(queue, config_denied)
{
	redis("ACL SETUSER worker on >pw ~petri:* &petri:* +@all -config -ping");
	struct worker w = {.slots = 1};
	struct redis_url u = url("pw");
	strcpy(u.user, "worker");
	struct queue_config config = settings("w1", 30000);
	config.url = u;
	start_config(&w, config);
	add("petri:jobs", "a");
	UNTIL(w.nfinished == 1);
	queue_free(w.queue);
}

Test(queue, bad_settings)
{
	struct queue *q = NULL;
	struct queue_client *c = NULL;
	struct queue_config good = settings("w1", 1000);
	struct queue_config prefix = good, name = good, lease = good, attempts = good;
	prefix.prefix = "a:b";
	name.name = "a/b";
	lease.lease_ms = 1;
	attempts.max_attempts = 0;
	const struct queue_config *const all[] = {&prefix, &name, &lease, &attempts};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct err err = ERR_INIT;
		cr_assert_eq(queue_new(loop, all[i], &events, NULL, &q, &err), -EINVAL);
		cr_assert_neq(err.msg[0], 0);
	}
	cr_assert_eq(queue_client_open(&good.url, "", &c, NULL), -EINVAL);
}

Test(queue, a_worker_may_come_before_its_redis)
{
	kill_server();
	struct worker w = {.slots = 1};
	start(&w, "w1", 30000);
	run_for(250);
	start_server("always");
	add("petri:jobs", "a");
	UNTIL(w.nfinished == 1);
	queue_free(w.queue);
}

Test(queue, prefixes_keep_apart)
{
	struct worker w = {.slots = 1};
	struct queue_config config = settings("w1", 200);
	config.prefix = "{petri0}";
	start_config(&w, config);
	add("petri:jobs", "a");
	add("{petri0}:jobs", "b");
	UNTIL(w.nfinished == 1);
	run_for(300);
	cr_assert_eq(w.njobs, 1);
	redisReply *keys = redis("KEYS *");
	for (size_t i = 0; i < keys->elements; i++)
		if (strcmp(keys->element[i]->str, "petri:jobs") != 0)
			cr_assert_eq(strncmp(keys->element[i]->str, "{petri0}:", 9), 0, "%s", keys->element[i]->str);
	queue_free(w.queue);
}

Test(queue, heartbeat)
{
	struct worker w = {.slots = 7};
	start(&w, "w1", 30000);
	queue_heartbeat(w.queue, 3, 42);
	queue_describe(w.queue, "gcc:13", "memory,pids");
	UNTIL(redis("HLEN petri:worker:w1")->integer > 0);
	cr_assert_str_eq(redis("HGET petri:worker:w1 slots")->str, "7");
	cr_assert_str_eq(redis("HGET petri:worker:w1 running")->str, "3");
	cr_assert_str_eq(redis("HGET petri:worker:w1 done")->str, "42");
	cr_assert_str_eq(redis("HGET petri:worker:w1 images")->str, "gcc:13");
	UNTIL(redis("PTTL petri:worker:w1")->integer > 0);
	queue_free(w.queue);
}

/* Callbacks that are still due when everything is freed. */
Test(queue, freed_in_the_middle)
{
	for (unsigned steps = 0; steps < 40; steps += 2) {
		struct worker w = {.slots = 2, .by_hand = true};
		add("petri:jobs", NULL);
		start(&w, "w1", 100);
		for (unsigned i = 0; i < steps; i++)
			step(loop, 1);
		queue_free(w.queue);
	}
	step(loop, 1);
	queue_free(NULL);
}

/* ---- the client ---- */

Test(queue, client_submit_wait_status)
{
	struct worker w = {.slots = 1};
	struct queue_client *c = client();
	struct job job = {.id = "mine"}, nameless = {.id = ""};
	char id[JOB_ID_MAX + 1], *json = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(queue_client_status(c, "mine", &json, &err), 0);
	cr_assert_str_eq(json, "{\"id\":\"mine\",\"state\":\"unknown\"}");
	free(json);
	cr_assert_eq(queue_client_submit(c, &job, "{\"id\":\"mine\"}", 13, 0, id, &err), 0, "%s", err_msg(&err));
	cr_assert_str_eq(id, "mine");
	uint64_t begin = now_us();
	cr_assert_eq(queue_client_wait(c, "mine", 50, &json, &err), -ETIMEDOUT);
	cr_assert_geq(now_us() - begin, 49000);
	start(&w, "w1", 30000);
	w.by_hand = true;
	UNTIL(w.njobs == 1);
	UNTIL(redis("EXISTS petri:state:mine")->integer == 1);
	cr_assert_eq(queue_client_status(c, "mine", &json, &err), 0);
	cr_assert_not_null(strstr(json, "\"state\":\"running\",\"worker\":\"w1\""), "%s", json);
	cr_assert_not_null(strstr(json, "\"attempt\":1"), "%s", json);
	free(json);
	finish(&w, w.held[0], "mine");
	UNTIL(w.nfinished == 1);
	for (int i = 0; i < 2; i++) { /* any number of times */
		cr_assert_eq(queue_client_wait(c, "mine", 0, &json, &err), 0, "%s", err_msg(&err));
		cr_assert_not_null(strstr(json, "exited"));
		free(json);
	}
	cr_assert_eq(queue_client_status(c, "mine", &json, &err), 0);
	cr_assert_not_null(strstr(json, "\"state\":\"done\",\"result\":{\"id\":\"mine\""), "%s", json);
	free(json);

	cr_assert_eq(queue_client_submit(c, &nameless, "{}", 2, 0, id, &err), 0);
	w.by_hand = false;
	UNTIL(w.nfinished == 2);
	cr_assert_str_eq(w.ids[1], id);
	queue_client_free(c);
	queue_free(w.queue);
}

Test(queue, client_queue_full)
{
	struct queue_client *c = client();
	struct job job = {.priority = JOB_PRIORITY_LOW};
	char id[JOB_ID_MAX + 1];
	struct err err = ERR_INIT;
	for (int i = 0; i < 3; i++)
		cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 3, id, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 3, id, &err), -EAGAIN);
	cr_assert_not_null(strstr(err.msg, "queue full"));
	/* what a worker has taken does not count */
	redis("XGROUP CREATE petri:jobs:low petri 0");
	redis("XREADGROUP GROUP petri someone COUNT 2 STREAMS petri:jobs:low >");
	cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 3, id, &err), 0);
	job.tenant = (char *)"a:b";
	cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 0, id, &err), -EINVAL);
	queue_client_free(c);
}

Test(queue, client_without_redis)
{
	struct queue_client *c = client(), *d = NULL;
	struct job job = {.id = "x"};
	char id[JOB_ID_MAX + 1], *json = NULL;
	struct err err = ERR_INIT;
	kill_server();
	cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 0, id, &err), -ECONNRESET);
	cr_assert_not_null(strstr(err.msg, socket_path), "%s", err.msg);
	struct redis_url u = url(NULL);
	cr_assert_eq(queue_client_open(&u, "petri", &d, &err), -ECONNRESET);
	cr_assert_null(d);
	cr_assert_lt(queue_client_wait(c, "x", 500, &json, &err), 0);
	start_server("always"); /* the next request connects */
	cr_assert_eq(queue_client_submit(c, &job, "{}", 2, 0, id, &err), 0, "%s", err_msg(&err));
	queue_client_free(c);
}
