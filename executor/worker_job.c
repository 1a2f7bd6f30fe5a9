/* A job in the worker: from the queue to the engine, and its result back. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/worker_internal.h"

#define OFFLOAD_BYTES (128u << 10) /* JSON of so much takes some 2 ms */

/* ---- a job's end ---- */
static void unlink_active(struct active *a)
{
	*a->at = a->next;
	if (a->next)
		a->next->at = a->at;
	a->worker->nactive--;
}

static void finished(struct active *a)
{
	struct worker *w = a->worker;
	struct result *result = &a->ej.result;
	if (a->entry) {
		_cleanup_free_ char *meta = result->meta ? json_dumps(result->meta, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
		/* Without memory for the result the job is handed back, to be run again. */
		if (a->text)
			queue_finish(w->queue, a->entry, a->id, a->text, a->ej.job.reply, job_status_name(result->status), meta);
		else
			queue_release(w->queue, a->entry, false);
	}
	w->done++;
	unlink_active(a);
	log_debug("job=%s status=%s", a->id, job_status_name(result->status));
	result_clear(result);
	job_clear(&a->ej.job);
	free(a->text);
	free(a);
	worker_want(w);
	worker_maybe_end(w);
}

static void encode(struct offload_task *task)
{
	struct active *a = task->data;
	a->text = result_json(&a->ej.result);
}

static void encoded(struct offload_task *task)
{
	struct active *a = task->data;
	a->worker->nencoding--;
	finished(a);
}

static size_t bytes_of(const struct result *result)
{
	size_t n = result->out.len + result->errout.len;
	for (size_t i = 0; i < result->nfiles; i++)
		n += result->files[i].len;
	return n;
}

static void finish(struct active *a)
{
	struct worker *w = a->worker;
	struct result *result = &a->ej.result;
	(void)snprintf(result->id, sizeof(result->id), "%s", a->id);
	if (a->entry) {
		uint64_t placed_ns = a->ej.dispatched_ns;
		metrics_result(&w->metrics, result, placed_ns > a->taken_ns ? (placed_ns - a->taken_ns) / 1000 : 0);
		a->task = (struct offload_task){.work = encode, .done = encoded, .data = a};
		a->encoding = true;
		w->nencoding++;
		offload_add(bytes_of(result) > OFFLOAD_BYTES ? w->offload : NULL, &a->task);
	} else {
		finished(a);
	}
}

static void on_done(struct engine_job *ej)
{
	finish(ej->user);
}

static void on_started(struct engine_job *ej)
{
	struct active *a = ej->user;
	a->started = true;
	if (a->entry)
		queue_started(a->worker->queue, a->entry, a->id, ej->job.limits.wall_ms);
}

/* ---- the queue's events ---- */
static struct active *make_active(struct worker *w, struct queue_entry *entry)
{
	struct active *a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->worker = w;
	a->entry = entry;
	entry->user = a;
	a->ej.user = a;
	a->ej.stdin_fd = -1;
	a->ej.done = on_done;
	a->ej.started = on_started;
	a->ej.result.attempt = entry->attempt;
	a->taken_ns = now_ns();
	w->metrics.rerun += entry->attempt > 1;
	a->ej.result.timing.queued_us = entry->queued_us;
	(void)snprintf(a->ej.result.worker, sizeof(a->ej.result.worker), "%s", w->config->name);
	a->next = w->active;
	a->at = &w->active;
	if (a->next)
		a->next->at = &a->next;
	w->active = a;
	w->nactive++;
	return a;
}

static void choose_id(struct active *a)
{
	const struct queue_entry *e = a->entry;
	const char *id = e->id_field && job_id_valid(e->id_field) ? e->id_field : a->ej.job.id[0] ? a->ej.job.id
												  : e->entry_id;
	(void)snprintf(a->id, sizeof(a->id), "%s", id);
}

static bool refuse(struct active *a, const struct reject *why)
{
	a->ej.result.status = STATUS_REJECTED;
	a->ej.result.reject = *why;
	(void)snprintf(a->ej.result.message, sizeof(a->ej.result.message), "%s", why->message);
	return true;
}

/* What only the worker can check. Return: true when the job ends here, with its result set. */
static bool refused_here(struct active *a, int parsed, const struct reject *why)
{
	struct reject own = {0};
	const struct job *job = &a->ej.job;
	if (parsed > 0)
		return refuse(a, why);
	if (parsed < 0) {
		a->ej.result.status = STATUS_INTERNAL_ERROR;
		(void)snprintf(a->ej.result.message, sizeof(a->ej.result.message), "out of memory");
		return true;
	}
	if (job->worker && strcmp(job->worker, a->worker->config->name) != 0) {
		(void)reject_set(&own, "worker", REJECT_MISSING, "this is worker %.60s, not %.60s", a->worker->config->name, job->worker);
		return refuse(a, &own);
	}
	if (job->not_after_ms && wall_ms() > job->not_after_ms) {
		a->ej.result.status = STATUS_CANCELLED;
		(void)snprintf(a->ej.result.message, sizeof(a->ej.result.message), "not_after_ms has passed");
		return true;
	}
	return false;
}

static void parse(struct offload_task *task)
{
	struct active *a = task->data;
	a->parsed = job_parse(a->text, a->text_len, &a->worker->config->max_limits, &a->ej.job, &a->why);
}

/* Meanwhile it may have been cancelled, or not be ours any more. */
static void parsed(struct offload_task *task)
{
	struct active *a = task->data;
	a->worker->nparsing--;
	if (a->copied)
		free(a->text);
	a->text = NULL;
	if (a->entry)
		choose_id(a);
	a->ej.result.meta = json_incref(a->ej.job.meta);
	if (a->cancelled)
		a->ej.result.status = STATUS_CANCELLED;
	if (!a->entry || a->cancelled || refused_here(a, a->parsed, &a->why))
		finish(a);
	else
		engine_start(a->worker->engine, &a->ej);
	/* engine_start() may have finished and freed it. */
}

void worker_job(void *ctx, struct queue_entry *entry)
{
	struct worker *w = ctx;
	struct active *a = w->dying ? NULL : make_active(w, entry);
	if (!a) {
		queue_release(w->queue, entry, false);
		return;
	}
	bool large = entry->json_len > OFFLOAD_BYTES;
	a->task = (struct offload_task){.work = parse, .done = parsed, .data = a};
	a->text_len = entry->json_len;
	a->text = (char *)entry->json; /* only read */
	if (large) {
		/* The entry may go before the thread is done with it. */
		a->text = malloc(entry->json_len + 1);
		if (a->text)
			memcpy(a->text, entry->json, entry->json_len + 1);
		a->copied = a->text != NULL;
		large = a->copied;
		if (!a->text)
			a->text = (char *)entry->json;
		if (entry->id_field && job_id_valid(entry->id_field))
			(void)snprintf(a->id, sizeof(a->id), "%s", entry->id_field);
	}
	w->nparsing++;
	offload_add(large ? w->offload : NULL, &a->task);
}

void worker_each(struct worker *w, void (*fn)(struct active *a, const void *arg), const void *arg)
{
	for (struct active *a = w->active; a;) {
		unsigned before = w->nactive;
		fn(a, arg);
		a = w->nactive == before ? a->next : w->active;
	}
}

static void cancel_by_id(struct active *a, const void *id)
{
	if (strcmp(a->id, id) != 0 || a->cancelled)
		return;
	a->cancelled = true; /* while it is parsed nobody else would know */
	engine_cancel(a->worker->engine, &a->ej);
}

void worker_cancel(void *ctx, const char *id)
{
	struct worker *w = ctx;
	if (!w->dying)
		worker_each(w, cancel_by_id, id);
}

void worker_lost(void *ctx, struct queue_entry *entry)
{
	struct worker *w = ctx;
	struct active *a = entry->user;
	a->entry = NULL; /* it is freed after this, whatever becomes of the job */
	if (w->dying)
		return;
	log_warn("job=%s is not ours any more: its lease ran out; killing it", a->id);
	engine_cancel(w->engine, &a->ej);
}
