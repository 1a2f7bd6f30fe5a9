/* Looking at the queue, and setting it right by hand. Each change is one script, so that none is ever half done. See the header. */
#include "executor/queue_admin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/queue_admin_script.h"
#include "executor/redis_sync.h"

#define KEY_MAX 320
#define PAGE "100"
#define RESULT_TTL_MS 3600000u

struct queue_admin {
	struct redis_sync sync;
	char prefix[65];
	char keys[9][KEY_MAX];
};

static void reply_clear(redisReply **reply)
{
	if (*reply)
		freeReplyObject(*reply);
}
#define _cleanup_reply_ _cleanup_(reply_clear)

int queue_admin_open(const struct redis_url *url, const char *prefix, struct queue_admin **ret, struct err *err)
{
	/* As the scripts count them: queue_admin_script.h. */
	static const char *const names[] = {"jobs:high", "jobs", "jobs:low", "jobs:worker:", "tenants", "dead", "workers", "worker:", ""};
	if (!redis_prefix_valid(prefix))
		return err_say(err, EINVAL, "the prefix must be 1 to 64 of letters, digits and . _ { } -");
	struct queue_admin *admin = calloc(1, sizeof(*admin));
	if (!admin)
		return err_set(err, ENOMEM, "queue");
	(void)snprintf(admin->prefix, sizeof(admin->prefix), "%s", prefix);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		(void)snprintf(admin->keys[i], KEY_MAX, "%s:%s", prefix, names[i]);
	int r = redis_sync_open(&admin->sync, url, err);
	if (r < 0) {
		queue_admin_free(admin);
		return r;
	}
	*ret = admin;
	return 0;
}

void queue_admin_free(struct queue_admin *admin)
{
	if (!admin)
		return;
	redis_sync_close(&admin->sync);
	free(admin);
}

/* One of the scripts that take the standard keys. */
static int call(struct queue_admin *admin, const char *script, const char *const *argv, size_t n, redisReply **ret, struct err *err)
{
	_cleanup_args_ struct redis_args args = {0};
	redis_args_str(&args, "EVAL");
	redis_args_str(&args, script);
	redis_args_u64(&args, ARRAY_SIZE(admin->keys));
	for (size_t i = 0; i < ARRAY_SIZE(admin->keys); i++)
		redis_args_str(&args, admin->keys[i]);
	for (size_t i = 0; i < n; i++)
		redis_args_str(&args, argv[i]);
	return redis_sync_args(&admin->sync, &args, ret, err);
}

/* ---- replies as JSON ---- */

/* A stranger's bytes: nothing but printable ASCII is let through. */
static json_t *text(const redisReply *reply)
{
	if (!redis_reply_is_string(reply))
		return json_string("");
	size_t len = (size_t)reply->len;
	_cleanup_free_ char *copy = malloc(len + 1);
	for (size_t i = 0; copy && i < len; i++) {
		char c = reply->str[i];
		if (c < 0x20 || c > 0x7e)
			c = '?';
		copy[i] = c;
	}
	return copy ? json_stringn(copy, len) : NULL;
}

static json_t *number(const redisReply *reply, size_t i)
{
	return json_integer(redis_reply_int(redis_reply_at(reply, i), 0));
}

static bool is(const redisReply *reply, size_t i, const char *word)
{
	return strcmp(redis_reply_text(redis_reply_at(reply, i)), word) == 0;
}

/* {key, depth, pending, oldest_ms, priority, kind, name} */
static json_t *stream_row(const redisReply *row)
{
	json_t *o = json_pack("{s:o, s:o}", "stream", text(redis_reply_at(row, 0)), "priority", text(redis_reply_at(row, 4)));
	if (is(row, 5, "tenant") || is(row, 5, "worker"))
		(void)json_object_set_new(o, redis_reply_text(redis_reply_at(row, 5)), text(redis_reply_at(row, 6)));
	(void)json_object_set_new(o, "depth", number(row, 1));
	(void)json_object_set_new(o, "pending", number(row, 2));
	(void)json_object_set_new(o, "oldest_ms", number(row, 3));
	return o;
}

