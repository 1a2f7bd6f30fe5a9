/*
 * Results that wait are kept on disk as well (executor/spool.h), so that they outlive this process: the next worker of this
 * name and state directory delivers them, and their jobs need not run again. A result is written there when Redis could not
 * take it, or has not answered for a moment; what does not fit on the disk waits in memory, as before.
 *
 * A result that an earlier life left is delivered like any other: the script acknowledges the entry whoever holds it, and
 * leaves a result alone that is there. Only when it is older than results live, so that one may have been there and gone,
 * does it need its entry still to be in the stream.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/queue_internal.h"

#define LATE_US 100000u	  /* an answer that takes so long may not come */
#define AGAIN_US 1000000u /* after a disk was full */
#define BATCH_BYTES (4u << 20)
#define SPOOL_BYTES_MAX (1024ull << 20)
#define TEXTS 9
#define NO_TEXT UINT64_MAX

struct fixed {
	uint64_t made_ms, attempt, dead;
};

struct text {
	const char *at;
	uint64_t len; /* NO_TEXT: there is none */
};

/* ---- a record: the fixed part, then length and bytes of each text ---- */

static char *make_record(const struct entry *entry, size_t *ret_len)
{
	size_t job = outbox_dead_job(entry);
	const struct text texts[TEXTS] = {
#define TEXT(s) {s, (s) ? strlen(s) : NO_TEXT}
		TEXT(entry->queue->prefix),
		TEXT(entry->stream),
		TEXT(entry->entry_id),
		TEXT(entry->id),
		TEXT(entry->status),
		TEXT(entry->reply),
		TEXT(entry->meta),
		TEXT(entry->last_consumer),
		TEXT(entry->result),
#undef TEXT
	};
	struct fixed fixed = {entry->made_ms, entry->pub.attempt, entry->dead};
	uint64_t job_len = job;
	size_t need = sizeof(fixed) + sizeof(job_len) + job;
	for (size_t i = 0; i < TEXTS; i++)
		need += sizeof(uint64_t) + (texts[i].at ? (size_t)texts[i].len : 0);
	char *record = malloc(need), *at = record;
	if (!record)
		return NULL;
	at = mempcpy(at, &fixed, sizeof(fixed));
	for (size_t i = 0; i < TEXTS; i++) {
		at = mempcpy(at, &texts[i].len, sizeof(texts[i].len));
		if (texts[i].at)
			at = mempcpy(at, texts[i].at, (size_t)texts[i].len);
	}
	at = mempcpy(at, &job_len, sizeof(job_len));
	if (job)
		memcpy(at, entry->pub.json, job);
	*ret_len = need;
	return record;
}

static bool take(const char **at, size_t *left, void *out, size_t len)
{
	if (*left < len)
		return false;
	memcpy(out, *at, len);
	*at += len;
	*left -= len;
	return true;
}

/* Return: false when the record is not one of ours. The texts point into it. */
static bool read_record(const char *at, size_t left, struct fixed *fixed, struct text texts[TEXTS + 1])
{
	if (!take(&at, &left, fixed, sizeof(*fixed)))
		return false;
	for (size_t i = 0; i <= TEXTS; i++) {
		if (!take(&at, &left, &texts[i].len, sizeof(texts[i].len)))
			return false;
		texts[i].at = NULL;
		if (texts[i].len == NO_TEXT)
			continue;
		if (texts[i].len > left)
			return false;
		texts[i].at = at;
		at += texts[i].len;
		left -= (size_t)texts[i].len;
	}
	return left == 0;
}

static char *text_dup(const struct text *text)
{
	return text->at ? strndup(text->at, (size_t)text->len) : NULL;
}

static bool text_into(const struct text *text, char *out, size_t cap)
{
	if (!text->at || text->len >= cap)
		return false;
	memcpy(out, text->at, (size_t)text->len);
	out[text->len] = '\0';
	return true;
}

/* ---- what an earlier life left ---- */

