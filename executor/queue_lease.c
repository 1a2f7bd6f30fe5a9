/*
 * Leases and the heartbeat. Every lease/3 one script renews those of our entries that Redis still shows as ours,
 * tells which are not, and which somebody wants cancelled. A job's renewal ends 60 s after its wall limit, so that a
 * worker whose job never ends does not keep it from others; until it is started, and while its result waits, an entry
 * is renewed for as long as it is held.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/queue_internal.h"

#define RENEW_EXTRA_US 60000000u
#define RENEW_BATCH 64
#define HEARTBEAT_US 5000000u
#define HEARTBEAT_TTL_MS 15000
#define BEAT_APART_US 500000u
#define LOOK_US 10000u
#define TIDY_TICKS 6
#define TIDY_IDLE_MS 3600000

struct batch {
	struct queue *queue;
	size_t n;
	bool last; /* of this renewal */
	uint64_t sent_us;
	struct entry *entries[RENEW_BATCH];
};

/* ---- start: the state key, and a last look whether the job should run at all ---- */

static void start_answered(void *data, const redisReply *reply)
{
	struct entry *entry = data;
	struct queue *queue = entry->queue;
	entry->start_sent = false;
	if (!queue->closing && entry->state == ENTRY_OUT) {
		if (queue_noscript(queue, reply)) {
			lease_start(entry);
		} else if (redis_reply_error(reply) == REDIS_ERROR_NONE) { /* else again at the next renewal */
			entry->state_written = true;
			long long answer = redis_reply_int(reply, START_OK);
			queue->stats.duplicates += answer == START_FINISHED;
			if (answer == START_CANCEL)
				entry_cancel(entry);
			else if (answer != START_OK)
				entry_lose(entry);
			fetch_kick(queue);
		}
	}
	entry_unref(entry);
}

void lease_start(struct entry *entry)
{
	struct queue *queue = entry->queue;
	if (entry->start_sent || entry->state_written || !queue->ready)
		return;
	_cleanup_args_ struct redis_args args = {0};
	char state[QUEUE_KEY_MAX], result[QUEUE_KEY_MAX], cancelled[QUEUE_KEY_MAX];
	queue_key(queue, state, "state:", entry->id);
	queue_key(queue, result, "result:", entry->id);
	queue_key(queue, cancelled, "cancelled:", entry->id);
	redis_script_begin(&queue->scripts, SCRIPT_START, 4, &args);
	redis_args_str(&args, entry->stream);
	redis_args_str(&args, state);
	redis_args_str(&args, result);
	redis_args_str(&args, cancelled);
	redis_args_str(&args, queue->consumer);
	redis_args_str(&args, entry->entry_id);
	redis_args_str(&args, queue->name);
	redis_args_u64(&args, entry->pub.attempt);
	redis_args_u64(&args, queue->config.lease_ms * 2);
	if (redis_link_send(&queue->commands, start_answered, entry, &args) == 0) {
		entry->start_sent = true;
		entry_ref(entry);
	}
}

void queue_started(struct queue *queue, struct queue_entry *pub, const char *id, uint64_t wall_limit_ms)
{
	struct entry *entry = (struct entry *)pub;
	(void)snprintf(entry->id, sizeof(entry->id), "%s", id && job_id_valid(id) ? id : entry->entry_id);
	entry->started = true;
	wall_limit_ms = MIN(wall_limit_ms, UINT64_MAX / 4000);
	entry->renew_until_us = now_us() + wall_limit_ms * 1000 + RENEW_EXTRA_US;
	/* A state key that was written when it was fetched counts only for what starts at once: it may have expired since, and
	 * whoever wanted to cancel the job meanwhile was told that it runs. */
	if (queue->emitting != entry)
		entry->state_written = false;
	if (entry->cancel_due)
		lease_look_soon(queue); /* the owner is inside a call of its own */
	lease_start(entry);
}

/* ---- renewal ---- */

static void renewed(void *data, const redisReply *reply)
{
	struct batch *batch = data;
	struct queue *queue = batch->queue;
	bool use = !queue->closing && !queue->failed && redis_reply_error(reply) == REDIS_ERROR_NONE;
	for (size_t i = 0; i < batch->n; i++) {
		struct entry *entry = batch->entries[i];
		long long answer = redis_reply_int(redis_reply_at(reply, i), 1);
		if (!use || (entry->state != ENTRY_OUT && entry->state != ENTRY_HELD))
			; /* or its result is on its way: that script settles it */
		else if (answer == 0)
			entry_lose(entry);
		else if (answer == 2)
			entry_cancel(entry);
		entry_unref(entry);
	}
	if (queue_noscript(queue, reply))
		lease_renew_now(queue);
	else if (redis_reply_error(reply) == REDIS_ERROR_MOVED && !queue->closing)
		redis_link_drop(&queue->commands, redis_reply_text(reply));
	else if (reply && !use)
		queue_trouble(queue, "renew leases", redis_reply_text(reply), (unsigned)(queue->config.lease_ms / 3));
	else if (batch->last && use)
		queue->renewed_us = batch->sent_us;
	free(batch);
	if (use)
		fetch_kick(queue);
}

