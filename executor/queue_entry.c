/* The entries a worker holds: made from what Redis handed over, owned by the queue, freed when neither the list nor
 * a request under way refers to them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/queue_internal.h"

static void entry_free(struct entry *entry)
{
	free(entry->stream);
	free(entry->json);
	free(entry->id_field);
	free(entry->last_consumer);
	free(entry->result);
	free(entry->reply);
	free(entry->meta);
	free(entry);
}

/* With a NUL behind it; there may be others inside, for jobs are bytes. */
static char *copy_bytes(const char *bytes, size_t len)
{
	char *text = malloc(len + 1); /* a length that wraps around cannot have been received */
	if (text) {
		memcpy(text, bytes, len);
		text[len] = 0;
	}
	return text;
}

static char *copy(const redisReply *reply)
{
	return redis_reply_is_string(reply) ? copy_bytes(reply->str, reply->len) : NULL;
}

/* "1700000000000-0": whole milliseconds of Redis' clock, so up to a millisecond is added to what it really was. */
static uint64_t queued_us(const char *entry_id)
{
	uint64_t added = strtoull(entry_id, NULL, 10), now = wall_us();
	if (added == 0 || added > UINT64_MAX / 1000)
		return 0;
	return now > added * 1000 ? now - added * 1000 : 0;
}

/* Ids of one millisecond differ in their last digits only. */
static struct entry **bucket_of(struct queue *queue, const char *entry_id)
{
	uint32_t hash = 2166136261u;
	for (const char *c = entry_id; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 16777619u;
	return &queue->bucket[(hash ^ hash >> 16) % QUEUE_BUCKETS];
}

static void link_in(struct queue *queue, struct entry *entry)
{
	struct entry **bucket = bucket_of(queue, entry->entry_id);
	entry->chain = *bucket;
	*bucket = entry;
	entry->next = queue->entries;
	if (entry->next)
		entry->next->prev = entry;
	queue->entries = entry;
}

struct entry *entry_new(struct queue *queue, const redisReply *packed, bool *ret_malformed, bool *ret_too_large)
{
	const redisReply *stream = redis_reply_at(packed, 0), *id = redis_reply_at(packed, 1),
			 *field = redis_reply_at(packed, 2), *job = redis_reply_at(packed, 3);
	long long bytes = redis_reply_int(redis_reply_at(packed, 4), 0);
	if (!redis_reply_is_string(stream) || !redis_reply_is_string(id))
		return NULL;
	struct entry *entry = calloc(1, sizeof(*entry));
	if (!entry)
		return NULL;
	entry->queue = queue;
	entry->stream = copy(stream);
	entry->json = copy(job);
	/* An id with a NUL inside would read as another, shorter one: it is not usable. */
	if (redis_reply_is_string(field) && strlen(field->str) == (size_t)field->len && job_id_valid(field->str))
		entry->id_field = copy(field);
	entry->last_consumer = copy(redis_reply_at(packed, 6));
	if (entry->id_field)
		(void)snprintf(entry->id, sizeof(entry->id), "%s", entry->id_field);
	long long begun = redis_reply_int(redis_reply_at(packed, 7), -1);
	entry->state_written = begun >= 0;
	entry->cancel_due = begun == START_CANCEL;
	*ret_too_large = !entry->json && bytes > 0;
	*ret_malformed = !redis_reply_is_string(job) && bytes <= 0;
	if (!entry->stream || (redis_reply_is_string(job) && !entry->json) || !job_id_valid(id->str) ||
		strlen(id->str) >= sizeof(entry->entry_id)) {
		entry_free(entry);
		return NULL;
	}
	memcpy(entry->entry_id, id->str, strlen(id->str) + 1);
	entry->pub = (struct queue_entry){
		.json = entry->json ? entry->json : "",
		.json_len = entry->json ? job->len : 0,
		.id_field = entry->id_field,
		.entry_id = entry->entry_id,
		.attempt = (unsigned)MAX(redis_reply_int(redis_reply_at(packed, 5), 1), 1),
		.queued_us = queued_us(entry->entry_id),
	};
	link_in(queue, entry);
	return entry;
}

struct entry *entry_restore(struct queue *queue, const char *stream, const char *entry_id, const char *json, size_t json_len)
{
	struct entry *entry = calloc(1, sizeof(*entry));
	if (!entry)
		return NULL;
	entry->queue = queue;
	entry->stream = strdup(stream);
	entry->json = json ? copy_bytes(json, json_len) : NULL;
	if (!entry->stream || !job_id_valid(entry_id) || strlen(entry_id) >= sizeof(entry->entry_id)) {
		entry_free(entry);
		return NULL;
	}
	memcpy(entry->entry_id, entry_id, strlen(entry_id) + 1);
	entry->pub = (struct queue_entry){.json = entry->json ? entry->json : "", .json_len = entry->json ? json_len : 0, .entry_id = entry->entry_id};
	link_in(queue, entry);
	return entry;
}

struct entry *entry_find(struct queue *queue, const char *stream, const char *entry_id)
{
	for (struct entry *e = *bucket_of(queue, entry_id); e; e = e->chain)
		if (strcmp(e->entry_id, entry_id) == 0 && strcmp(e->stream, stream) == 0)
			return e;
	return NULL;
}

static void count(struct entry *entry, size_t one)
{
	struct queue *queue = entry->queue;
	if (entry->state == ENTRY_OUT)
		queue->nout += one;
	if (entry->state != ENTRY_FINISHING && entry->state != ENTRY_RELEASING)
		return;
	queue->nwaiting += one;
	queue->waiting_bytes += one * entry->weight;
	if (entry->failed)
		queue->nfailed += one;
}

void entry_set_state(struct entry *entry, enum entry_state state)
{
	count(entry, (size_t)-1);
	entry->state = state;
	count(entry, 1);
}

void entry_failed(struct entry *entry)
{
	count(entry, (size_t)-1);
	entry->failed = true;
	count(entry, 1);
}

void entry_ref(struct entry *entry)
{
	entry->refs++;
}

void entry_unref(struct entry *entry)
{
	if (--entry->refs == 0 && entry->state == ENTRY_GONE)
		entry_free(entry);
}

void entry_leave(struct entry *entry)
{
	struct queue *queue = entry->queue;
	struct entry **at = bucket_of(queue, entry->entry_id);
	if (queue->isolated == entry)
		queue->isolated = NULL;
	while (*at != entry)
		at = &(*at)->chain;
	*at = entry->chain;
	if (entry->prev)
		entry->prev->next = entry->next;
	else
		queue->entries = entry->next;
	if (entry->next)
		entry->next->prev = entry->prev;
	entry->prev = entry->next = entry->chain = NULL;
	entry_set_state(entry, ENTRY_GONE);
	outbox_forget(entry);
	if (entry->batch && !queue->closing)
		spool_done(TAKE_PTR(entry->batch));
	if (!entry->refs)
		entry_free(entry);
}

void entry_lose(struct entry *entry)
{
	struct queue *queue = entry->queue;
	bool out = entry->state == ENTRY_OUT;
	queue->stats.lost++;
	log_warn("queue: lease lost entry=%s job=\"%s\"", entry->entry_id, entry->id);
	entry_ref(entry);
	entry_leave(entry);
	if (out)
		queue->events.lost(queue->ctx, &entry->pub);
	entry_unref(entry);
}
