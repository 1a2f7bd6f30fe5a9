/*
 * One connection to Redis on the event loop: connects, authenticates, reconnects with backoff, and notices a server
 * that does not answer. Requests are not kept across connections: each gets its reply or NULL, and its owner
 * decides what to do again.
 */
#pragma once

#include <hiredis/async.h>
#include <stdbool.h>
#include <stdint.h>

#include "executor/loop.h"
#include "executor/queue.h"
#include "executor/redis_args.h"
#include "executor/redis_reply.h"

struct redis_link;
struct sentinel;

/* reply: NULL when the connection was lost before it came; whether Redis did the work is then unknown. */
typedef void (*redis_reply_fn)(void *data, const redisReply *reply);

struct redis_link_events {
	void (*up)(struct redis_link *link);			       /* ready for requests */
	void (*down)(struct redis_link *link, const char *why);	       /* every request had its NULL, or will at once */
	void (*refused)(struct redis_link *link, const char *message); /* credentials or database refused */
};

struct redis_link {
	struct loop *loop;
	const struct redis_url *url;
	struct redis_url node;	   /* whom it talks to: the url, or the master that a sentinel named */
	struct sentinel *sentinel; /* NULL until one was asked for */
	const struct redis_link_events *events;
	void *data; /* the owner's */
	redis_reply_fn published;
	redisAsyncContext *ac;
	bool up;
	unsigned handshake;  /* replies that must come before up */
	unsigned waiting;    /* requests without a reply */
	unsigned backoff_ms; /* of the attempt that comes next */
	unsigned backoff_max_ms;
	uint64_t errors[REDIS_ERROR_MAX]; /* answers, by kind; at REDIS_ERROR_NONE the connections that were lost or refused */
	struct loop_timer retry, watch;
};

#define REDIS_BACKOFF_MIN_MS 100
#define REDIS_BACKOFF_MAX_MS 5000
#define REDIS_BACKOFF_HURRY_MS 250

/* redis_link_init - nothing happens before redis_link_connect(). */
void redis_link_init(struct redis_link *link, struct loop *loop, const struct redis_url *url,
	const struct redis_link_events *events, void *data);
void redis_link_connect(struct redis_link *link);
/* redis_link_good - the connection serves its purpose: the backoff begins anew. */
void redis_link_good(struct redis_link *link);
/* redis_link_same - do both talk to the same server? True as well where one does not talk at all. */
bool redis_link_same(const struct redis_link *a, const struct redis_link *b);
/* redis_link_hurry - whether something waits for it: then it tries again more often. */
void redis_link_hurry(struct redis_link *link, bool hurry);
/* redis_link_drop - close and connect again after the backoff. */
void redis_link_drop(struct redis_link *link, const char *why);
/* redis_link_end - close; pending requests get NULL. Not from inside a callback of the link. */
void redis_link_end(struct redis_link *link);

/* redis_link_send - queue one request. @fn: may be NULL. Return: 0, -ENOTCONN or -ENOMEM (fn is then not called). */
int redis_link_send(struct redis_link *link, redis_reply_fn fn, void *data, const struct redis_args *args);
/* redis_link_subscribe - fn (the same for every channel) for each message, and NULL when the connection ends. */
int redis_link_subscribe(struct redis_link *link, redis_reply_fn fn, const char *channel);
