/* The queue against a real redis-server: exactly one result, whatever fails. */
#include "executor_queue.h"

TestSuite(queue_once, .init = set_up, .fini = tear_down, .timeout = 100);

/* ---- once and only once ---- */

Test(queue_once, a_second_entry_of_an_id_does_not_run)
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

Test(queue_once, two_results_of_one_id_keep_the_first)
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

Test(queue_once, results_survive_a_redis_restart)
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

Test(queue_once, while_a_result_waits_nothing_is_fetched)
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

Test(queue_once, a_full_redis_still_takes_results)
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

Test(queue_once, scripts_flushed)
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

Test(queue_once, groups_come_back_after_flushall)
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
Test(queue_once, own_entries_are_read_again)
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
		queue_release(crew->w.queue, entry, false);
	else
		queue_finish(crew->w.queue, entry, id, json, "front", "exited", NULL);
}

/* Workers vanish, Redis dies, connections break: every job gets one result, and nothing stays behind. */
Test(queue_once, chaos)
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
