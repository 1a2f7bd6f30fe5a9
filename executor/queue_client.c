/*
 * The blocking side of the queue, for `petri submit`, `status` and `cancel` (process: petri, no event loop). One
 * connection; only waiting survives its loss, because only that may take long.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "base/sys.h"
#include "executor/queue_internal.h"
#include "executor/redis_sync.h"

#define RESULT_TTL_MS 3600000u
#define CANCELLED_TTL_MS 86400000u /* an entry that waits longer in its stream would run after all */
#define SLICE_MS 1000u
#define RECONNECT_MS 30000u

struct queue_client {
	struct redis_sync sync;
	char prefix[65];
};

static void client_key(const struct queue_client *client, char out[QUEUE_KEY_MAX], const char *kind, const char *name)
{
	(void)snprintf(out, QUEUE_KEY_MAX, "%s:%s%s", client->prefix, kind, name);
}

static void reply_clear(redisReply **reply)
{
	if (*reply)
		freeReplyObject(*reply);
}
#define _cleanup_reply_ __attribute__((cleanup(reply_clear)))

static int check_id(const char *id, struct err *err)
{
	if (id && job_id_valid(id))
		return 0;
	return err_say(err, EINVAL, "a job's id is 1 to %d of letters, digits and . _ -", JOB_ID_MAX);
}

int queue_client_open(const struct redis_url *url, const char *prefix, struct queue_client **ret, struct err *err)
{
	if (!redis_prefix_valid(prefix))
		return err_say(err, EINVAL, "the prefix must be 1 to 64 of letters, digits and . _ { } -");
	struct queue_client *client = calloc(1, sizeof(*client));
	if (!client)
		return err_set(err, ENOMEM, "queue");
	(void)snprintf(client->prefix, sizeof(client->prefix), "%s", prefix);
	int r = redis_sync_open(&client->sync, url, err);
	if (r < 0) {
		queue_client_free(client);
		return r;
	}
	*ret = client;
	return 0;
}

void queue_client_free(struct queue_client *client)
{
	if (!client)
		return;
	redis_sync_close(&client->sync);
	free(client);
}

/* ---- submit ---- */

static int stream_of(const struct queue_client *client, const struct job *job, char out[QUEUE_KEY_MAX], struct err *err)
{
	static const char *const bases[JOB_PRIORITY_MAX] = {"jobs:high", "jobs", "jobs:low"};
	if (job->worker) {
		if (!job_id_valid(job->worker))
			return err_say(err, EINVAL, "worker: not a worker's name");
		client_key(client, out, "jobs:worker:", job->worker);
		return 0;
	}
	if ((unsigned)job->priority >= JOB_PRIORITY_MAX)
		return err_say(err, EINVAL, "priority: unknown");
	client_key(client, out, bases[job->priority], "");
	if (!job->tenant)
		return 0;
	if (!job_id_valid(job->tenant))
		return err_say(err, EINVAL, "tenant: 1 to %d of letters, digits and . _ -", JOB_ID_MAX);
	size_t n = strlen(out);
	(void)snprintf(out + n, QUEUE_KEY_MAX - n, ":t:%s", job->tenant);
	return 0;
}

/* What the workers tell (--max-queue), where that is less than the caller's own bound. */
static int max_queue(struct queue_client *client, uint64_t *max, struct err *err)
{
	char key[QUEUE_KEY_MAX];
	uint64_t told;
	client_key(client, key, "max_queue", "");
	const char *words[] = {"GET", key};
	_cleanup_reply_ redisReply *reply = NULL;
	int r = redis_sync_words(&client->sync, words, 2, &reply, err);
	if (r == 0 && redis_reply_is_string(reply) && parse_u64(reply->str, &told, NULL) == 0 && told > 0)
		*max = *max ? MIN(*max, told) : told;
	return r;
}

/* Depth is what nobody has taken yet: the stream's length without what is pending. */
static int check_depth(struct queue_client *client, const char *stream, uint64_t max, struct err *err)
{
	_cleanup_reply_ redisReply *length = NULL, *pending = NULL;
	const char *xlen[] = {"XLEN", stream}, *xpending[] = {"XPENDING", stream, "petri"};
	int r = redis_sync_words(&client->sync, xlen, 2, &length, err);
	if (r < 0)
		return r;
	long long depth = redis_reply_int(length, 0);
	r = redis_sync_words(&client->sync, xpending, 3, &pending, NULL);
	if (r == 0) /* no group yet: nothing is pending */
		depth -= redis_reply_int(redis_reply_at(pending, 0), 0);
	if (depth >= 0 && (uint64_t)depth >= max)
		return err_say(err, EAGAIN, "queue full: %lld jobs wait in %s", depth, stream);
	return 0;
}

