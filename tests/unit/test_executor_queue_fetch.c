/* The queue against a real redis-server: fetching, priorities and tenants. */
#include "executor_queue.h"

TestSuite(queue_fetch, .init = set_up, .fini = tear_down, .timeout = 100);

/* ---- fetch and finish ---- */

Test(queue_fetch, fetch_and_finish)
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

Test(queue_fetch, never_more_than_wanted)
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

/* One stream alone is read by sixteens: still never more than wanted, nothing that has a result, and in order. */
Test(queue_fetch, a_lone_stream_is_read_ahead)
{
	enum { N = 120,
		SLOTS = 37 };
	struct worker w = {.slots = SLOTS, .by_hand = true};
	unsigned runs = 0;
	for (int i = 0; i < N; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "j%d", i);
		if (i % 3 == 0)
			redis("SET petri:result:%s {}", id);
		if (i % 3 == 1)
			redis("SET petri:cancelled:%s requested", id);
		add("petri:jobs", id);
	}
	start(&w, "w1", 30000);
	for (unsigned i = 0; i < N; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "j%u", i);
		if (i % 3 == 0)
			continue;
		UNTIL(w.njobs > runs);
		cr_assert_leq(pending("petri:jobs"), SLOTS + 1);
		cr_assert_str_eq(w.ids[runs], id);
		if (i % 3 == 1)
			UNTIL(strcmp(w.cancelled, id) == 0 || w.ncancel > 0);
		finish(&w, w.held[runs], id);
		runs++;
	}
	UNTIL(w.nfinished == runs);
	cr_assert_eq(runs, N / 3 * 2);
	UNTIL(stats(&w).duplicates == N / 3);
	cr_assert_eq(w.peak, SLOTS);
	cr_assert_gt(w.ncancel, 0);
	UNTIL(redis("XLEN petri:jobs")->integer == 0);
	cr_assert_eq(pending("petri:jobs"), 0);
	queue_free(w.queue);
}

Test(queue_fetch, want_zero_fetches_nothing)
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
Test(queue_fetch, surplus_is_handed_back)
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

Test(queue_fetch, an_idle_worker_is_quick)
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

Test(queue_fetch, priorities_are_weighted)
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

Test(queue_fetch, tenants_take_turns)
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

Test(queue_fetch, a_tenant_rings_and_is_forgotten)
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

Test(queue_fetch, jobs_for_one_worker)
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