/* {name, age_ms, {field, value, …}} */
static json_t *worker_row(const redisReply *row)
{
	static const char *const words[] = {"consumer", "state", "images", "limits"};
	json_t *o = json_pack("{s:o, s:o}", "name", text(redis_reply_at(row, 0)), "age_ms", number(row, 1));
	const redisReply *hash = redis_reply_at(row, 2);
	for (size_t i = 0; redis_reply_at(hash, i + 1); i += 2) {
		const redisReply *value = redis_reply_at(hash, i + 1);
		bool word = false;
		for (size_t k = 0; k < ARRAY_SIZE(words); k++)
			word = word || is(hash, i, words[k]);
		json_t *name = text(redis_reply_at(hash, i));
		if (name)
			(void)json_object_set_new(o, json_string_value(name), word ? text(value) : json_integer(redis_reply_int(value, 0)));
		json_decref(name);
	}
	return o;
}

static json_t *consumer_row(const redisReply *row)
{
	return json_pack("{s:o, s:o}", "consumer", text(redis_reply_at(row, 0)), "pending", number(row, 1));
}

static json_t *entry_row(const redisReply *row)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "stream", text(redis_reply_at(row, 0)), "entry", text(redis_reply_at(row, 1)),
		"consumer", text(redis_reply_at(row, 2)), "idle_ms", number(row, 3), "deliveries", number(row, 4));
}

static json_t *dead_row(const redisReply *row)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "entry", text(redis_reply_at(row, 0)), "id", text(redis_reply_at(row, 1)),
		"attempts", number(row, 2), "consumer", text(redis_reply_at(row, 3)), "stream", text(redis_reply_at(row, 4)), "error",
		text(redis_reply_at(row, 5)), "job_bytes", number(row, 6));
}

static json_t *list(const redisReply *reply, json_t *(*row)(const redisReply *))
{
	json_t *array = json_array();
	for (size_t i = 0; redis_reply_at(reply, i); i++)
		(void)json_array_append_new(array, row(redis_reply_at(reply, i)));
	return array;
}

int queue_admin_wake(struct queue_admin *admin, struct err *err)
{
	char bell[KEY_MAX];
	_cleanup_reply_ redisReply *reply = NULL;
	(void)snprintf(bell, sizeof(bell), "%s:bell", admin->prefix);
	const char *words[] = {"PUBLISH", bell, "beat"};
	return redis_sync_words(&admin->sync, words, ARRAY_SIZE(words), &reply, err);
}

int queue_admin_look(struct queue_admin *admin, json_t **ret, struct err *err)
{
	_cleanup_reply_ redisReply *queue = NULL, *workers = NULL;
	int r = call(admin, queue_admin_look_script, NULL, 0, &queue, err);
	if (r == 0)
		r = call(admin, queue_admin_workers_script, NULL, 0, &workers, err);
	if (r < 0)
		return r;
	json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o}", "now_ms", number(queue, 0), "depth", number(queue, 1), "pending",
		number(queue, 2), "oldest_ms", number(queue, 3), "dead", number(queue, 4));
	(void)json_object_set_new(o, "streams", list(redis_reply_at(queue, 5), stream_row));
	(void)json_object_set_new(o, "consumers", list(redis_reply_at(queue, 6), consumer_row));
	(void)json_object_set_new(o, "entries", list(redis_reply_at(queue, 7), entry_row));
	(void)json_object_set_new(o, "workers", list(workers, worker_row));
	if (!o)
		return err_set(err, ENOMEM, "queue");
	*ret = o;
	return 0;
}

/* ---- pending entries ---- */

