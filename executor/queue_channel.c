/* The queue's pub/sub side: the bell says that there may be news in a stream that nobody waits on, the cancel channel
 * names a job. Both only hasten what happens anyway: the bell's streams are looked at every second, and the key of a
 * cancelled job at every renewal. */
#include <string.h>

#include "executor/queue_internal.h"

void entry_cancel(struct entry *entry)
{
	struct queue *queue = entry->queue;
	if (entry->state != ENTRY_OUT || !entry->started || entry->cancel_told)
		return;
	entry->cancel_told = true;
	char id[JOB_ID_MAX + 1];
	memcpy(id, entry->id, sizeof(id)); /* the owner may finish the entry at once */
	queue->events.cancel(queue->ctx, id);
}

static void cancel_id(struct queue *queue, const char *id)
{
	for (struct entry *e = queue->entries; e; e = e->next) {
		if (strcmp(e->id, id) == 0 && e->state == ENTRY_OUT && e->started && !e->cancel_told) {
			entry_cancel(e);
			return; /* the list may have changed; twice the same id is two entries of one name, rare */
		}
	}
	/* It may be one that the script under way gives us, with its state key written. One that is here, and has not started
	 * yet, is looked at when it starts; and a read that blocks writes no state keys. */
	if (queue->fetching == FETCH_BUSY)
		lease_look_soon(queue);
}

static void published(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	if (!reply || queue->closing || queue->failed ||
		strcmp(redis_reply_text(redis_reply_at(reply, 0)), "message") != 0)
		return;
	const char *channel = redis_reply_text(redis_reply_at(reply, 1));
	const redisReply *payload = redis_reply_at(reply, 2);
	if (strcmp(channel, queue->cancel) == 0) {
		if (redis_reply_is_string(payload) && job_id_valid(payload->str))
			cancel_id(queue, payload->str);
	} else if (strcmp(channel, queue->bell) == 0 && strcmp(redis_reply_text(payload), "beat") == 0) {
		lease_beat_soon(queue);
	} else if (strcmp(channel, queue->bell) == 0) {
		if (strcmp(redis_reply_text(payload), "released") == 0)
			queue->claim_due = true;
		fetch_ring(queue);
	}
}

void channel_subscribe(struct queue *queue)
{
	if (redis_link_subscribe(&queue->channel, published, queue->bell) < 0 ||
		redis_link_subscribe(&queue->channel, published, queue->cancel) < 0) {
		redis_link_drop(&queue->channel, "out of memory");
		return;
	}
	queue->news = true; /* what was published while nobody listened */
}
