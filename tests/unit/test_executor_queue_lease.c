/* The queue against a real redis-server: leases and cancelling. */
#include "executor_queue.h"

TestSuite(queue_lease, .init = set_up, .fini = tear_down, .timeout = 100);

/* ---- leases ---- */

Test(queue_lease, a_lease_is_renewed)
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

Test(queue_lease, another_takes_over)
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
Test(queue_lease, a_lost_lease_is_told)
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

Test(queue_lease, a_reclaimed_job_runs_alone)
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
Test(queue_lease, stopping_hands_back)
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

Test(queue_lease, too_many_attempts)
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

Test(queue_lease, released_jobs_keep_their_count)
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
	queue_release(a.queue, a.held[0], false);
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

/* ---- cancel ---- */

Test(queue_lease, cancel_in_each_state)
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
Test(queue_lease, cancel_without_the_message)
{
	struct worker w = {.slots = 1, .by_hand = true};
	start(&w, "w1", 300);
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	redis("SET petri:cancelled:a requested");
	UNTIL(w.ncancel == 1);
	queue_free(w.queue);
}
