/* The worker's own structures, shared by executor/worker*.c only. */
#pragma once

#include "executor/engine.h"
#include "executor/metrics_http.h"
#include "executor/offload.h"
#include "executor/worker.h"

struct worker {
	const struct worker_config *config;
	struct loop *loop;
	struct store *store;
	int spool;
	struct engine *engine;
	struct queue *queue;
	struct loop_op signal_op;
	int signals;
	struct loop_timer grace, drain, look, pulse;
	int beats; /* to the supervisor; -1: not wanted */
	uint64_t pulse_us;
	struct active *active; /* running jobs, a list */
	unsigned nactive, nparsing, nencoding;
	struct offload *offload;
	uint64_t done;
	bool stopping, was_ready;
	uint64_t beat_us, beat_done; /* at the last heartbeat */
	bool dying;		     /* the engine cannot go on: what it still says of jobs is not their result */
	bool given_up;		     /* … and there is no other: the process ends */
	int supervisor;		     /* our own; the engine has a copy */
	struct loop_op supervisor_op;
	struct loop_timer revive;
	uint64_t revive_until_us;
	uint64_t answer_until_us; /* so long a nursery that has died, or its successor, need not have answered */
	bool asked_for_nursery;
	int exit_code;
	struct metrics metrics;
	struct metrics_server *server; /* or NULL */
	struct loop_timer show;
	uint64_t look_until_us; /* Redis is asked about the queue while somebody wants to know */
};

struct active {
	struct engine_job ej;
	struct worker *worker;
	struct queue_entry *entry; /* NULL: not ours any more, the result is dropped */
	bool started, cancelled;
	/* Large JSON is read and written in the helper thread: then `task` is away, and nothing that it works on is touched here. */
	struct offload_task task;
	bool encoding; /* the job has ended */
	bool copied;   /* text is ours */
	char *text;    /* the job's document, or the result's */
	size_t text_len;
	int parsed;
	struct reject why;
	char id[JOB_ID_MAX + 1];
	uint64_t taken_ns;
	struct active *next, **at;
};

/* worker_want - tell the queue how many jobs may come. */
void worker_want(struct worker *w);
/* worker_maybe_end - stop the loop, once the worker is to end and nothing is left to do. */
void worker_maybe_end(struct worker *w);
/* worker_look_on - call worker_maybe_end() every so often: what is handed back raises no event when Redis has confirmed it. */
void worker_look_on(struct worker *w);

/* worker_job.c: the queue's events, and a job's end */
void worker_job(void *ctx, struct queue_entry *entry);
void worker_cancel(void *ctx, const char *id);
void worker_lost(void *ctx, struct queue_entry *entry);

/* worker_each - call fn for every job that is active. Jobs may end, and be freed, meanwhile; fn may then be called again for one of the others. No new
 * one may come. */
void worker_each(struct worker *w, void (*fn)(struct active *a, const void *arg), const void *arg);

/* worker_nursery.c */
/* worker_nursery_init - timers and operations; @supervisor: the worker's own end of that socket. */
void worker_nursery_init(struct worker *w, int supervisor);
/* worker_is_reviving - the nursery has died, and another is to come, or has come and not answered yet; false once that has taken too long. */
bool worker_is_reviving(const struct worker *w);
/* worker_engine_fatal - engine_config's `fatal`. */
void worker_engine_fatal(void *ctx, const struct err *err);
