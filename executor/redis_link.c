/*
 * One connection to Redis (process: petri). States: down (a timer runs until the next attempt), shaking hands
 * (AUTH, SELECT, PING sent at once; up when PING is answered), up. A request that waits longer than
 * ANSWER_US drops the connection: all requests may block a second at most, so the server or the way to it is stuck.
 * With sentinels each attempt begins with the question where the master is, and the handshake ends with ROLE: a server that
 * is no master, or not yet, is left at once.
 *
 * Name lookup is getaddrinfo(3) inside hiredis and blocks; a worker names its Redis by address or by socket.
 */
#include "executor/redis_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/redis_wire.h"
#include "executor/sentinel.h"

#define ANSWER_US 10000000u

struct request {
	struct redis_link *link;
	redisAsyncContext *ac;
	redis_reply_fn fn;
	void *data;
};

static void schedule_retry(struct redis_link *link)
{
	loop_timer_set(link->loop, &link->retry, now_us() + (uint64_t)link->backoff_ms * 1000);
	link->backoff_ms = MIN(link->backoff_ms * 2, link->backoff_max_ms);
}

void redis_link_hurry(struct redis_link *link, bool hurry)
{
	uint64_t soon = now_us() + REDIS_BACKOFF_HURRY_MS * 1000;
	link->backoff_max_ms = hurry ? REDIS_BACKOFF_HURRY_MS : REDIS_BACKOFF_MAX_MS;
	link->backoff_ms = MIN(link->backoff_ms, link->backoff_max_ms);
	if (hurry && link->retry.heap_index && link->retry.deadline_us > soon)
		loop_timer_set(link->loop, &link->retry, soon);
}

static void gone(struct redis_link *link, const char *why)
{
	link->ac = NULL;
	link->up = false;
	link->waiting = 0;
	link->errors[REDIS_ERROR_NONE]++;
	loop_timer_clear(link->loop, &link->watch);
	link->events->down(link, why);
	schedule_retry(link);
}

void redis_link_drop(struct redis_link *link, const char *why)
{
	redisAsyncContext *ac = TAKE_PTR(link->ac);
	if (!ac)
		return;
	char text[128];
	(void)snprintf(text, sizeof(text), "%s", why); /* it may live in a reply that goes with the context */
	link->up = false;
	redisAsyncFree(ac);
	gone(link, text);
}

void redis_link_end(struct redis_link *link)
{
	loop_timer_clear(link->loop, &link->retry);
	loop_timer_clear(link->loop, &link->watch);
	redisAsyncContext *ac = TAKE_PTR(link->ac);
	link->up = false;
	if (ac)
		redisAsyncFree(ac);
	sentinel_free(TAKE_PTR(link->sentinel));
}

bool redis_link_same(const struct redis_link *a, const struct redis_link *b)
{
	return !a->ac || !b->ac || (strcmp(a->node.host, b->node.host) == 0 && a->node.port == b->node.port);
}

void redis_link_good(struct redis_link *link)
{
	link->backoff_ms = REDIS_BACKOFF_MIN_MS;
}

/* ---- requests ---- */

static void answered(redisAsyncContext *ac, void *reply, void *data)
{
	struct request *request = data;
	struct redis_link *link = request->link;
	if (link->ac == ac) { /* not one whose connection was dropped meanwhile */
		link->waiting--;
		if (link->waiting)
			loop_timer_set(link->loop, &link->watch, now_us() + ANSWER_US);
		else
			loop_timer_clear(link->loop, &link->watch);
		if (reply && redis_reply_error(reply) != REDIS_ERROR_NONE)
			link->errors[redis_reply_error(reply)]++;
	}
	/* After a drop hiredis may still parse replies that came in the same read: the owner was told "lost". */
	if (request->fn)
		request->fn(request->data, link->ac == ac ? reply : NULL);
	free(request);
}

int redis_link_send(struct redis_link *link, redis_reply_fn fn, void *data, const struct redis_args *args)
{
	if (!link->ac)
		return -ENOTCONN;
	if (!redis_args_ok(args))
		return -ENOMEM;
	struct request *request = malloc(sizeof(*request));
	if (!request)
		return -ENOMEM;
	*request = (struct request){link, link->ac, fn, data};
	if (redisAsyncCommandArgv(link->ac, answered, request, (int)args->n, args->argv, args->lens) != REDIS_OK) {
		free(request);
		return -ENOTCONN;
	}
	if (!link->waiting++)
		loop_timer_set(link->loop, &link->watch, now_us() + ANSWER_US);
	return 0;
}

static void published(redisAsyncContext *ac, void *reply, void *data)
{
	struct redis_link *link = ac->data;
	if (link->ac == ac || !reply)
		link->published(link->data, reply);
}

int redis_link_subscribe(struct redis_link *link, redis_reply_fn fn, const char *channel)
{
	if (!link->ac)
		return -ENOTCONN;
	link->published = fn;
	const char *argv[] = {"SUBSCRIBE", channel};
	size_t lens[] = {9, strlen(channel)};
	if (redisAsyncCommandArgv(link->ac, published, NULL, 2, argv, lens) != REDIS_OK)
		return -ENOTCONN;
	return 0;
}

/* ---- connecting ---- */

static void shaken(struct redis_link *link)
{
	if (--link->handshake)
		return;
	link->up = true;
	link->events->up(link);
}

