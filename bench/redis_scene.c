/* Redis, a worker and a client; see the header. Every wait is bounded. */
#include "bench/redis_scene.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/base64.h"
#include "executor/redis_reply.h"

#define CONNECT_TRIES 500
#define CONNECT_LOOK_MS 20
#define WAIT_S 30

static void cleanup_reply(redisReply **reply)
{
	freeReplyObject(*reply);
}

#define _cleanup_reply_ _cleanup_(cleanup_reply)

/* ---- start ---- */
static int start_server(struct redis_scene *s, const struct workspace *ws, bool durable, const char *socket, struct err *err)
{
	char *argv[] = {(char *)"redis-server", (char *)"--port", (char *)"0", (char *)"--unixsocket", (char *)socket,
		(char *)"--unixsocketperm", (char *)"777", (char *)"--save", (char *)"", (char *)"--dir", (char *)ws->dir,
		(char *)"--appendonly", (char *)(durable ? "yes" : "no"), (char *)"--appendfsync", (char *)"always",
		(char *)"--maxmemory-policy", (char *)"noeviction", (char *)"--logfile", (char *)"redis.log", NULL};
	return child_start(&s->server, argv, 0, err);
}

static int connect_server(struct redis_scene *s, const char *socket, struct err *err)
{
	const struct timeval patience = {.tv_sec = 1}, answer = {.tv_sec = WAIT_S + 5};
	for (int i = 0; i < CONNECT_TRIES && !bench_interrupted; i++) {
		s->redis = redisConnectUnixWithTimeout(socket, patience);
		if (s->redis && s->redis->err == 0)
			return redisSetTimeout(s->redis, answer) == REDIS_OK ? 0 : err_say(err, EIO, "redis: cannot set a timeout");
		if (s->redis)
			redisFree(s->redis);
		s->redis = NULL;
		(void)poll(NULL, 0, CONNECT_LOOK_MS);
	}
	return err_say(err, ECONNREFUSED, "redis-server does not answer; is it installed?");
}

static int start_worker(struct redis_scene *s, const struct workspace *ws, const struct options *o, const char *socket, struct err *err)
{
	char petri[600], url[400], slots[16];
	int r = bench_file("../executor/petri", petri, sizeof(petri), err);
	if (r < 0)
		return r;
	(void)snprintf(url, sizeof(url), "unix://%s", socket);
	(void)snprintf(slots, sizeof(slots), "%u", o->slots);
	char *argv[] = {petri, (char *)"worker", (char *)"--redis", url, (char *)"--state", (char *)ws->state, (char *)"--slots", slots,
		(char *)"--name", (char *)"bench", (char *)"--warm-image", (char *)options_image(o), (char *)"--result-ttl", (char *)"60s",
		(char *)"--grace", (char *)"0", o->durable ? NULL : (char *)"--allow-volatile-redis", NULL};
	return child_start(&s->worker, argv, 0, err);
}

/* {"PATH": {"base64": …, "mode": "0755"}} */
static json_t *files_json(const struct options *o, struct err *err)
{
	_cleanup_free_ char *path = NULL, *data = NULL;
	size_t len = 0;
	if (workspace_file(o, &path, &data, &len, err) < 0)
		return NULL;
	_cleanup_free_ char *text = malloc(base64_encoded_len(len) + 1);
	if (!text)
		abort();
	base64_encode(data, len, text);
	return json_pack("{s:{s:s%, s:s}}", path, "base64", text, base64_encoded_len(len), "mode", "0755");
}

static int make_job(struct redis_scene *s, const struct options *o, char *const *argv, struct err *err)
{
	json_t *files = o->file ? files_json(o, err) : json_object();
	if (!files)
		return -EINVAL;
	json_t *words = json_array(), *job = json_pack("{s:s, s:o, s:o}", "image", options_image(o), "argv", words, "files", files);
	for (; *argv; argv++)
		(void)json_array_append_new(words, json_string(*argv));
	s->job = json_dumps(job, JSON_COMPACT);
	(void)json_object_set_new(job, "reply", json_string(SCENE_REPLY));
	s->job_reply = json_dumps(job, JSON_COMPACT);
	json_decref(job);
	return s->job && s->job_reply ? 0 : err_set(err, ENOMEM, "make the job");
}

int scene_open(struct redis_scene *s, const struct workspace *ws, const struct options *o, char *const *argv, struct err *err)
{
	char socket[320];
	*s = (struct redis_scene){.last = "0"};
	(void)snprintf(socket, sizeof(socket), "%s/redis.sock", ws->dir);
	redis_ignore_sigpipe();
	int r = make_job(s, o, argv, err);
	r = r < 0 ? r : start_server(s, ws, o->durable, socket, err);
	r = r < 0 ? r : connect_server(s, socket, err);
	return r < 0 ? r : start_worker(s, ws, o, socket, err);
}

