/* The queue against a real redis-server: strangers, set-up and the client. */
#include "executor_queue.h"

TestSuite(queue_edges, .init = set_up, .fini = tear_down, .timeout = 100);

/* ---- what strangers put into the streams ---- */

Test(queue_edges, malformed_entries)
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

Test(queue_edges, foreign_messages)
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

Test(queue_edges, a_volatile_redis_is_refused)
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

Test(queue_edges, passwords, .init = with_password)
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
Test(queue_edges, config_denied)
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

Test(queue_edges, bad_settings)
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

Test(queue_edges, a_worker_may_come_before_its_redis)
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

Test(queue_edges, prefixes_keep_apart)
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

Test(queue_edges, heartbeat)
{
	struct worker w = {.slots = 7};
	start(&w, "w1", 30000);
	queue_heartbeat(w.queue, &(struct queue_beat){.running = 3, .done = 42, .placed = 40, .warm = 39, .retired = 1});
	queue_describe(w.queue, "gcc:13", "memory,pids");
	UNTIL(redis("HLEN petri:worker:w1")->integer > 0);
	cr_assert_str_eq(redis("HGET petri:worker:w1 slots")->str, "7");
	cr_assert_str_eq(redis("HGET petri:worker:w1 running")->str, "3");
	cr_assert_str_eq(redis("HGET petri:worker:w1 retired")->str, "1");
	cr_assert_str_eq(redis("HGET petri:worker:w1 done")->str, "42");
	cr_assert_str_eq(redis("HGET petri:worker:w1 images")->str, "gcc:13");
	UNTIL(redis("PTTL petri:worker:w1")->integer > 0);
	queue_free(w.queue);
}

/* Callbacks that are still due when everything is freed. */
Test(queue_edges, freed_in_the_middle)
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

Test(queue_edges, client_submit_wait_status)
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

Test(queue_edges, client_queue_full)
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

Test(queue_edges, client_without_redis)
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
