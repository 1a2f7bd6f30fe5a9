/* The queue against a real redis-server: what falls between fetch and start, and what is lost on the way. */
#include "executor_queue.h"

TestSuite(queue_race, .init = set_up, .fini = tear_down, .timeout = 100);

/* How often a command was served (or another count of INFO commandstats). */
static long served(const char *command, const char *what)
{
	char name[64];
	const char *text = redis("INFO commandstats")->str;
	(void)snprintf(name, sizeof(name), "cmdstat_%s:", command);
	const char *line = strstr(text, name);
	const char *at = line ? strstr(line, what) : NULL;
	return at ? strtol(at + strlen(what) + 1, NULL, 10) : 0;
}

/* ---- between fetch and start ---- */

/* While its slot was being made: whoever asked was told "requested", so the job must be told too. */
static void cancel_before_start(unsigned slots)
{
	struct worker w = {.slots = slots, .by_hand = true, .no_start = true};
	struct queue_client *c = client();
	struct err err = ERR_INIT;
	const char *what;
	start(&w, "w1", 30000);
	UNTIL(blocked_in(slots < 4 ? "xread" : "xreadgroup"));
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	cr_assert_eq(queue_client_cancel(c, "a", &what, &err), 0);
	cr_assert_str_eq(what, "requested");
	run_for(50);
	cr_assert_eq(w.ncancel, 0);
	queue_started(w.queue, w.held[0], "a", 60000);
	uint64_t begun = now_us();
	UNTIL(w.ncancel == 1);
	cr_assert_lt(now_us() - begun, 2000000, "only at the renewal");
	queue_client_free(c);
	queue_free(w.queue);
}

Test(queue_race, cancel_before_the_start)
{
	cancel_before_start(1);
}

Test(queue_race, cancel_before_the_start_of_one_taken)
{
	cancel_before_start(8);
}

/* It took longer to start than its state key lives. */
Test(queue_race, a_late_start_writes_the_state_again)
{
	struct worker w = {.slots = 8, .by_hand = true, .no_start = true};
	struct queue_client *c = client();
	struct err err = ERR_INIT;
	const char *what;
	start(&w, "w1", 300);
	UNTIL(blocked_in("xreadgroup"));
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	UNTIL(redis("EXISTS petri:state:a")->integer == 0);
	queue_started(w.queue, w.held[0], "a", 60000);
	UNTIL(redis("EXISTS petri:state:a")->integer == 1);
	cr_assert_eq(queue_client_cancel(c, "a", &what, &err), 0);
	cr_assert_str_eq(what, "requested");
	UNTIL(w.ncancel == 1);
	cr_assert_eq(w.nlost, 0);
	queue_client_free(c);
	queue_free(w.queue);
}

/* What starts inside the call that tells of it costs no second script. */
Test(queue_race, a_start_at_once_needs_no_script)
{
	struct worker w = {.slots = 8, .by_hand = true};
	start(&w, "w1", 30000);
	UNTIL(blocked_in("xreadgroup"));
	add("petri:jobs", "warm-up");
	UNTIL(w.njobs == 1);
	UNTIL(blocked_in("xreadgroup"));
	long before = served("hset", "calls");
	add("petri:jobs", "a");
	UNTIL(w.njobs == 2);
	run_for(30);
	cr_assert_leq(served("hset", "calls") - before, 2); /* its own, and a heartbeat's at most */
	queue_free(w.queue);
}

/* Two entries of one id: handing one back leaves the other's state key alone. */
Test(queue_race, a_state_key_belongs_to_its_entry)
{
	struct worker a = {.slots = 1, .by_hand = true}, b = {.slots = 1, .by_hand = true, .no_start = true};
	start(&a, "wa", 30000);
	add("petri:jobs", "x");
	UNTIL(a.njobs == 1);
	UNTIL(redis("EXISTS petri:state:x")->integer == 1);
	start(&b, "wb", 30000);
	add("petri:jobs", "x");
	UNTIL(b.njobs == 1);
	run_for(30);
	cr_assert_str_eq(redis("HGET petri:state:x worker")->str, "wa");
	queue_want(b.queue, 0);
	queue_release(b.queue, b.held[0], false);
	UNTIL(queue_drained(b.queue));
	cr_assert_str_eq(redis("HGET petri:state:x worker")->str, "wa");
	queue_free(a.queue);
	queue_free(b.queue);
}

/* ---- a look that failed ---- */

