/* A blocking connection to Redis that connects again by itself. */
#pragma once

#include <hiredis/hiredis.h>

#include "executor/queue.h"
#include "executor/redis_args.h"
#include "executor/redis_reply.h"

struct redis_sync {
	struct redis_url url;
	redisContext *context; /* NULL: lost; the next request connects */
};

/* redis_sync_open - connect and authenticate. Messages name the address, never the password. */
int redis_sync_open(struct redis_sync *sync, const struct redis_url *url, struct err *err);
void redis_sync_close(struct redis_sync *sync);
void redis_sync_drop(struct redis_sync *sync);
/*
 * redis_sync_args - one request. @ret: freeReplyObject(); never an error reply.
 * Return: 0; -ECONNRESET when the server cannot be reached or was lost (whether it did the work is then unknown),
 * or refuses for now (LOADING, OOM …); -EACCES for credentials; -EIO for any other error it answers.
 */
int redis_sync_args(struct redis_sync *sync, const struct redis_args *args, redisReply **ret, struct err *err);
int redis_sync_words(struct redis_sync *sync, const char *const *words, size_t n, redisReply **ret, struct err *err);
