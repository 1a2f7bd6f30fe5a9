/*
 * What must reach Redis: results, and hand-backs. Each stays here, and is sent again after every error and every
 * reconnect, until Redis has confirmed it. The scripts are idempotent: a result that is there stays (SET NX), an entry
 * that is not ours any more is left alone. While something here has failed once, nothing is fetched.
 *
 * No more than a window of bytes is on its way at a time: hiredis moves all that is left to be written with every write.
 * After an error one request goes first, and the others when it has come through.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/queue_internal.h"

#define DEAD_JOB_MAX (256u << 10) /* petri:dead keeps 1000 entries; a longer job is left out of it */

#define BEHIND_MIN 64u
#define BEHIND_BYTES (64u << 20)
#define WINDOW_BYTES (1u << 20)
#define RETRY_MAX_MS 250u /* a probe is one request */

static bool waits(const struct entry *entry)
{
	return entry->state == ENTRY_FINISHING || entry->state == ENTRY_RELEASING;
}

bool outbox_stuck(const struct queue *queue)
{
	return queue->nfailed > 0;
}

/* Else a worker whose jobs end faster than Redis takes their results would hold ever more of them. */
bool outbox_behind(const struct queue *queue)
{
	return queue->nwaiting > MAX(queue->config.slots, (unsigned)BEHIND_MIN) || queue->waiting_bytes > BEHIND_BYTES;
}

static void weigh(struct entry *entry)
{
	entry->weight = sizeof(*entry) + entry->pub.json_len + (entry->result ? strlen(entry->result) : 0);
}

/* ---- those that are to be sent, in the order in which they came ---- */

static void line_up(struct entry *entry)
{
	struct queue *queue = entry->queue;
	entry->lined_up = true;
	entry->after = NULL;
	entry->before = queue->line_end;
	*(entry->before ? &entry->before->after : &queue->line) = entry;
	queue->line_end = entry;
}

void outbox_forget(struct entry *entry)
{
	struct queue *queue = entry->queue;
	if (!entry->lined_up)
		return;
	entry->lined_up = false;
	*(entry->before ? &entry->before->after : &queue->line) = entry->after;
	*(entry->after ? &entry->after->before : &queue->line_end) = entry->before;
}

/* ---- answers ---- */

static void delivered(struct entry *entry, const redisReply *reply)
{
	struct queue *queue = entry->queue;
	queue->probing = false;
	bool finishing = entry->state == ENTRY_FINISHING;
	queue->outbox_backoff_ms = REDIS_BACKOFF_MIN_MS;
	entry->pub.finish_us = now_us() - entry->finishing_us;
	queue->stats.handed_back += !finishing;
	if (finishing && redis_reply_int(reply, 1) == 0)
		queue->stats.duplicates++; /* somebody else's result came first, or ours did and its reply was lost */
	else if (finishing && entry->dead)
		queue->stats.dead++;
	/* Left first: the owner may ask queue_drained() there, and is not told again. */
	entry_ref(entry);
	entry_leave(entry);
	if (finishing && entry->emitted)
		queue->events.finished(queue->ctx, &entry->pub);
	entry_unref(entry);
	queue_untroubled(queue);
	fetch_kick(queue);
}

static void answered(void *data, const redisReply *reply)
{
	struct entry *entry = data;
	struct queue *queue = entry->queue;
	enum redis_error kind = redis_reply_error(reply);
	queue->outbox_bytes -= entry->sent_bytes;
	entry->sent_bytes = 0;
	if (queue->closing || !waits(entry)) {
		;
	} else if (kind == REDIS_ERROR_NONE) {
		delivered(entry, reply);
	} else if (queue_noscript(queue, reply)) {
		line_up(entry);
	} else {
		line_up(entry);
		entry_failed(entry); /* without a connection it goes out when there is one */
		if (kind == REDIS_ERROR_MOVED) {
			redis_link_drop(&queue->commands, redis_reply_text(reply));
		} else if (reply && !queue->outbox_retry.heap_index) {
			queue_trouble(queue, "write a result", redis_reply_text(reply), queue->outbox_backoff_ms);
			loop_timer_set(queue->loop, &queue->outbox_retry,
				now_us() + (uint64_t)queue->outbox_backoff_ms * 1000);
			queue->outbox_backoff_ms = MIN(queue->outbox_backoff_ms * 2, RETRY_MAX_MS);
		}
	}
	entry_unref(entry);
	outbox_flush(queue);
}