static void restore(void *data, struct spool_batch *batch, const void *record, size_t len)
{
	struct queue *queue = data;
	struct fixed fixed;
	struct text texts[TEXTS + 1];
	bool good = read_record(record, len, &fixed, texts);
	if (good && (texts[0].len != strlen(queue->prefix) || memcmp(texts[0].at, queue->prefix, (size_t)texts[0].len) != 0)) {
		queue->spool_strangers++; /* its file stays, for a worker with that prefix */
		return;
	}
	_cleanup_free_ char *stream = good ? text_dup(&texts[1]) : NULL, *entry_id = good ? text_dup(&texts[2]) : NULL;
	struct entry *entry = stream && entry_id ? entry_restore(queue, stream, entry_id, texts[TEXTS].at, (size_t)texts[TEXTS].len) : NULL;
	if (!entry) {
		log_warn("spool: a result could not be read, ignoring");
		return;
	}
	entry->reply = text_dup(&texts[5]);
	entry->meta = text_dup(&texts[6]);
	entry->last_consumer = text_dup(&texts[7]);
	entry->result = text_dup(&texts[8]);
	entry->made_ms = fixed.made_ms;
	entry->pub.attempt = (unsigned)fixed.attempt;
	entry->dead = fixed.dead != 0;
	entry->batch = batch;
	if (!entry->result || !text_into(&texts[3], entry->id, sizeof(entry->id)) || !text_into(&texts[4], entry->status, sizeof(entry->status)) ||
		!job_id_valid(entry->id)) {
		log_warn("spool: a result could not be read, ignoring");
		entry->batch = NULL;
		entry_leave(entry);
		return;
	}
	entry->spooled = true;
	outbox_restore(entry);
}

/* ---- what waits now ---- */

static void arm(struct queue *queue, uint64_t in_us)
{
	if (queue->spool && !queue->closing && !queue->spool_due.heap_index && !spool_busy(queue->spool))
		loop_timer_set(queue->loop, &queue->spool_due, now_us() + in_us);
}

static void told_full(struct queue *queue, int error)
{
	if (!queue->spool_full)
		log_warn("spool: cannot keep results on disk: %s; they wait in memory only, and are lost if this process is killed",
			strerror(-error));
	queue->spool_full = true;
}

static void on_kept(void *data, int error)
{
	struct queue *queue = data;
	const struct spool_batch *batch = TAKE_PTR(queue->spooling);
	for (struct entry *e = queue->entries; e; e = e->next) {
		if (e->batch != batch || e->spooled)
			continue;
		e->spooled = error == 0;
		if (error)
			e->batch = NULL;
	}
	if (error && error != -ECANCELED) {
		told_full(queue, error);
		loop_timer_set(queue->loop, &queue->spool_due, now_us() + AGAIN_US);
	} else {
		queue->spool_full = false;
		loop_timer_set(queue->loop, &queue->spool_due, 0);
	}
}

/* Into the batch, if it is its turn. Return: when to look again, in us; 0: no need. */
static uint64_t keep(struct entry *entry, struct spool_batch *batch, uint64_t now, size_t *bytes)
{
	if (entry->state != ENTRY_FINISHING || entry->batch)
		return 0;
	if (!entry->failed && now - entry->finishing_us < LATE_US)
		return LATE_US;
	if (*bytes > BATCH_BYTES)
		return 0; /* the next batch follows at once */
	size_t len = 0;
	_cleanup_free_ char *record = make_record(entry, &len);
	int r = record ? spool_add(batch, record, len) : -ENOMEM;
	if (r < 0) {
		told_full(entry->queue, r);
		return AGAIN_US;
	}
	entry->batch = batch;
	*bytes += len;
	return 0;
}

static void on_due(struct loop_timer *timer)
{
	struct queue *queue = timer->data;
	uint64_t now = now_us(), again = 0;
	size_t bytes = 0;
	if (spool_busy(queue->spool) || queue->nwaiting == 0)
		return;
	struct spool_batch *batch = spool_begin(queue->spool);
	for (struct entry *e = batch ? queue->entries : NULL; e; e = e->next) {
		uint64_t in = keep(e, batch, now, &bytes);
		again = !again || (in && in < again) ? in : again;
	}
	if (bytes) {
		queue->spooling = batch;
		spool_commit(batch, on_kept, queue);
		return;
	}
	if (batch)
		spool_drop(batch);
	if (again)
		arm(queue, again);
}

void spool_wait(struct queue *queue)
{
	arm(queue, LATE_US);
}

int queue_spool_open(struct queue *queue, struct err *err)
{
	queue->spool_due = (struct loop_timer){.fn = on_due, .data = queue};
	if (queue->config.spool <= 0)
		return 0;
	int r = spool_open(queue->loop, queue->config.spool, SPOOL_BYTES_MAX, &queue->spool, err);
	if (r < 0)
		return r;
	spool_load(queue->spool, restore, queue);
	if (queue->nwaiting)
		log_info("spool: %zu results of an earlier life wait to be delivered", queue->nwaiting);
	if (queue->spool_strangers)
		log_warn("spool: %zu results belong to another prefix than %s; they stay, ignoring", queue->spool_strangers, queue->prefix);
	return 0;
}
