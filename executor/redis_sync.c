/* A blocking connection to Redis, for the command line. Every wait is bounded: 5 s to connect, 15 s for an answer. */
#include "executor/redis_sync.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "executor/sentinel.h"

#define CONNECT_S 5
#define ANSWER_S 15

static int failed(const struct redis_sync *sync, int code, const char *what, struct err *err)
{
	char where[400];
	redis_url_format(&sync->url, where, sizeof(where));
	return err_say(err, code, "redis: %s: %s", where, what);
}

void redis_sync_drop(struct redis_sync *sync)
{
	redisContext *context = TAKE_PTR(sync->context);
	if (context)
		redisFree(context);
}

static int refused(struct redis_sync *sync, const redisReply *reply, struct err *err)
{
	char text[300];
	(void)snprintf(text, sizeof(text), "%.200s", redis_reply_text(reply));
	switch (redis_reply_error(reply)) {
	case REDIS_ERROR_MOVED: /* the next attempt may reach another server */
		redis_sync_drop(sync);
		return failed(sync, ECONNRESET, text, err);
	case REDIS_ERROR_LATER:
		return failed(sync, ECONNRESET, text, err);
	case REDIS_ERROR_AUTH: {
		size_t n = strlen(text);
		(void)snprintf(text + n, sizeof(text) - n, "; check user and password in PETRI_REDIS");
		return failed(sync, EACCES, text, err);
	}
	default:
		return failed(sync, EIO, text, err);
	}
}

static int transact(struct redis_sync *sync, const struct redis_args *args, redisReply **ret, struct err *err)
{
	if (!redis_args_ok(args))
		return err_set(err, ENOMEM, "redis");
	redisReply *reply = redisCommandArgv(sync->context, (int)args->n, (const char **)args->argv, args->lens);
	if (!reply) {
		char text[128];
		(void)snprintf(text, sizeof(text), "%s", sync->context->errstr);
		redis_sync_drop(sync);
		return failed(sync, ECONNRESET, text, err);
	}
	if (redis_reply_error(reply) != REDIS_ERROR_NONE) {
		int r = refused(sync, reply, err);
		freeReplyObject(reply);
		return r;
	}
	*ret = reply;
	return 0;
}

static int greet(struct redis_sync *sync, const char *verb, const char *a, const char *b, struct err *err)
{
	_cleanup_args_ struct redis_args args = {0};
	redis_args_str(&args, verb);
	if (a)
		redis_args_str(&args, a);
	if (b)
		redis_args_str(&args, b);
	redisReply *reply = NULL;
	int r = transact(sync, &args, &reply, err);
	if (r == 0)
		freeReplyObject(reply);
	else
		redis_sync_drop(sync);
	return r;
}

/* Ask the sentinels in turn; each has a second. */
static int find_master(const struct redis_sync *sync, struct redis_url *ret, struct err *err)
{
	const struct timeval patience = {.tv_sec = 1};
	struct redis_url one;
	for (unsigned i = 0; sentinel_node(&sync->url, i, &one) == 0; i++) {
		redisContext *context = redisConnectWithTimeout(one.host, one.port, patience);
		bool good = false;
		if (context && !context->err && redisSetTimeout(context, patience) == REDIS_OK) {
			redisReply *reply = redisCommand(context, "SENTINEL get-master-addr-by-name %s", sync->url.master);
			good = reply && sentinel_answer(reply, ret);
			if (reply)
				freeReplyObject(reply);
		}
		if (context)
			redisFree(context);
		if (good)
			return 0;
	}
	return failed(sync, ECONNRESET, "no sentinel answers that knows the master", err);
}

static int check_master(struct redis_sync *sync, struct err *err)
{
	_cleanup_args_ struct redis_args args = {0};
	redis_args_str(&args, "ROLE");
	redisReply *reply = NULL;
	int r = transact(sync, &args, &reply, err);
	if (r < 0)
		return r;
	bool master = sentinel_is_master(reply);
	freeReplyObject(reply);
	if (master)
		return 0;
	redis_sync_drop(sync);
	return failed(sync, ECONNRESET, "the sentinels name a server that is no master (yet)", err);
}

static int connect_now(struct redis_sync *sync, struct err *err)
{
	const struct redis_url *url = &sync->url;
	struct redis_url node = *url;
	int r = url->master[0] ? find_master(sync, &node, err) : 0;
	if (r < 0)
		return r;
	const struct timeval patience = {.tv_sec = CONNECT_S}, answer = {.tv_sec = ANSWER_S};
	redisContext *context = url->path[0] ? redisConnectUnixWithTimeout(url->path, patience)
					     : redisConnectWithTimeout(node.host, node.port, patience);
	if (!context)
		return err_set(err, ENOMEM, "redis");
	if (context->err) {
		r = failed(sync, ECONNRESET, context->errstr, err);
		redisFree(context);
		return r;
	}
	sync->context = context;
	(void)redisSetTimeout(context, answer);
	if (url->password[0])
		r = url->user[0] ? greet(sync, "AUTH", url->user, url->password, err)
				 : greet(sync, "AUTH", url->password, NULL, err);
	if (r == 0 && url->db) {
		char db[16];
		(void)snprintf(db, sizeof(db), "%d", url->db);
		r = greet(sync, "SELECT", db, NULL, err);
	}
	return r == 0 && url->master[0] ? check_master(sync, err) : r;
}

int redis_sync_open(struct redis_sync *sync, const struct redis_url *url, struct err *err)
{
	*sync = (struct redis_sync){.url = *url};
	redis_ignore_sigpipe();
	return connect_now(sync, err);
}

void redis_sync_close(struct redis_sync *sync)
{
	redis_sync_drop(sync);
	explicit_bzero(&sync->url, sizeof(sync->url));
}

int redis_sync_args(struct redis_sync *sync, const struct redis_args *args, redisReply **ret, struct err *err)
{
	if (!sync->context) {
		int r = connect_now(sync, err);
		if (r < 0)
			return r;
	}
	return transact(sync, args, ret, err);
}

int redis_sync_words(struct redis_sync *sync, const char *const *words, size_t n, redisReply **ret, struct err *err)
{
	_cleanup_args_ struct redis_args args = {0};
	for (size_t i = 0; i < n; i++)
		redis_args_str(&args, words[i]);
	return redis_sync_args(sync, &args, ret, err);
}