static void xadd_args(struct redis_args *args, const char *stream, const struct job *job, const char *json, size_t len)
{
	redis_args_str(args, "XADD");
	redis_args_str(args, stream);
	redis_args_str(args, "*");
	redis_args_str(args, "job");
	redis_args_add(args, json, len);
	if (job->id[0]) {
		redis_args_str(args, "id");
		redis_args_str(args, job->id);
	}
}

/* A tenant's stream is not watched by idle workers: name the tenant and ring, all in one transaction. */
static int add_for_tenant(struct queue_client *client, const struct redis_args *xadd, const struct job *job,
	redisReply **ret, struct err *err)
{
	char tenants[QUEUE_KEY_MAX], bell[QUEUE_KEY_MAX];
	client_key(client, tenants, "tenants", "");
	client_key(client, bell, "bell", "");
	const char *multi[] = {"MULTI"}, *sadd[] = {"SADD", tenants, job->tenant}, *publish[] = {"PUBLISH", bell, "job"},
		   *exec[] = {"EXEC"};
	struct redis_sync *sync = &client->sync;
	_cleanup_reply_ redisReply *a = NULL, *b = NULL, *c = NULL, *d = NULL;
	int r = redis_sync_words(sync, multi, 1, &a, err);
	r = r < 0 ? r : redis_sync_words(sync, sadd, 3, &b, err);
	r = r < 0 ? r : redis_sync_args(sync, xadd, &c, err);
	r = r < 0 ? r : redis_sync_words(sync, publish, 3, &d, err);
	if (r < 0) {
		redis_sync_drop(sync); /* nor may the half-made transaction catch what comes next */
		return r;
	}
	return redis_sync_words(sync, exec, 1, ret, err);
}

int queue_client_submit(struct queue_client *client, const struct job *job, const char *json, size_t len,
	uint64_t max_depth, char ret_id[JOB_ID_MAX + 1], struct err *err)
{
	char stream[QUEUE_KEY_MAX];
	if (len > JOB_JSON_MAX)
		return err_say(err, EMSGSIZE, "a job has at most %u bytes", JOB_JSON_MAX);
	int r = job->id[0] ? check_id(job->id, err) : 0;
	r = r < 0 ? r : stream_of(client, job, stream, err);
	r = r < 0 ? r : max_queue(client, &max_depth, err);
	if (r == 0 && max_depth)
		r = check_depth(client, stream, max_depth, err);
	if (r < 0)
		return r;
	_cleanup_args_ struct redis_args xadd = {0};
	_cleanup_reply_ redisReply *reply = NULL;
	xadd_args(&xadd, stream, job, json, len);
	bool tenant = job->tenant && !job->worker;
	r = tenant ? add_for_tenant(client, &xadd, job, &reply, err) : redis_sync_args(&client->sync, &xadd, &reply, err);
	if (r < 0)
		return err_wrap(err, "submit");
	const redisReply *added = tenant ? redis_reply_at(reply, 1) : reply;
	if (!redis_reply_is_string(added) || !job_id_valid(added->str))
		return err_say(err, EIO, "submit: redis: %s", redis_reply_text(added));
	(void)snprintf(ret_id, JOB_ID_MAX + 1, "%s", job->id[0] ? job->id : added->str);
	return 0;
}

/* ---- wait, status ---- */

/* Return: 0 with *ret (NULL when there is none). */
static int get_result(struct queue_client *client, const char *id, char **ret, struct err *err)
{
	char key[QUEUE_KEY_MAX];
	client_key(client, key, "result:", id);
	const char *words[] = {"GET", key};
	_cleanup_reply_ redisReply *reply = NULL;
	int r = redis_sync_words(&client->sync, words, 2, &reply, err);
	if (r < 0)
		return r;
	*ret = NULL;
	if (!redis_reply_is_string(reply))
		return 0;
	*ret = strdup(reply->str);
	return *ret ? 0 : err_set(err, ENOMEM, "result");
}

/* One look for the result, else up to slice_ms of BLPOP: others may wait as well, and get it on their next look. */
static int wait_slice(struct queue_client *client, const char *id, uint64_t slice_ms, char **ret, struct err *err)
{
	char key[QUEUE_KEY_MAX], seconds[32];
	int r = get_result(client, id, ret, err);
	if (r < 0 || *ret || slice_ms == 0)
		return r;
	client_key(client, key, "done:", id);
	(void)snprintf(seconds, sizeof(seconds), "%" PRIu64 ".%03" PRIu64, slice_ms / 1000, slice_ms % 1000);
	const char *words[] = {"BLPOP", key, seconds};
	_cleanup_reply_ redisReply *reply = NULL;
	r = redis_sync_words(&client->sync, words, 3, &reply, err);
	if (r < 0 || reply->type != REDIS_REPLY_ARRAY)
		return r;
	return get_result(client, id, ret, err);
}