Test(queue_race, a_look_without_its_script)
{
	struct worker w = {.slots = 8};
	start(&w, "w1", 30000);
	for (unsigned i = 1; i <= 5; i++) {
		UNTIL(blocked_in("xreadgroup"));
		redis("SET petri:result:a {}");
		redis("SCRIPT FLUSH");
		add("petri:jobs", "a");
		UNTIL(stats(&w).duplicates == i);
	}
	cr_assert_eq(w.njobs, 0);
	cr_assert_eq(w.nlost, 0);
	queue_free(w.queue);
}

/* Redis refuses the script that looks: the entries wait, and neither run nor go back. */
Test(queue_race, a_look_that_is_refused)
{
	struct worker w = {.slots = 8};
	start(&w, "w1", 30000);
	UNTIL(blocked_in("xreadgroup"));
	redis("SET petri:result:a {}");
	redis("MULTI");
	redis("ACL SETUSER default -evalsha -eval");
	redis("XADD petri:jobs * job {} id a");
	redis("XADD petri:jobs:high * job {} id b");
	redis("EXEC");
	run_for(500);
	cr_assert_eq(w.njobs, 0);
	cr_assert_eq(pending("petri:jobs"), 1);
	redis("ACL SETUSER default +evalsha +eval");
	UNTIL(stats(&w).duplicates == 1);
	UNTIL(w.nfinished == 1);
	cr_assert_str_eq(w.ids[0], "b");
	cr_assert_eq(w.attempts[0], 1);
	queue_free(w.queue);
}

/* The reply of a blocked read that was lost on the way. */
Test(queue_race, an_own_entry_with_a_result_does_not_run)
{
	struct worker w = {.slots = 8, .by_hand = true};
	start(&w, "w1", 30000);
	UNTIL(blocked_in("xreadgroup"));
	redis("SET petri:result:a {}");
	UNTIL(redis("EXISTS petri:worker:w1")->integer == 1);
	char consumer[200];
	(void)snprintf(consumer, sizeof(consumer), "%s", redis("HGET petri:worker:w1 consumer")->str);
	redis("MULTI");
	redis("CLIENT KILL TYPE normal SKIPME yes");
	redis("XADD petri:jobs * job {} id a");
	redis("XADD petri:jobs * job {} id b");
	redis("XREADGROUP GROUP petri %s STREAMS petri:jobs >", consumer);
	redis("EXEC");
	UNTIL(stats(&w).duplicates == 1);
	UNTIL(w.njobs == 1);
	cr_assert_str_eq(w.ids[0], "b");
	cr_assert_eq(w.nlost, 0);
	cr_assert_eq(pending("petri:jobs"), 1);
	queue_free(w.queue);
}

/* Redis believed in the connection that was lost for a while, and gave it one more. */
Test(queue_race, an_own_entry_that_comes_late)
{
	struct worker w = {.slots = 8, .by_hand = true};
	start(&w, "w1", 30000);
	UNTIL(redis("EXISTS petri:worker:w1")->integer == 1);
	char consumer[200];
	(void)snprintf(consumer, sizeof(consumer), "%s", redis("HGET petri:worker:w1 consumer")->str);
	UNTIL(blocked_in("xreadgroup"));
	redis("CLIENT KILL TYPE normal SKIPME yes");
	run_for(50);
	UNTIL(blocked_in("xreadgroup"));
	run_for(300);
	redis("MULTI");
	redis("XADD petri:jobs * job {} id late");
	redis("XREADGROUP GROUP petri %s STREAMS petri:jobs >", consumer);
	redis("EXEC");
	uint64_t begun = now_us();
	UNTIL(w.njobs == 1);
	cr_assert_lt(now_us() - begun, 4000000);
	cr_assert_eq(w.attempts[0], 1);
	queue_free(w.queue);
}

/* ---- work for nothing ---- */

Test(queue_race, cancels_of_others_wake_nobody)
{
	struct worker w = {.slots = 8};
	start(&w, "w1", 30000);
	UNTIL(blocked_in("xreadgroup"));
	run_for(200);
	long scripts = served("evalsha", "calls"), reads = served("xreadgroup", "calls");
	uint64_t begun = now_us();
	for (unsigned i = 0; i < 50; i++) {
		redis("PUBLISH petri:cancel nobody%u", i);
		run_for(20);
	}
	long waits = (long)((now_us() - begun) / 600000 + 1); /* it looks for work once a wait in any case */
	cr_assert_leq(served("evalsha", "calls") - scripts, 2 * waits + 2);
	cr_assert_leq(served("xreadgroup", "calls") - reads, 15 * waits + 15);
	cr_assert_eq(served("client|unblock", "calls"), 0);
	queue_free(w.queue);
}

