/*
 * Where is the master? Asked of Redis Sentinel (sentinel://host:port,host:port/name), one after another, beginning with the
 * one that answered last. What they say is a hint: whoever connects there checks with ROLE that it is a master.
 */
#pragma once

#include <hiredis/hiredis.h>

#include "base/err.h"
#include "executor/loop.h"
#include "executor/queue.h"
#include "executor/redis_reply.h"

/* sentinel_node - the i-th of url's sentinels, as a Redis without credentials. Return: 0, or -ENOENT past the last. */
int sentinel_node(const struct redis_url *url, unsigned i, struct redis_url *ret);
/* sentinel_answer - what SENTINEL get-master-addr-by-name said. Return: false when it names no address. */
bool sentinel_answer(const redisReply *reply, struct redis_url *ret);
/* sentinel_is_master - what ROLE said. */
bool sentinel_is_master(const redisReply *reply);

struct sentinel;
/* node: the master's address, without credentials; NULL when none of them knows it. From the loop. */
typedef void (*sentinel_fn)(void *data, const struct redis_url *node);

/* sentinel_new - @url stays the caller's, and must live as long. NULL without memory. */
struct sentinel *sentinel_new(struct loop *loop, const struct redis_url *url, sentinel_fn fn, void *data);
/* sentinel_ask - fn is called once, a second for each sentinel later at most. Nothing when it is asking already. */
void sentinel_ask(struct sentinel *sentinel);
/* sentinel_stop - fn is not called any more. */
void sentinel_stop(struct sentinel *sentinel);
void sentinel_free(struct sentinel *sentinel);