int queue_admin_requeue(struct queue_admin *admin, const char *entry, const char *stream, struct err *err)
{
	char bell[KEY_MAX];
	(void)snprintf(bell, sizeof(bell), "%s:bell", admin->prefix);
	const char *argv[] = {entry, stream ? stream : "", bell};
	_cleanup_reply_ redisReply *reply = NULL;
	int r = call(admin, queue_admin_requeue_script, argv, ARRAY_SIZE(argv), &reply, err);
	if (r < 0)
		return r;
	long long n = redis_reply_int(reply, 0);
	if (n == 1)
		return 0;
	if (n > 1)
		return err_say(err, EEXIST, "%lld streams have a pending entry %.60s: say which with --stream", n, entry);
	return err_say(err, ENOENT, "entry %.60s is not pending: it waits, or has a result, or never was", entry);
}

/* ---- waiting jobs ---- */

/* As the worker chooses it. */
static const char *id_of(const redisReply *id_field, const struct job *job, const char *entry)
{
	if (redis_reply_is_string(id_field) && strlen(id_field->str) == (size_t)id_field->len && job_id_valid(id_field->str))
		return id_field->str;
	return job->id[0] ? job->id : entry;
}

static int purge_one(struct queue_admin *admin, const char *stream, const redisReply *packed, uint64_t *count, struct err *err)
{
	const redisReply *id_field = redis_reply_at(packed, 1), *document = redis_reply_at(packed, 2);
	const char *entry = redis_reply_text(redis_reply_at(packed, 0));
	struct job job;
	struct reject why;
	bool string = redis_reply_is_string(document);
	(void)job_parse(string ? document->str : "", string ? (size_t)document->len : 0, NULL, &job, &why);
	struct result result = {.status = STATUS_CANCELLED, .meta = job.meta}; /* borrowed */
	(void)snprintf(result.id, sizeof(result.id), "%s", id_of(id_field, &job, entry));
	(void)snprintf(result.message, sizeof(result.message), "taken out of the queue by an operator");
	_cleanup_free_ char *json = result_json(&result), *meta = job.meta ? json_dumps(job.meta, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	char ttl[24];
	(void)snprintf(ttl, sizeof(ttl), "%u", RESULT_TTL_MS);
	const char *reply_to = job.reply && job_id_valid(job.reply) ? job.reply : "";
	const char *argv[] = {stream, entry, result.id, json, ttl, meta ? meta : "null", reply_to};
	_cleanup_reply_ redisReply *reply = NULL;
	int r = json ? call(admin, queue_admin_purge_script, argv, ARRAY_SIZE(argv), &reply, err) : err_set(err, ENOMEM, "purge");
	*count += r == 0 && redis_reply_int(reply, 0) > 0;
	job_clear(&job);
	return r;
}

static int purge_stream(struct queue_admin *admin, const char *stream, uint64_t *count, struct err *err)
{
	char from[64] = "";
	for (;;) {
		const char *argv[] = {stream, from};
		_cleanup_reply_ redisReply *page = NULL;
		int r = call(admin, queue_admin_waiting_script, argv, ARRAY_SIZE(argv), &page, err);
		for (size_t i = 0; r == 0 && redis_reply_at(page, i); i++) {
			r = purge_one(admin, stream, redis_reply_at(page, i), count, err);
			(void)snprintf(from, sizeof(from), "%s", redis_reply_text(redis_reply_at(redis_reply_at(page, i), 0)));
		}
		if (r < 0 || !redis_reply_at(page, 0))
			return r;
	}
}

int queue_admin_purge(struct queue_admin *admin, const char *stream, uint64_t *ret, struct err *err)
{
	_cleanup_reply_ redisReply *queue = NULL;
	*ret = 0;
	int r = call(admin, queue_admin_look_script, NULL, 0, &queue, err);
	if (r < 0)
		return r;
	const redisReply *rows = redis_reply_at(queue, 5);
	bool found = false;
	for (size_t i = 0; r == 0 && redis_reply_at(rows, i); i++) {
		const char *key = redis_reply_text(redis_reply_at(redis_reply_at(rows, i), 0));
		if (stream && strcmp(stream, key) != 0)
			continue;
		found = true;
		r = purge_stream(admin, key, ret, err);
	}
	if (r == 0 && stream && !found)
		return err_say(err, ENOENT, "there is no stream of jobs '%.200s', or it is empty", stream);
	return r;
}

/* ---- the dead ---- */

int queue_admin_dead(struct queue_admin *admin, json_t **ret, struct err *err)
{
	json_t *all = json_array();
	char from[64] = "-";
	for (;;) {
		const char *argv[] = {from, PAGE};
		_cleanup_reply_ redisReply *page = NULL;
		int r = call(admin, queue_admin_dead_script, argv, ARRAY_SIZE(argv), &page, err);
		if (r < 0 || !all) {
			json_decref(all);
			return r < 0 ? r : err_set(err, ENOMEM, "queue");
		}
		if (!redis_reply_at(page, 0)) {
			*ret = all;
			return 0;
		}
		json_t *rows = list(page, dead_row);
		(void)json_array_extend(all, rows);
		json_decref(rows);
		size_t last = page->elements - 1;
		(void)snprintf(from, sizeof(from), "(%.60s", redis_reply_text(redis_reply_at(redis_reply_at(page, last), 0)));
	}
}

static int find_dead(struct queue_admin *admin, const char *name, json_t **ret, struct err *err)
{
	json_t *all = NULL, *one, *found = NULL;
	size_t i;
	int r = queue_admin_dead(admin, &all, err);
	if (r < 0)
		return r;
	json_array_foreach(all, i, one)
	{
		if (strcmp(json_string_value(json_object_get(one, "entry")), name) == 0) {
			found = one;
			break;
		}
		if (strcmp(json_string_value(json_object_get(one, "id")), name) == 0)
			found = one; /* the latest of that name */
	}
	*ret = json_incref(found);
	json_decref(all);
	return found ? 0 : err_say(err, ENOENT, "no job '%.130s' among the dead", name);
}

int queue_admin_dead_show(struct queue_admin *admin, const char *name, json_t **ret, struct err *err)
{
	json_t *one = NULL;
	int r = find_dead(admin, name, &one, err);
	if (r < 0)
		return r;
	const char *argv[] = {json_string_value(json_object_get(one, "entry"))};
	_cleanup_reply_ redisReply *job = NULL;
	r = call(admin, queue_admin_dead_job_script, argv, ARRAY_SIZE(argv), &job, err);
	if (r < 0) {
		json_decref(one);
		return r;
	}
	(void)json_object_set_new(one, "job", redis_reply_is_string(job) && job->len > 0 ? text(job) : json_null());
	*ret = one;
	return 0;
}

int queue_admin_dead_requeue(struct queue_admin *admin, const char *name, struct err *err)
{
	static const struct {
		const char *answer, *why;
		int code;
	} refusals[] = {
		{"missing", "is not among the dead any more", ENOENT},
		{"no job", "was too large to be kept with the dead: submit it anew", ENODATA},
		{"bad", "has no usable id or stream", EINVAL},
		{"running", "runs: somebody submitted it again", EBUSY},
		{"finished", "has another result by now: somebody submitted it again", EEXIST},
	};
	json_t *one = NULL;
	int r = find_dead(admin, name, &one, err);
	if (r < 0)
		return r;
	char bell[KEY_MAX];
	(void)snprintf(bell, sizeof(bell), "%s:bell", admin->prefix);
	const char *argv[] = {json_string_value(json_object_get(one, "entry")), bell};
	_cleanup_reply_ redisReply *reply = NULL;
	r = call(admin, queue_admin_dead_requeue_script, argv, ARRAY_SIZE(argv), &reply, err);
	json_decref(one);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(refusals); i++)
		if (strcmp(redis_reply_text(reply), refusals[i].answer) == 0)
			r = err_say(err, refusals[i].code, "%.130s %s", name, refusals[i].why);
	return r;
}

int queue_admin_dead_purge(struct queue_admin *admin, uint64_t *ret, struct err *err)
{
	_cleanup_reply_ redisReply *reply = NULL;
	int r = call(admin, queue_admin_dead_purge_script, NULL, 0, &reply, err);
	*ret = r == 0 ? (uint64_t)redis_reply_int(reply, 0) : 0;
	return r;
}