int queue_client_wait(struct queue_client *client, const char *id, uint64_t timeout_ms, char **ret_json, struct err *err)
{
	int r = check_id(id, err);
	if (r < 0)
		return r;
	uint64_t begin = now_us() / 1000, lost_since = 0;
	for (;;) {
		uint64_t now = now_us() / 1000, slice = SLICE_MS;
		if (timeout_ms)
			slice = now - begin < timeout_ms ? MIN(slice, timeout_ms - (now - begin)) : 0;
		char *json = NULL;
		r = wait_slice(client, id, slice, &json, err);
		if (r == 0 && json) {
			*ret_json = json;
			return 0;
		}
		if (r == 0 && slice == 0)
			return err_say(err, ETIMEDOUT, "no result of %s within %" PRIu64 " ms", id, timeout_ms);
		if (r == 0) {
			lost_since = 0;
			continue;
		}
		lost_since = lost_since ? lost_since : now;
		if (r != -ECONNRESET || (timeout_ms && slice == 0) || now - lost_since > RECONNECT_MS)
			return err_wrap(err, "wait");
		(void)nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL); /* redis_sync_args() reconnects */
	}
}

static json_t *status_json(struct queue_client *client, const char *id, struct err *err)
{
	char key[QUEUE_KEY_MAX];
	_cleanup_free_ char *result = NULL;
	if (get_result(client, id, &result, err) < 0)
		return NULL;
	if (result) {
		json_t *value = json_loads(result, 0, NULL);
		return json_pack("{s:s, s:s, s:o*}", "id", id, "state", "done", "result", value);
	}
	client_key(client, key, "state:", id);
	const char *words[] = {"HGETALL", key};
	_cleanup_reply_ redisReply *reply = NULL;
	if (redis_sync_words(&client->sync, words, 2, &reply, err) < 0)
		return NULL;
	json_t *status = json_pack("{s:s, s:s}", "id", id, "state", redis_reply_at(reply, 0) ? "running" : "unknown");
	for (size_t i = 0; status && redis_reply_at(reply, i + 1); i += 2) {
		const char *name = redis_reply_text(redis_reply_at(reply, i));
		const redisReply *value = redis_reply_at(reply, i + 1);
		bool number = strcmp(name, "attempt") == 0;
		if (number || strcmp(name, "worker") == 0 || strcmp(name, "entry") == 0)
			(void)json_object_set_new(status, name,
				number ? json_integer(redis_reply_int(value, 0)) : json_string(redis_reply_text(value)));
	}
	return status;
}

int queue_client_status(struct queue_client *client, const char *id, char **ret_json, struct err *err)
{
	int r = check_id(id, err);
	if (r < 0)
		return r;
	struct err local = ERR_INIT;
	json_t *status = status_json(client, id, &local);
	char *text = status ? json_dumps(status, JSON_COMPACT) : NULL;
	json_decref(status);
	if (!text && !local.code)
		return err_set(err, ENOMEM, "status");
	if (!text) {
		if (err)
			*err = local;
		return err_wrap(err, "status");
	}
	*ret_json = text;
	return 0;
}

/* ---- cancel ---- */

static char *cancelled_result(const char *id)
{
	struct result result = {.status = STATUS_CANCELLED};
	(void)snprintf(result.id, sizeof(result.id), "%s", id);
	(void)snprintf(result.message, sizeof(result.message), "cancelled before it ran");
	return result_json(&result);
}

int queue_client_cancel(struct queue_client *client, const char *id, const char **ret_what, struct err *err)
{
	char keys[4][QUEUE_KEY_MAX], channel[QUEUE_KEY_MAX];
	static const char *const kinds[] = {"result:", "state:", "cancelled:", "done:"};
	int r = check_id(id, err);
	if (r < 0)
		return r;
	_cleanup_free_ char *json = cancelled_result(id);
	if (!json)
		return err_set(err, ENOMEM, "cancel");
	_cleanup_args_ struct redis_args args = {0};
	_cleanup_reply_ redisReply *reply = NULL;
	redis_script_begin(NULL, SCRIPT_CANCEL, 4, &args);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		client_key(client, keys[i], kinds[i], id);
		redis_args_str(&args, keys[i]);
	}
	client_key(client, channel, "cancel", "");
	redis_args_str(&args, id);
	redis_args_str(&args, json);
	redis_args_u64(&args, RESULT_TTL_MS);
	redis_args_u64(&args, CANCELLED_TTL_MS);
	redis_args_str(&args, channel);
	r = redis_sync_args(&client->sync, &args, &reply, err);
	if (r < 0)
		return err_wrap(err, "cancel");
	const char *what = redis_reply_text(reply);
	*ret_what = strcmp(what, "requested") == 0 ? "requested" : strcmp(what, "cancelled") == 0 ? "cancelled"
												  : "finished";
	return strcmp(*ret_what, "finished") == 0 ? 1 : 0;
}
