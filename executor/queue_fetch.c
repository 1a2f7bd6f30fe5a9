/*
 * Taking entries: one request at a time on the fetch connection, chosen anew after each reply:
 *   own    after a reconnect: what was delivered to us in replies that never came
 *   claim  every lease/3 and when somebody handed an entry back: one entry whose lease has run out
 *   fetch  new entries, as many as are wanted
 *   wait   nothing found: XREAD until there is news, a second at most
 * A claimed entry that was delivered before may be what killed its last worker. It is kept until nothing else is out,
 * then runs alone.
 */
#include <errno.h>
#include <string.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/queue_internal.h"

#define WAIT_MS "1000"

static bool may_fetch(const struct queue *queue)
{
	bool alive = queue->ready && queue->fetch.up && !queue->stopped && !queue->failed && !queue->closing;
	return alive && queue->want > 0 && !queue->accepting && !queue->isolated && !queue->fetch_retry.heap_index &&
		!outbox_stuck(queue);
}

static void emit(struct entry *entry)
{
	struct queue *queue = entry->queue;
	if (queue->want)
		queue->want--;
	queue->stats.fetched++;
	entry->emitted = true;
	entry_set_out(entry, true);
	queue->events.job(queue->ctx, &entry->pub);
}

static bool may_emit_isolated(const struct queue *queue)
{
	const struct entry *entry = queue->isolated;
	return entry && entry->state == ENTRY_HELD && queue->nout == 0 && queue->want > 0 && !queue->closing &&
		!queue->failed && !outbox_stuck(queue);
}

/* From the loop, so that no event is ever called from inside an owner's call. */
static void on_isolated(struct loop_timer *timer)
{
	struct queue *queue = timer->data;
	if (may_emit_isolated(queue))
		emit(queue->isolated);
}

/* An entry that Redis handed over: refuse it, bury it, keep it for later, or let the owner run it. */
static void accept_entry(struct queue *queue, const redisReply *packed)
{
	bool malformed, too_large;
	struct entry *old = entry_find(queue, redis_reply_text(redis_reply_at(packed, 0)),
		redis_reply_text(redis_reply_at(packed, 1)));
	if (old && (old->state == ENTRY_FINISHING || old->state == ENTRY_RELEASING))
		return; /* about to be settled, and the lease is fresh again */
	if (old)	/* ours, but we had let its lease run out: what runs is lost, the entry begins anew */
		entry_lose(old);
	struct entry *entry = entry_new(queue, packed, &malformed, &too_large);
	if (!entry) {
		log_error("redis: an entry could not be taken over, ignoring");
		return;
	}
	if (too_large)
		outbox_reject(entry, REJECT_TOO_LARGE, "a job has at most 8 MiB");
	else if (malformed)
		outbox_reject(entry, REJECT_INVALID, "the stream entry has no field `job`");
	else if (entry->pub.attempt > queue->config.max_attempts)
		outbox_bury(entry);
	else if (queue->want == 0 || (queue->isolated && queue->isolated != entry))
		queue_release(queue, &entry->pub);
	else if (entry->pub.attempt > 1)
		queue->isolated = entry; /* fetch_kick() follows, and sees to it */
	else
		emit(entry);
}

static void accept_all(struct queue *queue, const redisReply *list)
{
	queue->accepting = true; /* the rest of the list counts too: an owner's queue_want() must not fetch yet */
	for (size_t i = 0; redis_reply_at(list, i); i++)
		accept_entry(queue, redis_reply_at(list, i));
	queue->accepting = false;
}

/* ---- replies ---- */

/* Common to all: the request is over. Return: true when the reply is of use. */
static bool settle(struct queue *queue, const redisReply *reply, const char *what)
{
	queue->fetching = FETCH_IDLE;
	queue->unblock_sent = false;
	if (queue->closing || !reply)
		return false;
	enum redis_error kind = redis_reply_error(reply);
	if (kind == REDIS_ERROR_NONE) {
		queue->fetch_backoff_ms = REDIS_BACKOFF_MIN_MS;
		return true;
	}
	queue->dry = false;
	if (queue_noscript(queue, reply)) {
		fetch_kick(queue);
	} else if (kind == REDIS_ERROR_AUTH) {
		queue_fatal(queue, "%s", redis_reply_text(reply));
	} else if (kind == REDIS_ERROR_MOVED) {
		redis_link_drop(&queue->fetch, redis_reply_text(reply));
	} else {
		queue_trouble(queue, what, redis_reply_text(reply), queue->fetch_backoff_ms);
		loop_timer_set(queue->loop, &queue->fetch_retry,
			now_us() + (uint64_t)queue->fetch_backoff_ms * 1000);
		queue->fetch_backoff_ms = MIN(queue->fetch_backoff_ms * 2, REDIS_BACKOFF_MAX_MS);
	}
	return false;
}