static void handshake_reply(void *data, const redisReply *reply)
{
	struct redis_link *link = data;
	enum redis_error kind = redis_reply_error(reply);
	if (!reply || !link->ac)
		return;
	if (kind == REDIS_ERROR_NONE) {
		shaken(link);
	} else if (kind == REDIS_ERROR_LATER || kind == REDIS_ERROR_MOVED) {
		redis_link_drop(link, redis_reply_text(reply));
	} else {
		char text[256];
		(void)snprintf(text, sizeof(text), "%s", redis_reply_text(reply));
		link->events->refused(link, text);
	}
}

/* SELECT and AUTH are served while a dump loads; PING is not, and fails as every request would. */
static void ping_reply(void *data, const redisReply *reply)
{
	struct redis_link *link = data;
	if (redis_reply_error(reply) == REDIS_ERROR_DENIED && link->ac)
		shaken(link); /* an ACL without PING is no obstacle */
	else
		handshake_reply(data, reply);
}

static void role_reply(void *data, const redisReply *reply)
{
	struct redis_link *link = data;
	if (redis_reply_error(reply) == REDIS_ERROR_NONE && !sentinel_is_master(reply) && link->ac)
		redis_link_drop(link, "the sentinels name a server that is no master (yet)");
	else
		handshake_reply(data, reply);
}

static int handshake_send(struct redis_link *link, redis_reply_fn fn, const char *verb, const char *a, const char *b)
{
	_cleanup_args_ struct redis_args args = {0};
	redis_args_str(&args, verb);
	if (a)
		redis_args_str(&args, a);
	if (b)
		redis_args_str(&args, b);
	link->handshake++;
	return redis_link_send(link, fn, link, &args);
}

static int shake_hands(struct redis_link *link)
{
	const struct redis_url *url = link->url;
	char db[16];
	int r = 0;
	link->handshake = 0;
	if (url->password[0])
		r = url->user[0] ? handshake_send(link, handshake_reply, "AUTH", url->user, url->password)
				 : handshake_send(link, handshake_reply, "AUTH", url->password, NULL);
	if (url->db) {
		(void)snprintf(db, sizeof(db), "%d", url->db);
		r = r < 0 ? r : handshake_send(link, handshake_reply, "SELECT", db, NULL);
	}
	if (url->master[0])
		r = r < 0 ? r : handshake_send(link, role_reply, "ROLE", NULL, NULL);
	return r < 0 ? r : handshake_send(link, ping_reply, "PING", NULL, NULL);
}

static void on_connect(const redisAsyncContext *ac, int status)
{
	struct redis_link *link = ac->data;
	if (link->ac != ac)
		return;
	if (status != REDIS_OK) {
		gone(link, ac->errstr && *ac->errstr ? ac->errstr : "connection refused");
		return;
	}
	if (link->node.host[0])
		(void)redisEnableKeepAlive(&link->ac->c); /* a lost peer must not hold the subscription for ever */
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
	struct redis_link *link = ac->data;
	if (link->ac == ac)
		gone(link, ac->errstr && *ac->errstr ? ac->errstr : "connection closed");
}

static void connect_node(struct redis_link *link)
{
	const struct redis_url *url = &link->node;
	redisAsyncContext *ac =
		url->path[0] ? redisAsyncConnectUnix(url->path) : redisAsyncConnect(url->host, url->port);
	if (!ac || ac->err || redis_wire_attach(link->loop, ac) < 0) {
		char why[128];
		(void)snprintf(why, sizeof(why), "%s", ac && ac->err ? ac->errstr : "out of memory");
		if (ac)
			redisAsyncFree(ac);
		gone(link, why);
		return;
	}
	link->ac = ac;
	link->waiting = 0;
	ac->data = link;
	(void)redisAsyncSetConnectCallback(ac, on_connect); /* asks for writability, hence after attach */
	(void)redisAsyncSetDisconnectCallback(ac, on_disconnect);
	if (shake_hands(link) < 0)
		redis_link_drop(link, "out of memory");
}

static void master_told(void *data, const struct redis_url *node)
{
	struct redis_link *link = data;
	if (!node) {
		gone(link, "no sentinel answers that knows the master");
		return;
	}
	link->node = *node;
	connect_node(link);
}

void redis_link_connect(struct redis_link *link)
{
	loop_timer_clear(link->loop, &link->retry);
	if (!link->url->master[0]) {
		link->node = *link->url;
		connect_node(link);
		return;
	}
	if (!link->sentinel)
		link->sentinel = sentinel_new(link->loop, link->url, master_told, link);
	if (link->sentinel)
		sentinel_ask(link->sentinel);
	else
		gone(link, "out of memory");
}

static void on_retry(struct loop_timer *timer)
{
	redis_link_connect(timer->data);
}

static void on_watch(struct loop_timer *timer)
{
	redis_link_drop(timer->data, "no answer");
}

void redis_link_init(struct redis_link *link, struct loop *loop, const struct redis_url *url,
	const struct redis_link_events *events, void *data)
{
	redis_ignore_sigpipe();
	*link = (struct redis_link){
		.loop = loop,
		.url = url,
		.events = events,
		.data = data,
		.backoff_ms = REDIS_BACKOFF_MIN_MS,
		.backoff_max_ms = REDIS_BACKOFF_MAX_MS,
		.retry = {.fn = on_retry, .data = link},
		.watch = {.fn = on_watch, .data = link},
	};
}