size_t outbox_dead_job(const struct entry *entry)
{
	return entry->dead && entry->pub.json_len <= DEAD_JOB_MAX ? entry->pub.json_len : 0;
}

/* Left by an earlier life, so long ago that its result may have been written, read and forgotten. */
static bool stale(const struct entry *entry)
{
	return !entry->emitted && entry->spooled && wall_ms() - entry->made_ms > entry->queue->config.result_ttl_ms;
}

static void finish_args(struct entry *entry, struct redis_args *args, char keys[6][QUEUE_KEY_MAX])
{
	struct queue *queue = entry->queue;
	queue_key(queue, keys[0], "result:", entry->id);
	queue_key(queue, keys[1], "done:", entry->id);
	queue_key(queue, keys[2], "state:", entry->id);
	queue_key(queue, keys[3], "cancelled:", entry->id);
	queue_key(queue, keys[4], "results:", entry->reply ? entry->reply : "");
	queue_key(queue, keys[5], "dead", "");
	redis_script_begin(&queue->scripts, SCRIPT_FINISH, 7, args);
	redis_args_str(args, entry->stream);
	for (size_t i = 0; i < 6; i++)
		redis_args_str(args, keys[i]);
	redis_args_str(args, entry->entry_id);
	redis_args_str(args, entry->result);
	redis_args_u64(args, queue->config.result_ttl_ms);
	redis_args_str(args, entry->id);
	redis_args_str(args, entry->status);
	redis_args_str(args, entry->meta ? entry->meta : "null");
	redis_args_str(args, entry->reply ? "1" : "0");
	redis_args_str(args, entry->dead ? "1" : "0");
	redis_args_add(args, entry->pub.json, outbox_dead_job(entry));
	redis_args_u64(args, entry->dead ? entry->pub.attempt - 1 : entry->pub.attempt);
	redis_args_str(args, entry->last_consumer ? entry->last_consumer : "");
	redis_args_str(args, entry->dead ? "too many attempts: each worker that had the job vanished" : "");
	redis_args_str(args, stale(entry) ? "1" : "0");
}

/* Return: false when nothing can be sent now. */
static bool send_entry(struct entry *entry)
{
	struct queue *queue = entry->queue;
	_cleanup_args_ struct redis_args args = {0};
	char keys[6][QUEUE_KEY_MAX];
	if (entry->state == ENTRY_FINISHING) {
		finish_args(entry, &args, keys);
	} else {
		queue_key(queue, keys[0], "state:", entry->id[0] ? entry->id : entry->entry_id);
		queue_key(queue, keys[1], "looked", "");
		redis_script_begin(&queue->scripts, SCRIPT_RELEASE, 3, &args);
		redis_args_str(&args, entry->stream);
		redis_args_str(&args, keys[0]);
		redis_args_str(&args, keys[1]);
		redis_args_str(&args, queue->consumer);
		redis_args_str(&args, entry->entry_id);
		redis_args_u64(&args, entry->pub.attempt - !entry->ran);
		redis_args_str(&args, queue->bell);
	}
	if (redis_link_send(&queue->commands, answered, entry, &args) < 0) {
		entry_failed(entry);
		if (!queue->outbox_retry.heap_index)
			loop_timer_set(queue->loop, &queue->outbox_retry, now_us() + REDIS_BACKOFF_MIN_MS * 1000);
		return false;
	}
	outbox_forget(entry);
	entry->sent_bytes = 1 + (entry->result ? strlen(entry->result) : 0);
	queue->outbox_bytes += entry->sent_bytes;
	entry_ref(entry);
	return true;
}

/* Nothing is freed here: replies come later. */
void outbox_flush(struct queue *queue)
{
	size_t window = queue->probing ? 1 : WINDOW_BYTES;
	while (queue->line && queue->ready && !queue->closing && !queue->outbox_retry.heap_index && queue->outbox_bytes < window)
		if (!send_entry(queue->line))
			return;
}

static void post(struct entry *entry, enum entry_state state)
{
	weigh(entry);
	entry_set_state(entry, state);
	entry->finishing_us = now_us();
	if (!entry->queue->ready)
		entry_failed(entry);
	if (state == ENTRY_FINISHING) {
		entry->made_ms = wall_ms();
		spool_wait(entry->queue);
	}
	line_up(entry);
	if (!entry->queue->ready)
		redis_link_hurry(&entry->queue->commands, true);
	outbox_flush(entry->queue);
	fetch_kick(entry->queue); /* an isolated one may have waited for this */
}