/* Fewer slots than a fetch was sent for: what it waits for then was never told. */
Test(queue_race, fewer_slots_while_a_look_is_under_way)
{
	struct worker w = {.slots = 4};
	start(&w, "w1", 30000);
	UNTIL(stats(&w).connected);
	queue_want(w.queue, 2);
	UNTIL(blocked_in("xread"));
	cr_assert_eq(served("xread", "failed_calls"), 0);
	cr_assert_eq(served("xread", "rejected_calls"), 0);
	w.slots = 2;
	add("petri:jobs", "a");
	UNTIL(w.nfinished == 1);
	queue_free(w.queue);
}

/* A group is missing and may not be made: the others' jobs run, and Redis is left in peace. */
Test(queue_race, a_group_that_cannot_be_made)
{
	struct worker w = {.slots = 8};
	start(&w, "w1", 30000);
	UNTIL(blocked_in("xreadgroup"));
	redis("ACL SETUSER default -xgroup");
	redis("DEL petri:jobs:low");
	run_for(300);
	long before = served("evalsha", "calls");
	run_for(1000);
	cr_assert_lt(served("evalsha", "calls") - before, 30);
	add("petri:jobs", "a");
	UNTIL(w.nfinished == 1);
	redis("ACL SETUSER default +xgroup");
	redis("XADD petri:jobs:low * job {} id b");
	UNTIL(w.nfinished == 2);
	queue_free(w.queue);
}

/* A blocked read brought as many as there are slots: the script that looks at them must not eat the bell. */
Test(queue_race, a_tenant_behind_four_that_were_taken)
{
	struct worker w = {.slots = 4};
	unsigned slow = 0;
	start(&w, "w1", 30000);
	for (unsigned i = 0; i < 10; i++) {
		UNTIL(blocked_in("xreadgroup"));
		redis("MULTI");
		redis("SADD petri:tenants t");
		redis("XADD petri:jobs:t:t * job {} id t%u", i);
		redis("PUBLISH petri:bell t");
		redis("XADD petri:jobs:high * job {} id h%u", i);
		redis("XADD petri:jobs * job {} id n%u", i);
		redis("XADD petri:jobs:low * job {} id l%u", i);
		redis("XADD petri:jobs:worker:w1 * job {} id o%u", i);
		redis("EXEC");
		uint64_t begun = now_us();
		UNTIL(w.nfinished == 5 * (i + 1));
		slow += now_us() - begun > 400000;
	}
	cr_assert_leq(slow, 1, "%u of 10 waited for the end of a wait", slow);
	queue_free(w.queue);
}

/* ---- a lease that ran out ---- */

/* From a worker's death to its job's start elsewhere: the lease and a second at most, whatever the worker does. */
Test(queue_race, a_dead_workers_job_is_taken_in_time)
{
	enum { LEASE_MS = 3000 };
	struct worker a = {.slots = 1, .by_hand = true}, b = {.slots = 4, .by_hand = true}, d = {.slots = 1, .by_hand = true};
	start(&a, "wa", LEASE_MS);
	redis("SADD petri:tenants t");
	redis("XADD petri:jobs:t:t * job {} id x");
	UNTIL(a.njobs == 1);
	start(&b, "wb", LEASE_MS);
	start(&d, "wd", LEASE_MS);
	run_for(LEASE_MS / 3 + 200); /* renewed */
	uint64_t died = now_us();
	queue_free(a.queue);
	UNTIL(b.njobs + d.njobs == 1);
	cr_assert_lt(now_us() - died, LEASE_MS * 1000 + 1000000);
	cr_assert_eq(b.njobs ? b.attempts[0] : d.attempts[0], 2);
	queue_free(b.queue);
	queue_free(d.queue);
}

/* Many idle workers look for such entries: at one stream each, and one of them at all. */
Test(queue_race, idle_workers_share_the_looking)
{
	enum { N = 6,
		TENANTS = 50 };
	struct worker w[N] = {0};
	for (unsigned i = 0; i < TENANTS; i++) {
		redis("SADD petri:tenants t%u", i);
		redis("XGROUP CREATE petri:jobs:t:t%u petri 0 MKSTREAM", i);
	}
	for (unsigned i = 0; i < N; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "w%u", i);
		w[i].slots = 4;
		start(&w[i], name, 30000);
	}
	run_for(1000);
	long before = served("xpending", "calls");
	run_for(3000);
	long looks = served("xpending", "calls") - before;
	cr_assert_lt(looks, (3 * TENANTS + 4) * 12, "%ld", looks); /* alone, each would have made over 4 */
	for (unsigned i = 0; i < N; i++)
		queue_free(w[i].queue);
}
