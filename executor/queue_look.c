/*
 * What waits in the queue, as the worker's metrics show it: one script, asked for now and then on the commands connection.
 * Its cost grows with the tenants, so the time that it took decides when the next one may be sent. Process: petri, on the loop.
 */
#include <assert.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "executor/queue_internal.h"
#include "executor/queue_look.h"

#define LOOK_EVERY_US 2000000u
#define LOOK_SHARE 1000u

static_assert(QUEUE_REDIS_ERRORS == (int)REDIS_ERROR_MAX, "names below");

const char *queue_redis_error_name(unsigned kind)
{
	static const char *const names[QUEUE_REDIS_ERRORS] = {"connection", "later", "moved", "auth", "denied", "noscript", "nogroup", "other"};
	return kind < QUEUE_REDIS_ERRORS ? names[kind] : "?";
}

void queue_redis_errors(const struct queue *queue, uint64_t ret[QUEUE_REDIS_ERRORS])
{
	for (size_t i = 0; i < QUEUE_REDIS_ERRORS; i++)
		ret[i] = queue->commands.errors[i] + queue->fetch.errors[i] + queue->channel.errors[i];
}

const char *queue_look_name(unsigned i)
{
	static const char *const names[QUEUE_LOOKS] = {"high", "normal", "low", "worker"};
	return i < QUEUE_LOOKS ? names[i] : "?";
}

/* KEYS: high, normal, low, the worker's own, tenants, dead -> {depth, pending, oldest_ms}*4, dead, tenants */
static const char script[] = LUA_LOOK
	"local sums = {}\n"
	"for p = 1, 4 do\n"
	"  local rows = {look(KEYS[p])}\n"
	"  if p < 4 then for _, t in ipairs(names(KEYS[5])) do rows[#rows + 1] = look(KEYS[p] .. ':t:' .. t) end end\n"
	"  local sum = {0, 0, 0}\n"
	"  for _, r in ipairs(rows) do\n"
	"    sum[1], sum[2], sum[3] = sum[1] + r[2], sum[2] + r[3], math.max(sum[3], r[4])\n"
	"  end\n"
	"  sums[p] = sum\n"
	"end\n"
	"return {sums[1], sums[2], sums[3], sums[4], count('XLEN', KEYS[6]), count('SCARD', KEYS[5])}\n";

static uint64_t number(const redisReply *reply, size_t i)
{
	long long n = redis_reply_int(redis_reply_at(reply, i), 0);
	return n > 0 ? (uint64_t)n : 0;
}

static void told(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	void (*done)(void *ctx, const struct queue_look *look) = TAKE_PTR(queue->look_done);
	uint64_t now = now_us(), took = now - queue->look_sent_us;
	queue->look_next_us = now + MAX((uint64_t)LOOK_EVERY_US, took * LOOK_SHARE);
	if (queue->closing || redis_reply_error(reply) != REDIS_ERROR_NONE || !done)
		return; /* what is wrong with Redis, others say */
	struct queue_look look = {.at_us = now};
	for (size_t i = 0; i < QUEUE_LOOKS; i++) {
		const redisReply *sum = redis_reply_at(reply, i);
		look.by[i].depth = number(sum, 0);
		look.by[i].pending = number(sum, 1);
		look.by[i].oldest_us = number(sum, 2) * 1000;
	}
	look.dead = number(reply, QUEUE_LOOKS);
	look.tenants = number(reply, QUEUE_LOOKS + 1);
	done(queue->look_ctx, &look);
}

void queue_look(struct queue *queue, void (*done)(void *ctx, const struct queue_look *look), void *ctx)
{
	if (!queue->ready || queue->look_done || now_us() < queue->look_next_us)
		return;
	_cleanup_args_ struct redis_args args = {0};
	char dead[QUEUE_KEY_MAX];
	queue_key(queue, dead, "dead", "");
	redis_args_str(&args, "EVAL");
	redis_args_str(&args, script);
	redis_args_u64(&args, QUEUE_STREAMS + 2);
	for (size_t i = 0; i < QUEUE_STREAMS; i++)
		redis_args_str(&args, queue->stream[i]);
	redis_args_str(&args, queue->tenants);
	redis_args_str(&args, dead);
	queue->look_done = done;
	queue->look_ctx = ctx;
	queue->look_sent_us = now_us();
	if (redis_link_send(&queue->commands, told, queue, &args) < 0)
		queue->look_done = NULL;
}
