/*
 * The command line's side of the queue against a hostile Redis: each record of the input is the answer to one request of submit, wait,
 * status, cancel, the operator's verbs and the search for a master. No crash, no leak, no end without a message; what is shown of a
 * queue is printable.
 *
 * Taken out once: the loop over the bytes in text() of queue_admin.c; escapes are then shown (corpus: look).
 */
#include <errno.h>
#include <jansson.h>
#include <time.h>

#include "fuzz_redis.h"

#include "base/sys.h"
#include "executor/queue.h"
#include "executor/queue_admin.h"
#include "executor/queue_show.h"
#include "executor/redis_sync.h"
#include "executor/sentinel.h"

static struct input *answers;
static uint64_t clock_us;

uint64_t __wrap_now_us(void);
int __wrap_nanosleep(const struct timespec *req, struct timespec *rem);
uint64_t __wrap_now_us(void)
{
	return clock_us += 300000;
}

int __wrap_nanosleep(const struct timespec *req, struct timespec *rem)
{
	return 0;
}

/* ---- executor/redis_sync.h ---- */
int redis_sync_open(struct redis_sync *sync, const struct redis_url *url, struct err *err)
{
	*sync = (struct redis_sync){.context = NULL};
	return 0;
}

void redis_sync_close(struct redis_sync *sync)
{
}

void redis_sync_drop(struct redis_sync *sync)
{
}

int redis_sync_args(struct redis_sync *sync, const struct redis_args *args, redisReply **ret, struct err *err)
{
	CHECK(redis_args_ok(args));
	if (answers->left == 0)
		return err_say(err, EIO, "no more");
	redisReply *reply = take_reply(answers);
	enum redis_error kind = redis_reply_error(reply);
	if (kind == REDIS_ERROR_NONE) {
		*ret = reply;
		return 0;
	}
	int r = err_say(err, kind == REDIS_ERROR_LATER ? ECONNRESET : EIO, "redis: %.200s", redis_reply_text(reply));
	freeReplyObject(reply);
	return r;
}

int redis_sync_words(struct redis_sync *sync, const char *const *words, size_t n, redisReply **ret, struct err *err)
{
	_cleanup_args_ struct redis_args args = {0};
	for (size_t i = 0; i < n; i++)
		redis_args_str(&args, words[i]);
	return redis_sync_args(sync, &args, ret, err);
}

/* ---- what is shown ---- */
static void show(void (*print)(FILE *f, json_t *of), json_t *of)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	CHECK(f);
	print(f, of);
	CHECK(fclose(f) == 0);
	for (size_t i = 0; i < len; i++)
		CHECK(text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~'));
	free(text);
}

static void show_json(json_t *of)
{
	char *text = json_dumps(of, 0);
	CHECK(text);
	for (const char *c = text; *c; c++)
		CHECK(*c >= ' ' && *c <= '~');
	free(text);
	json_decref(of);
}

static int operate(struct queue_admin *admin, unsigned what, struct err *err)
{
	json_t *of = NULL;
	uint64_t n;
	int r;
	switch (what) {
	case 4:
		r = queue_admin_look(admin, &of, err);
		if (r < 0)
			return r;
		show(queue_show_total, of);
		show(queue_show_workers, of);
		show(queue_show_streams, of);
		show(queue_show_pending, of);
		show_json(of);
		return 0;
	case 5:
		return queue_admin_requeue(admin, "1-0", NULL, err);
	case 6:
		return queue_admin_purge(admin, NULL, &n, err);
	case 7:
		r = queue_admin_dead(admin, &of, err);
		if (r < 0)
			return r;
		show(queue_show_dead, of);
		show_json(of);
		return 0;
	case 8:
		r = queue_admin_dead_show(admin, "a", &of, err);
		if (r == 0)
			show_json(of);
		return r;
	case 9:
		return queue_admin_dead_requeue(admin, "a", err);
	default:
		return queue_admin_dead_purge(admin, &n, err);
	}
}

static int use(struct queue_client *client, unsigned what, struct err *err)
{
	char id[JOB_ID_MAX + 1] = "", *json = NULL;
	const char *answer = NULL;
	struct job job;
	int r;
	job_init(&job);
	switch (what) {
	case 0:
		if (take_byte(answers) & 1)
			job.tenant = strdup("t");
		r = queue_client_submit(client, &job, "{}", 2, take_byte(answers) & 1, id, err);
		CHECK(r < 0 || job_id_valid(id));
		break;
	case 1:
		r = queue_client_wait(client, "a", 20000, &json, err);
		CHECK(r < 0 || json);
		break;
	case 2:
		r = queue_client_status(client, "a", &json, err);
		CHECK(r < 0 || json);
		break;
	default:
		r = queue_client_cancel(client, "a", &answer, err);
		CHECK(r < 0 || answer);
	}
	free(json);
	job_clear(&job);
	return r;
}

static void find_master(void)
{
	struct redis_url found;
	redisReply *reply = take_reply(answers);
	if (sentinel_answer(reply, &found))
		CHECK(found.host[0] && strnlen(found.host, sizeof(found.host)) < sizeof(found.host) && found.port > 0 && found.port < 65536);
	(void)sentinel_is_master(reply);
	if (reply)
		freeReplyObject(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct redis_url url = {.path = "/nowhere"};
	struct err err = ERR_INIT;
	struct queue_admin *admin = NULL;
	struct queue_client *client = NULL;
	int r = 0;
	answers = &in;
	clock_us = 1;
	unsigned what = take_byte(&in) % 12;
	if (what == 11) {
		find_master();
	} else if (what > 3) {
		CHECK(queue_admin_open(&url, "petri", &admin, &err) == 0);
		r = operate(admin, what, &err);
		queue_admin_free(admin);
	} else {
		CHECK(queue_client_open(&url, "petri", &client, &err) == 0);
		r = use(client, what, &err);
		queue_client_free(client);
	}
	CHECK(r >= 0 || err.msg[0]);
	return 0;
}