static void remember_id(struct entry *entry, const char *id)
{
	bool usable = id && job_id_valid(id);
	(void)snprintf(entry->id, sizeof(entry->id), "%s", usable ? id : entry->entry_id);
}

void queue_finish(struct queue *queue, struct queue_entry *pub, const char *id, const char *result_json,
	const char *reply, const char *status, const char *meta_json)
{
	struct entry *entry = (struct entry *)pub;
	remember_id(entry, id);
	entry->result = strdup(result_json);
	entry->reply = reply && job_id_valid(reply) ? strdup(reply) : NULL;
	entry->meta = meta_json ? strdup(meta_json) : NULL;
	(void)snprintf(entry->status, sizeof(entry->status), "%s", status);
	if (!entry->result) { /* the lease runs out, and somebody with memory runs it again */
		log_error("queue: out of memory for a result job=\"%s\"", entry->id);
		entry_leave(entry);
		return;
	}
	post(entry, ENTRY_FINISHING);
}

void queue_release(struct queue *queue, struct queue_entry *pub, bool ran)
{
	struct entry *entry = (struct entry *)pub;
	entry->ran = ran;
	if (queue->isolated == entry)
		queue->isolated = NULL;
	post(entry, ENTRY_RELEASING);
}

/* ---- results that the queue itself makes ---- */

static void settle(struct entry *entry, struct result *result, const char *id, const char *reply)
{
	struct queue *queue = entry->queue;
	_cleanup_free_ char *meta = result->meta ? json_dumps(result->meta, JSON_COMPACT) : NULL;
	(void)snprintf(result->id, sizeof(result->id), "%s", id);
	(void)snprintf(result->worker, sizeof(result->worker), "%.127s", queue->name);
	result->attempt = entry->pub.attempt;
	result->timing.queued_us = entry->pub.queued_us;
	_cleanup_free_ char *json = result_json(result);
	if (!json) {
		log_error("queue: out of memory for a result job=\"%s\"", id);
		entry_leave(entry);
		return;
	}
	queue_finish(queue, &entry->pub, id, json, reply, job_status_name(result->status), meta);
}

void outbox_reject(struct entry *entry, enum reject_reason reason, const char *message)
{
	struct result result = {.status = STATUS_REJECTED, .reject = {.reason = reason}};
	(void)snprintf(result.message, sizeof(result.message), "%s", message);
	(void)snprintf(result.reject.message, sizeof(result.reject.message), "%s", message);
	(void)snprintf(result.reject.field, sizeof(result.reject.field), "job");
	entry->queue->stats.refused++;
	settle(entry, &result, entry->id_field ? entry->id_field : entry->entry_id, NULL);
}

void outbox_bury(struct entry *entry)
{
	struct result result = {.status = STATUS_INTERNAL_ERROR};
	struct job job;
	struct reject reject;
	(void)snprintf(result.message, sizeof(result.message),
		"given up after %u attempts: each worker that had the job vanished", entry->pub.attempt - 1);
	if (job_parse(entry->pub.json, entry->pub.json_len, NULL, &job, &reject) < 0) {
		job_clear(&job); /* no memory: the result goes out under the ids that are known */
		job_init(&job);
	}
	const char *id = entry->id_field ? entry->id_field : job.id[0] ? job.id
								       : entry->entry_id;
	log_error("queue: job given up id=\"%s\" attempts=%u last_consumer=\"%s\"", id, entry->pub.attempt - 1,
		entry->last_consumer ? entry->last_consumer : "");
	result.meta = job.meta; /* borrowed */
	entry->dead = true;
	settle(entry, &result, id, job.reply);
	job_clear(&job);
}

static void on_outbox_retry(struct loop_timer *timer)
{
	struct queue *queue = timer->data;
	queue->probing = true;
	outbox_flush(queue);
}

void outbox_restore(struct entry *entry)
{
	weigh(entry);
	entry_set_state(entry, ENTRY_FINISHING);
	entry_failed(entry); /* nothing is fetched before it is where it belongs */
	line_up(entry);
}

void outbox_init(struct queue *queue)
{
	queue->outbox_retry = (struct loop_timer){.fn = on_outbox_retry, .data = queue};
	queue->outbox_backoff_ms = REDIS_BACKOFF_MIN_MS;
}