static void send_batch(struct queue *queue, struct batch *batch)
{
	_cleanup_args_ struct redis_args args = {0};
	char state[QUEUE_KEY_MAX], cancelled[QUEUE_KEY_MAX];
	queue_key(queue, state, "state:", "");
	queue_key(queue, cancelled, "cancelled:", "");
	redis_script_begin(&queue->scripts, SCRIPT_RENEW, (unsigned)batch->n, &args);
	for (size_t i = 0; i < batch->n; i++)
		redis_args_str(&args, batch->entries[i]->stream);
	redis_args_str(&args, queue->consumer);
	redis_args_u64(&args, queue->config.lease_ms * 2);
	redis_args_str(&args, state);
	redis_args_str(&args, cancelled);
	for (size_t i = 0; i < batch->n; i++) {
		const struct entry *entry = batch->entries[i];
		redis_args_str(&args, entry->entry_id);
		redis_args_str(&args, entry->state == ENTRY_OUT && entry->started ? entry->id : "");
	}
	if (redis_link_send(&queue->commands, renewed, batch, &args) == 0)
		return;
	for (size_t i = 0; i < batch->n; i++)
		entry_unref(batch->entries[i]);
	free(batch);
}

void lease_renew_now(struct queue *queue)
{
	uint64_t now = now_us();
	struct entry *e = queue->entries;
	if (!e)
		queue->renewed_us = now;
	while (e) {
		struct batch *batch = calloc(1, sizeof(*batch));
		if (!batch)
			return;
		batch->queue = queue;
		batch->sent_us = now;
		for (; e && batch->n < RENEW_BATCH; e = e->next) {
			if (e->state == ENTRY_OUT && e->renew_until_us && now > e->renew_until_us)
				continue;
			if (e->spooled && !e->emitted)
				continue; /* an earlier life's: the lease is another consumer's */
			if (e->state == ENTRY_OUT && e->started)
				lease_start(e); /* where that has not come through yet */
			entry_ref(e);
			batch->entries[batch->n++] = e;
		}
		batch->last = !e;
		send_batch(queue, batch);
	}
}

static void on_look(struct loop_timer *timer)
{
	struct queue *queue = timer->data;
	if (queue->ready)
		lease_renew_now(queue);
	if (queue->fetching == FETCH_BUSY && queue->requests == queue->look_request)
		loop_timer_set(queue->loop, timer, now_us() + LOOK_US);
}

void lease_look_soon(struct queue *queue)
{
	queue->look_request = queue->requests;
	if (!queue->look.heap_index)
		loop_timer_set(queue->loop, &queue->look, now_us() + LOOK_US);
}

static void send_tidy(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	char worker[QUEUE_KEY_MAX], workers[QUEUE_KEY_MAX], own[QUEUE_KEY_MAX];
	queue_key(queue, worker, "worker:", "");
	queue_key(queue, workers, "workers", "");
	queue_key(queue, own, "jobs:worker:", "");
	queue_script(queue, SCRIPT_TIDY, &args);
	redis_args_u64(&args, TIDY_IDLE_MS);
	redis_args_str(&args, workers);
	redis_args_str(&args, worker);
	redis_args_str(&args, own);
	(void)redis_link_send(&queue->commands, NULL, NULL, &args);
}

static void on_lease(struct loop_timer *timer)
{
	struct queue *queue = timer->data;
	loop_timer_set(queue->loop, timer, now_us() + queue->config.lease_ms * 1000 / 3);
	if (!queue->ready)
		return;
	lease_renew_now(queue);
	if (queue->ticks++ % TIDY_TICKS == 0)
		send_tidy(queue);
}

/* ---- heartbeat ---- */

static void heartbeat_pair(struct redis_args *args, const char *name, const char *value)
{
	redis_args_str(args, name);
	redis_args_str(args, value);
}

static void heartbeat_number(struct redis_args *args, const char *name, uint64_t value)
{
	redis_args_str(args, name);
	redis_args_u64(args, value);
}