void scene_close(struct redis_scene *s)
{
	if (s->redis)
		redisFree(s->redis);
	child_stop(&s->worker); /* before its server, or it would wait for it */
	child_stop(&s->server);
	free(s->job);
	free(s->job_reply);
	*s = (struct redis_scene){0};
}

/* ---- requests ---- */
static int check(const struct redis_scene *s, const redisReply *reply, const char *what, struct err *err)
{
	if (!reply)
		return err_say(err, EIO, "redis: %s: %s", what, bench_interrupted ? "interrupted" : s->redis->errstr);
	if (reply->type == REDIS_REPLY_ERROR)
		return err_say(err, EIO, "redis: %s: %s", what, reply->str);
	return 0;
}

int scene_ping(struct redis_scene *s, struct err *err)
{
	_cleanup_reply_ redisReply *reply = redisCommand(s->redis, "PING");
	return check(s, reply, "PING", err);
}

int scene_add(struct redis_scene *s, const char *id, struct err *err)
{
	_cleanup_reply_ redisReply *reply = redisCommand(s->redis, "XADD " SCENE_PREFIX ":jobs * job %s id %s", s->job, id);
	return check(s, reply, "XADD", err);
}

int scene_wait(struct redis_scene *s, const char *id, struct err *err)
{
	_cleanup_reply_ redisReply *reply = redisCommand(s->redis, "BLPOP " SCENE_PREFIX ":done:%s %d", id, WAIT_S);
	int r = check(s, reply, "BLPOP", err);
	if (r == 0 && reply->type != REDIS_REPLY_ARRAY)
		r = err_say(err, ETIMEDOUT, "no result within %d s", WAIT_S);
	return r;
}

json_t *scene_result(struct redis_scene *s, const char *id, struct err *err)
{
	_cleanup_reply_ redisReply *reply = redisCommand(s->redis, "GET " SCENE_PREFIX ":result:%s", id);
	if (check(s, reply, "GET", err) < 0)
		return NULL;
	json_t *result = redis_reply_is_string(reply) ? json_loads(reply->str, 0, NULL) : NULL;
	const char *status = json_string_value(json_object_get(result, "status"));
	if (status && strcmp(status, "exited") == 0 && json_integer_value(json_object_get(result, "exit_code")) == 0)
		return result;
	(void)err_say(err, EIO, "a job's result: %.300s", redis_reply_text(reply));
	json_decref(result);
	return NULL;
}

/* ---- many ---- */
int scene_add_many(struct redis_scene *s, unsigned first, unsigned n, struct err *err)
{
	for (unsigned i = 0; i < n; i++)
		if (redisAppendCommand(s->redis, "XADD " SCENE_PREFIX ":jobs * job %s id b-%u", s->job_reply, first + i) != REDIS_OK)
			return err_set(err, ENOMEM, "redis: XADD");
	for (unsigned i = 0; i < n; i++) {
		redisReply *got = NULL;
		if (redisGetReply(s->redis, (void **)&got) != REDIS_OK)
			got = NULL;
		_cleanup_reply_ redisReply *reply = got;
		int r = check(s, reply, "XADD", err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A field of a stream entry [id, [name, value, …]]. */
static const char *field(const redisReply *entry, const char *name)
{
	const redisReply *fields = redis_reply_at(entry, 1);
	for (size_t i = 0; fields && i + 1 < fields->elements; i += 2)
		if (strcmp(redis_reply_text(fields->element[i]), name) == 0)
			return redis_reply_text(fields->element[i + 1]);
	return "";
}

int scene_read(struct redis_scene *s, void (*seen)(void *ctx, unsigned number), void *ctx, struct err *err)
{
	_cleanup_reply_ redisReply *reply = redisCommand(s->redis, "XREAD COUNT 1000 BLOCK %d STREAMS " SCENE_PREFIX ":results:" SCENE_REPLY " %s", WAIT_S * 1000, s->last);
	int r = check(s, reply, "XREAD", err);
	if (r < 0)
		return r;
	const redisReply *entries = redis_reply_at(redis_reply_at(reply, 0), 1);
	if (!entries || entries->elements == 0)
		return err_say(err, ETIMEDOUT, "no result within %d s", WAIT_S);
	for (size_t i = 0; i < entries->elements; i++) {
		const redisReply *entry = entries->element[i];
		if (strcmp(field(entry, "status"), "exited") != 0)
			return err_say(err, EIO, "a job ended as %s", field(entry, "status"));
		(void)snprintf(s->last, sizeof(s->last), "%s", redis_reply_text(redis_reply_at(entry, 0)));
		seen(ctx, (unsigned)strtoul(field(entry, "id") + 2, NULL, 10));
	}
	return (int)entries->elements;
}
