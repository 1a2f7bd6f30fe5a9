/* Asking sentinels for the master (process: petri, on the event loop). One at a time, over a connection for this one question,
 * which may take a second; then the next. */
#include "executor/sentinel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "executor/redis_link.h"

#define PATIENCE_US 1000000u

struct sentinel {
	struct loop *loop;
	const struct redis_url *url;
	sentinel_fn fn;
	void *data;
	struct redis_url node, found; /* who is asked; what it said */
	struct redis_link link;
	struct loop_timer next, patience; /* next: from outside the link's own calls */
	unsigned at, asked;
	bool asking, open, good;
};

int sentinel_node(const struct redis_url *url, unsigned i, struct redis_url *ret)
{
	const char *text = url->sentinels;
	char one[300], whole[320];
	for (; i && text; i--) {
		text = strchr(text, ',');
		text = text ? text + 1 : NULL;
	}
	if (!text || !*text)
		return -ENOENT;
	size_t len = strcspn(text, ",");
	if (len >= sizeof(one))
		return -ENOENT;
	memcpy(one, text, len);
	one[len] = '\0';
	(void)snprintf(whole, sizeof(whole), "redis://%s", one);
	return redis_url_parse(whole, false, ret, NULL) < 0 ? -ENOENT : 0;
}

bool sentinel_answer(const redisReply *reply, struct redis_url *ret)
{
	const redisReply *host = redis_reply_at(reply, 0);
	long long port = redis_reply_int(redis_reply_at(reply, 1), 0);
	if (!redis_reply_is_string(host) || host->len == 0 || (size_t)host->len >= sizeof(ret->host) || port < 1 || port > 65535)
		return false;
	*ret = (struct redis_url){.port = (int)port};
	memcpy(ret->host, host->str, host->len);
	return strlen(ret->host) == (size_t)host->len;
}

bool sentinel_is_master(const redisReply *reply)
{
	return strcmp(redis_reply_text(redis_reply_at(reply, 0)), "master") == 0;
}

/* This one has said what it will say. */
static void conclude(struct sentinel *s, bool good)
{
	if (!s->open)
		return;
	s->open = false;
	s->good = good;
	loop_timer_set(s->loop, &s->next, 0);
}

static void told(void *data, const redisReply *reply)
{
	struct sentinel *s = data;
	if (s->open)
		conclude(s, sentinel_answer(reply, &s->found));
}

static void up(struct redis_link *link)
{
	struct sentinel *s = link->data;
	_cleanup_args_ struct redis_args args = {0};
	redis_args_str(&args, "SENTINEL");
	redis_args_str(&args, "get-master-addr-by-name");
	redis_args_str(&args, s->url->master);
	if (redis_link_send(link, told, s, &args) < 0)
		conclude(s, false);
}

static void down(struct redis_link *link, const char *why)
{
	conclude(link->data, false);
}

static void ask_one(struct sentinel *s)
{
	static const struct redis_link_events events = {up, down, down};
	if (sentinel_node(s->url, s->at, &s->node) < 0) {
		s->at = 0;
		(void)sentinel_node(s->url, 0, &s->node);
	}
	s->open = true;
	s->good = false;
	redis_link_init(&s->link, s->loop, &s->node, &events, s);
	loop_timer_set(s->loop, &s->patience, now_us() + PATIENCE_US);
	redis_link_connect(&s->link);
}

static void on_patience(struct loop_timer *timer)
{
	conclude(timer->data, false);
}

static void on_next(struct loop_timer *timer)
{
	struct sentinel *s = timer->data;
	struct redis_url ignored;
	loop_timer_clear(s->loop, &s->patience);
	redis_link_end(&s->link);
	if (s->good) {
		s->asking = false;
		s->fn(s->data, &s->found);
		return;
	}
	s->at++;
	if (sentinel_node(s->url, ++s->asked, &ignored) == 0) {
		ask_one(s);
		return;
	}
	s->asking = false;
	s->fn(s->data, NULL);
}

struct sentinel *sentinel_new(struct loop *loop, const struct redis_url *url, sentinel_fn fn, void *data)
{
	struct sentinel *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	*s = (struct sentinel){.loop = loop, .url = url, .fn = fn, .data = data};
	s->next = (struct loop_timer){.fn = on_next, .data = s};
	s->patience = (struct loop_timer){.fn = on_patience, .data = s};
	return s;
}

void sentinel_ask(struct sentinel *s)
{
	if (s->asking)
		return;
	s->asking = true;
	s->asked = 0;
	ask_one(s);
}

void sentinel_stop(struct sentinel *s)
{
	if (!s || !s->asking)
		return;
	s->asking = s->open = false;
	loop_timer_clear(s->loop, &s->next);
	loop_timer_clear(s->loop, &s->patience);
	redis_link_end(&s->link);
}

void sentinel_free(struct sentinel *s)
{
	sentinel_stop(s);
	free(s);
}