/* An idle worker writes nothing else, and would not notice that its server is a replica now. */
static void heartbeat_told(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	if (reply && redis_reply_error(reply) == REDIS_ERROR_MOVED && !queue->closing)
		redis_link_drop(&queue->commands, redis_reply_text(reply));
}

static void send_heartbeat(struct queue *queue)
{
	_cleanup_args_ struct redis_args set = {0}, expire = {0}, add = {0};
	char key[QUEUE_KEY_MAX], all[QUEUE_KEY_MAX];
	struct queue_stats stats;
	if (queue->events.beat)
		queue->events.beat(queue->ctx);
	queue_stats(queue, &stats);
	queue_key(queue, key, "worker:", queue->name);
	queue_key(queue, all, "workers", "");
	redis_args_str(&set, "HSET");
	redis_args_str(&set, key);
	heartbeat_pair(&set, "consumer", queue->consumer);
	heartbeat_number(&set, "slots", queue->config.slots);
	heartbeat_number(&set, "running", queue->beat.running);
	heartbeat_number(&set, "ready", queue->beat.ready);
	heartbeat_number(&set, "busy", queue->beat.busy);
	heartbeat_number(&set, "stamping", queue->beat.stamping);
	heartbeat_number(&set, "retired", queue->beat.retired);
	heartbeat_number(&set, "done", queue->beat.done);
	heartbeat_number(&set, "done_per_min", queue->beat.done_per_min);
	heartbeat_number(&set, "placed", queue->beat.placed);
	heartbeat_number(&set, "warm", queue->beat.warm);
	heartbeat_number(&set, "held", stats.undelivered);
	heartbeat_pair(&set, "state", queue->beat.stopping ? "stopping" : "running");
	heartbeat_number(&set, "fetched", queue->stats.fetched);
	heartbeat_number(&set, "duplicates", queue->stats.duplicates);
	heartbeat_number(&set, "lost", queue->stats.lost);
	heartbeat_number(&set, "dead", queue->stats.dead);
	heartbeat_pair(&set, "images", queue->images ? queue->images : "");
	heartbeat_pair(&set, "limits", queue->limits ? queue->limits : "");
	redis_args_str(&expire, "PEXPIRE");
	redis_args_str(&expire, key);
	redis_args_u64(&expire, HEARTBEAT_TTL_MS);
	redis_args_str(&add, "SADD"); /* so that nobody has to search all keys for workers */
	redis_args_str(&add, all);
	redis_args_str(&add, queue->name);
	(void)redis_link_send(&queue->commands, heartbeat_told, queue, &set);
	if (queue->config.max_queue) { /* without a TTL: when all workers are away it matters most */
		_cleanup_args_ struct redis_args bound = {0};
		char name[QUEUE_KEY_MAX];
		queue_key(queue, name, "max_queue", "");
		redis_args_str(&bound, "SET");
		redis_args_str(&bound, name);
		redis_args_u64(&bound, queue->config.max_queue);
		(void)redis_link_send(&queue->commands, NULL, NULL, &bound);
	}
	(void)redis_link_send(&queue->commands, NULL, NULL, &expire);
	(void)redis_link_send(&queue->commands, NULL, NULL, &add);
}

static void on_heartbeat(struct loop_timer *timer)
{
	struct queue *queue = timer->data;
	queue->beat_us = now_us();
	loop_timer_set(queue->loop, timer, now_us() + (queue->ready ? HEARTBEAT_US : HEARTBEAT_US / 50));
	if (queue->ready)
		send_heartbeat(queue);
}

void lease_beat_soon(struct queue *queue)
{
	uint64_t at = MAX(now_us(), queue->beat_us + BEAT_APART_US);
	if (queue->ready && at < queue->heartbeat.deadline_us)
		loop_timer_set(queue->loop, &queue->heartbeat, at);
}

void queue_heartbeat(struct queue *queue, const struct queue_beat *beat)
{
	queue->beat = *beat;
}

void queue_describe(struct queue *queue, const char *images, const char *limits)
{
	free(queue->images);
	free(queue->limits);
	queue->images = images ? strdup(images) : NULL;
	queue->limits = limits ? strdup(limits) : NULL;
}

void lease_init(struct queue *queue)
{
	uint64_t now = now_us();
	queue->lease = (struct loop_timer){.fn = on_lease, .data = queue};
	queue->heartbeat = (struct loop_timer){.fn = on_heartbeat, .data = queue};
	queue->look = (struct loop_timer){.fn = on_look, .data = queue};
	loop_timer_set(queue->loop, &queue->lease, now + queue->config.lease_ms * 1000 / 3);
	loop_timer_set(queue->loop, &queue->heartbeat, now + HEARTBEAT_US / 50);
}