static void keep_text(char *out, size_t cap, const redisReply *reply)
{
	if (redis_reply_is_string(reply) && reply->len < cap)
		(void)snprintf(out, cap, "%s", reply->str);
}

static void fetched(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	if (!settle(queue, reply, "fetch"))
		return;
	queue->tick = (unsigned)redis_reply_int(redis_reply_at(reply, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(queue->cursor); i++)
		keep_text(queue->cursor[i], sizeof(queue->cursor[i]), redis_reply_at(redis_reply_at(reply, 1), i));
	queue->stats.duplicates += (uint64_t)redis_reply_int(redis_reply_at(reply, 2), 0);
	const redisReply *list = redis_reply_at(reply, 3), *trouble = redis_reply_at(reply, 5);
	queue->dry = !redis_reply_at(list, 0);
	for (size_t i = 0; i < QUEUE_STREAMS; i++)
		keep_text(queue->last_id[i], sizeof(queue->last_id[i]), redis_reply_at(redis_reply_at(reply, 4), i));
	if (redis_reply_is_string(trouble)) {
		redisReply error = *trouble;
		error.type = REDIS_REPLY_ERROR;
		(void)settle(queue, &error, "fetch");
	} else {
		queue_untroubled(queue);
	}
	accept_all(queue, list);
	fetch_kick(queue);
}

static void claimed(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	if (!settle(queue, reply, "claim")) {
		queue->claim_due = true;
		return;
	}
	const redisReply *packed = redis_reply_at(reply, 0);
	queue->stats.duplicates += (uint64_t)redis_reply_int(redis_reply_at(reply, 1), 0);
	long long deleted = redis_reply_int(redis_reply_at(reply, 2), 0);
	if (deleted > 0) {
		queue->stats.lost += (uint64_t)deleted;
		log_warn("redis: %lld entries were deleted from a stream while they were leased", deleted);
	}
	if (packed && packed->type == REDIS_REPLY_ARRAY) {
		queue->claim_due = true; /* there may be more */
		queue->accepting = true;
		accept_entry(queue, packed);
		queue->accepting = false;
	}
	fetch_kick(queue);
}

static void own_told(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	if (!settle(queue, reply, "fetch")) {
		queue->own_due = true;
		return;
	}
	queue->own_due = redis_reply_at(reply, 0) != NULL; /* until nothing is left */
	accept_all(queue, reply);
	fetch_kick(queue);
}

static void woken(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	if (!settle(queue, reply, "wait for jobs"))
		return;
	queue->dry = false; /* the second is over, too: tenants' streams are not watched */
	fetch_kick(queue);
}

/* ---- requests ---- */

static void request(struct queue *queue, enum fetch_state state, redis_reply_fn fn, const struct redis_args *args)
{
	queue->fetching = state;
	queue->unblock_tries = 0;
	if (redis_link_send(&queue->fetch, fn, queue, args) < 0) {
		queue->fetching = FETCH_IDLE;
		redis_link_drop(&queue->fetch, "out of memory");
	}
}

static void ids_keys(struct queue *queue, char result[QUEUE_KEY_MAX], char cancelled[QUEUE_KEY_MAX])
{
	queue_key(queue, result, "result:", "");
	queue_key(queue, cancelled, "cancelled:", "");
}

static void send_fetch(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	char result[QUEUE_KEY_MAX], cancelled[QUEUE_KEY_MAX];
	ids_keys(queue, result, cancelled);
	queue->news = false;
	queue_script(queue, SCRIPT_FETCH, &args);
	redis_args_str(&args, queue->consumer);
	redis_args_u64(&args, queue->want);
	redis_args_u64(&args, queue->tick);
	for (size_t i = 0; i < ARRAY_SIZE(queue->cursor); i++)
		redis_args_str(&args, queue->cursor[i]);
	redis_args_u64(&args, JOB_JSON_MAX);
	redis_args_str(&args, result);
	redis_args_str(&args, cancelled);
	request(queue, FETCH_BUSY, fetched, &args);
}

static void send_claim(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	char result[QUEUE_KEY_MAX], cancelled[QUEUE_KEY_MAX];
	ids_keys(queue, result, cancelled);
	queue->claim_due = false;
	queue_script(queue, SCRIPT_CLAIM, &args);
	redis_args_str(&args, queue->consumer);
	redis_args_u64(&args, queue->config.lease_ms);
	redis_args_u64(&args, JOB_JSON_MAX);
	redis_args_str(&args, result);
	redis_args_str(&args, cancelled);
	request(queue, FETCH_BUSY, claimed, &args);
}

static void send_own(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	queue_script(queue, SCRIPT_OWN, &args);
	redis_args_str(&args, queue->consumer);
	redis_args_u64(&args, queue->want);
	redis_args_u64(&args, JOB_JSON_MAX);
	for (struct entry *e = queue->entries; e; e = e->next) {
		redis_args_str(&args, e->stream);
		redis_args_str(&args, e->entry_id);
	}
	request(queue, FETCH_BUSY, own_told, &args);
}

static void send_wait(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	redis_args_str(&args, "XREAD");
	redis_args_str(&args, "COUNT");
	redis_args_str(&args, "1");
	redis_args_str(&args, "BLOCK");
	redis_args_str(&args, WAIT_MS);
	redis_args_str(&args, "STREAMS");
	for (size_t i = 0; i < QUEUE_STREAMS; i++)
		redis_args_str(&args, queue->stream[i]);
	for (size_t i = 0; i < QUEUE_STREAMS; i++)
		redis_args_str(&args, queue->last_id[i]);
	request(queue, FETCH_WAIT, woken, &args);
}

static void unblocked(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	/* It may overtake the XREAD that it means, which goes over another connection: then once more. */
	if (redis_reply_int(reply, 1) != 0 || queue->closing || !queue->unblock_sent || queue->unblock_tries >= 100)
		return;
	queue->unblock_sent = false;
	fetch_kick(queue);
}

/* A wait takes nothing, so it needs to end only when something else is due; replies to it come as usual. */
static void end_wait(struct queue *queue)
{
	if (queue->unblock_sent || !queue->fetch_client)
		return;
	_cleanup_args_ struct redis_args args = {0};
	redis_args_str(&args, "CLIENT");
	redis_args_str(&args, "UNBLOCK");
	redis_args_u64(&args, (uint64_t)queue->fetch_client);
	if (redis_link_send(&queue->commands, unblocked, queue, &args) == 0) {
		queue->unblock_sent = true;
		queue->unblock_tries++;
	}
}

void fetch_kick(struct queue *queue)
{
	if (may_emit_isolated(queue))
		loop_timer_set(queue->loop, &queue->isolated_due, 0);
	if (!may_fetch(queue) || queue->fetching == FETCH_BUSY)
		return;
	if (queue->fetching == FETCH_WAIT) {
		if (queue->own_due || queue->claim_due || queue->news)
			end_wait(queue);
		return;
	}
	if (queue->own_due)
		send_own(queue);
	else if (queue->claim_due)
		send_claim(queue);
	else if (queue->dry && !queue->news)
		send_wait(queue);
	else
		send_fetch(queue);
}

void fetch_ring(struct queue *queue)
{
	queue->news = true;
	fetch_kick(queue);
}

void queue_want(struct queue *queue, unsigned free_slots)
{
	queue->want = queue->stopped ? 0 : free_slots;
	fetch_kick(queue);
}

void queue_stop(struct queue *queue)
{
	queue->stopped = true;
	queue->want = 0;
	if (queue->isolated && queue->isolated->state == ENTRY_HELD)
		queue_release(queue, &queue->isolated->pub);
}

/* ---- the connection ---- */

static void client_told(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	queue->fetch_client = redis_reply_int(reply, 0); /* 0 where CLIENT is denied: news then waits a second */
}

void fetch_link_up(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	redis_args_str(&args, "CLIENT");
	redis_args_str(&args, "ID");
	(void)redis_link_send(&queue->fetch, client_told, queue, &args);
	queue->dry = false;
	fetch_kick(queue);
}

void fetch_link_down(struct queue *queue)
{
	queue->fetching = FETCH_IDLE;
	queue->fetch_client = 0;
	queue->unblock_sent = false;
	queue->own_due = true;
}

static void on_fetch_retry(struct loop_timer *timer)
{
	fetch_kick(timer->data);
}

void fetch_init(struct queue *queue)
{
	queue->fetch_retry = (struct loop_timer){.fn = on_fetch_retry, .data = queue};
	queue->isolated_due = (struct loop_timer){.fn = on_isolated, .data = queue};
	queue->fetch_backoff_ms = REDIS_BACKOFF_MIN_MS;
	for (size_t i = 0; i < ARRAY_SIZE(queue->cursor); i++)
		memcpy(queue->cursor[i], "~", 2); /* after every name: begin with the first */
}
