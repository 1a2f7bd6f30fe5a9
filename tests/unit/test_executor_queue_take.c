/* The queue against a real redis-server: an idle worker with slots enough blocks in a read that takes entries. */
#include "executor_queue.h"

TestSuite(queue_take, .init = set_up, .fini = tear_down, .timeout = 100);

Test(queue_take, what_a_worker_blocks_in)
{
	struct worker many = {.slots = 4}, few = {.slots = 3};
	start(&few, "few", 30000);
	UNTIL(blocked_in("xread"));
	cr_assert_not(blocked_in("xreadgroup"));
	start(&many, "many", 30000);
	UNTIL(blocked_in("xreadgroup"));
	queue_free(many.queue);
	queue_free(few.queue);
}

Test(queue_take, one_of_each_stream)
{
	struct worker w = {.slots = 4, .by_hand = true};
	start(&w, "w1", 30000);
	UNTIL(blocked_in("xreadgroup"));
	redis("MULTI");
	add("petri:jobs:low", "l");
	add("petri:jobs:high", "h");
	add("petri:jobs", "n");
	add("petri:jobs", "m");
	add("petri:jobs:worker:w1", "o");
	redis("EXEC");
	UNTIL(w.njobs == 4);
	run_for(100);
	cr_assert_eq(w.njobs, 4); /* never more than wanted, and what is left is left to all */
	for (unsigned i = 0; i < 4; i++)
		cr_assert_str_eq(redis("HGET petri:state:%s worker", w.ids[i])->str, "w1");
	long long out = pending("petri:jobs") + pending("petri:jobs:low") + pending("petri:jobs:high") + pending("petri:jobs:worker:w1");
	cr_assert_eq(out, 4);
	for (unsigned i = 0; i < 4; i++)
		finish(&w, w.held[i], w.ids[i]);
	UNTIL(w.njobs == 5);
	finish(&w, w.held[4], w.ids[4]);
	UNTIL(w.nfinished == 5);
	queue_free(w.queue);
}

Test(queue_take, what_has_a_result_does_not_run)
{
	struct worker w = {.slots = 8};
	start(&w, "w1", 30000);
	UNTIL(blocked_in("xreadgroup"));
	add("petri:jobs", "a");
	UNTIL(w.nfinished == 1);
	UNTIL(blocked_in("xreadgroup"));
	add("petri:jobs", "a");
	UNTIL(stats(&w).duplicates == 1);
	cr_assert_eq(w.njobs, 1);
	cr_assert_eq(w.nlost, 0);
	cr_assert_eq(redis("XLEN petri:jobs")->integer, 0);
	cr_assert_eq(pending("petri:jobs"), 0);
	UNTIL(blocked_in("xreadgroup"));
	redis("XADD petri:jobs * job {}"); /* no id: its entry's own, and no second script before it runs */
	UNTIL(w.nfinished == 2);
	redis("XADD petri:jobs * nothing here");
	UNTIL(redis("XLEN petri:jobs")->integer == 0);
	cr_assert_eq(w.njobs, 2);
	queue_free(w.queue);
}

Test(queue_take, what_somebody_cancelled_before)
{
	struct worker w = {.slots = 8, .by_hand = true};
	start(&w, "w1", 30000);
	UNTIL(blocked_in("xreadgroup"));
	redis("SET petri:cancelled:a requested");
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	UNTIL(w.ncancel == 1);
	cr_assert_str_eq(w.cancelled, "a");
	queue_free(w.queue);
}

Test(queue_take, scripts_and_groups_come_back)
{
	struct worker w = {.slots = 8};
	start(&w, "w1", 30000);
	for (unsigned i = 0; i < 6; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "a%u", i);
		UNTIL(blocked_in("xreadgroup"));
		redis(i % 2 ? "FLUSHALL" : "SCRIPT FLUSH");
		add("petri:jobs", id);
		UNTIL(w.nfinished == i + 1);
	}
	queue_free(w.queue);
}

Test(queue_take, the_connection_breaks)
{
	struct worker w = {.slots = 8};
	start(&w, "w1", 30000);
	for (unsigned i = 0; i < 20; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "a%u", i);
		UNTIL(blocked_in("xreadgroup"));
		add("petri:jobs", id);
		redis("CLIENT KILL TYPE normal SKIPME yes");
		UNTIL(w.nfinished == i + 1);
	}
	UNTIL(redis("XLEN petri:jobs")->integer == 0);
	cr_assert_eq(pending("petri:jobs"), 0);
	cr_assert_eq(w.nlost, 0);
	queue_free(w.queue);
}

Test(queue_take, a_stop_ends_the_read)
{
	for (unsigned i = 0; i < 20; i++) {
		struct worker w = {.slots = 8};
		start(&w, "w1", 30000);
		UNTIL(blocked_in("xreadgroup"));
		if (i % 2)
			add("petri:jobs", NULL);
		uint64_t begun = now_us();
		queue_stop(w.queue);
		UNTIL(queue_drained(w.queue));
		cr_assert_lt(now_us() - begun, 900000, "it waited for the read's own end");
		cr_assert_eq(w.njobs, w.nfinished);
		queue_free(w.queue);
	}
	struct worker w = {.slots = 8};
	start(&w, "w1", 30000); /* what was handed back is there for the next, at once */
	UNTIL(redis("XLEN petri:jobs")->integer == 0);
	cr_assert_eq(pending("petri:jobs"), 0);
	queue_free(w.queue);
}

/* Without outbox_behind() in may_fetch() b came while a's result was still on its way, and a worker with jobs of no work and a slow Redis
 * held 80 MiB of results. */
Test(queue_take, nothing_while_results_pile_up)
{
	struct worker w = {.slots = 2, .by_hand = true};
	const size_t much = 65u << 20;
	char *result = malloc(much + 1);
	cr_assert_not_null(result);
	memset(result, 'x', much);
	result[much] = '\0';
	start(&w, "w1", 30000);
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	UNTIL(blocked_in("xread"));
	w.out--;
	queue_finish(w.queue, w.held[0], "a", result, NULL, "exited", NULL);
	queue_want(w.queue, 2);
	add("petri:jobs", "b");
	UNTIL(w.njobs == 2);
	cr_assert_eq(w.nfinished, 1);
	finish(&w, w.held[1], "b");
	UNTIL(w.nfinished == 2);
	cr_assert_eq(redis("STRLEN petri:result:a")->integer, (long long)much);
	queue_free(w.queue);
	free(result);
}
