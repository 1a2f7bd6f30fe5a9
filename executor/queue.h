/*
 * The job queue on Redis Streams (design, "Redis"): the worker's side on the event loop (fetch, finish, lease,
 * cancel), and the blocking client's side (submit, wait, status, cancel).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "executor/loop.h"
#include "executor/result.h"

struct redis_url {
	char host[256]; /* "" for a unix socket */
	char path[256]; /* unix socket path, or "" */
	int port;
	int db;
	char user[128], password[256]; /* from PETRI_REDIS or a file only, never argv */
	char sentinels[512];	       /* "host:port,host:port", where the master is asked for; else "" */
	char master[65];	       /* its name there */
};

/*
 * redis_url_parse - unix:///path[?db=N] | redis://[user:password@]host[:port][/db] ([::1] in brackets) |
 * sentinel://[user:password@]host[:port],…/master[/db] (credentials for the master, not for the sentinels).
 * @allow_credentials: false for text that came from argv: credentials there are -EINVAL with a message that says
 * to use PETRI_REDIS.
 */
int redis_url_parse(const char *text, bool allow_credentials, struct redis_url *ret, struct err *err);
/* redis_url_format - the URL without credentials, for messages. */
void redis_url_format(const struct redis_url *url, char *buf, size_t cap);
/* redis_prefix_valid - [A-Za-z0-9._{}-]{1,64} */
bool redis_prefix_valid(const char *prefix);

struct queue_config {
	struct redis_url url;
	const char *prefix; /* "petri" */
	const char *name;   /* the worker's */
	uint64_t lease_ms;  /* 30000 */
	uint64_t result_ttl_ms;
	unsigned max_attempts;
	uint64_t max_queue; /* told to clients: more may not wait in a stream; 0: nothing is told */
	bool allow_volatile;
	unsigned slots; /* for the heartbeat */
	int spool;	/* a directory for results that wait (spool_make_dir()), becomes the queue's; 0: none */
};

/* One fetched job; owned by the queue from fetch until finish, release or loss. */
struct queue_entry {
	const char *json;
	size_t json_len;
	const char *id_field; /* the stream entry's `id`, or NULL */
	const char *entry_id; /* "1700000000000-0": the id of a job without one ('-' is fine in ids) */
	unsigned attempt;     /* 1 for the first delivery */
	uint64_t queued_us;   /* from XADD (the entry id's clock) until fetched */
	uint64_t finish_us;   /* in `finished`: from queue_finish() until Redis had confirmed it */
	void *user;	      /* the owner's */
};

/* Always called from the loop, never from inside a queue_*() call. */
struct queue_events {
	/* A job was fetched. The entry is the owner's until queue_finish(), queue_release() or lost; both functions,
	 * queue_started() and queue_want() may be called from here. Never called more often than queue_want() allowed:
	 * each call uses up one. A job with attempt > 1 comes only when no other is out, and none follows it
	 * before it ended. */
	void (*job)(void *ctx, struct queue_entry *entry);
	/* Somebody asked that the running job with this id be cancelled. */
	void (*cancel)(void *ctx, const char *id);
	/* The entry is not ours any more (lease lost): kill the job, forget the entry; do not finish it. */
	void (*lost)(void *ctx, struct queue_entry *entry);
	/* finish reached Redis: the entry is freed after this call. */
	void (*finished)(void *ctx, struct queue_entry *entry);
	/* Cannot go on: credentials refused, volatile Redis without --allow-volatile-redis, … Nothing happens any more;
	 * call queue_free(), but not from inside an event. */
	void (*fatal)(void *ctx, const struct err *err);
	/* The heartbeat is about to be written: call queue_heartbeat() and queue_describe() now. NULL: not wanted. */
	void (*beat)(void *ctx);
};

struct queue;

/* queue_new - connects in the background; with backoff (100 ms doubling to 5 s) and a log line when it fails. */
int queue_new(struct loop *loop, const struct queue_config *config, const struct queue_events *events, void *ctx,
	struct queue **ret, struct err *err);
/* queue_want - how many more jobs may be fetched now; call whenever it changes. 0 stops fetching. Entries that
 * arrive although the number has shrunk meanwhile are handed back. */
void queue_want(struct queue *queue, unsigned free_slots);
/* queue_started - the job with this id now runs: state key (so that status and cancel find it), lease renewal until
 * wall_ms + 60 s after. */
void queue_started(struct queue *queue, struct queue_entry *entry, const char *id, uint64_t wall_ms);
/* queue_finish - write the result and acknowledge in one script; retried until Redis has it, across reconnects.
 * The strings are copied. @reply may be NULL; @status and @meta_json (may be NULL) are for the reply stream. */
void queue_finish(struct queue *queue, struct queue_entry *entry, const char *id, const char *result_json,
	const char *reply, const char *status, const char *meta_json);
/* queue_release - hand it back, to be run by whoever asks next. @ran: it was dispatched, which counts as an attempt; else its delivery count is
 * restored. */
void queue_release(struct queue *queue, struct queue_entry *entry, bool ran);
/* queue_stop - fetch nothing any more, whatever queue_want() says, and hand back what was taken but not emitted. Then
 * step the loop until queue_drained() (within the grace), then queue_free(). */
void queue_stop(struct queue *queue);
/* queue_drained - nothing waits to be written, or is on its way here unwanted. */
bool queue_drained(const struct queue *queue);
struct queue_beat {
	unsigned running;			   /* jobs */
	unsigned ready, busy, stamping, retired;   /* slots */
	uint64_t done, placed, warm, done_per_min; /* placed: jobs that got a slot; warm: that of them found one made for their plan */
	bool stopping;
};
/* queue_heartbeat - fields of the heartbeat hash that only the worker knows; written every 5 s. */
void queue_heartbeat(struct queue *queue, const struct queue_beat *beat);
/* queue_describe - the heartbeat's `images` and `limits` (what this worker can enforce); copied, NULL for none. */
void queue_describe(struct queue *queue, const char *images, const char *limits);

struct queue_stats {
	bool connected;				  /* set up and able to fetch */
	size_t undelivered;			  /* results and hand-backs that Redis has not confirmed */
	size_t spooled;				  /* of these, results that are safe on disk */
	uint64_t fetched, duplicates, lost, dead; /* entries: emitted; had a result already; lease lost; given up */
	uint64_t refused, handed_back;		  /* the queue's own refusals (no job, too large); hand-backs that Redis confirmed */
};
void queue_stats(const struct queue *queue, struct queue_stats *ret);

#define QUEUE_REDIS_ERRORS 8
/* queue_redis_errors - what Redis answered instead of what was asked for, and lost connections, by kind. */
void queue_redis_errors(const struct queue *queue, uint64_t ret[QUEUE_REDIS_ERRORS]);
const char *queue_redis_error_name(unsigned kind);

#define QUEUE_LOOKS 4 /* high, normal, low, the worker's own stream */
struct queue_look {
	uint64_t at_us; /* CLOCK_MONOTONIC; 0: never yet */
	struct {
		uint64_t depth;	    /* entries that nobody has taken: XLEN minus pending */
		uint64_t pending;   /* taken, and not acknowledged */
		uint64_t oldest_us; /* how long the first of those that wait has waited; 0 when none does */
	} by[QUEUE_LOOKS];
	uint64_t dead, tenants;
};
const char *queue_look_name(unsigned i);
/* queue_look - ask Redis what waits, tenants' streams included; `done` is called from the loop once it has answered, with what it
 * said. One at a time, and no more than a thousandth of the time is spent on it, however many tenants there are. */
void queue_look(struct queue *queue, void (*done)(void *ctx, const struct queue_look *look), void *ctx);
/* queue_free - drops the connections; entries that are out become invalid. What queue_drained() denies is lost here,
 * and recovered by another worker after the lease. Not from inside an event. */
void queue_free(struct queue *queue);

/* ---- the blocking client ---- */
struct queue_client;
int queue_client_open(const struct redis_url *url, const char *prefix, struct queue_client **ret, struct err *err);
void queue_client_free(struct queue_client *client);
/* queue_client_submit - XADD to the stream that the job's priority, tenant and worker choose.
 * @ret_id: the id under which the result will be (job's own, else the entry id).
 * @max_depth: 0 for none, else -EAGAIN when the stream already holds so many ("queue full"). */
int queue_client_submit(struct queue_client *client, const struct job *job, const char *json, size_t len,
	uint64_t max_depth, char ret_id[JOB_ID_MAX + 1], struct err *err);
/* queue_client_wait - BLPOP done, then the result. @timeout_ms 0: for ever. Return: 0 with *ret_json (caller frees),
 * -ETIMEDOUT, or -errno. */
int queue_client_wait(struct queue_client *client, const char *id, uint64_t timeout_ms, char **ret_json, struct err *err);
/* queue_client_status - JSON line {"id", "state": "done"|"running"|"unknown", …}; with the result when done. */
int queue_client_status(struct queue_client *client, const char *id, char **ret_json, struct err *err);
/* queue_client_cancel - Return: 0 requested or cancelled at once (*ret_what says which), 1 already finished. */
int queue_client_cancel(struct queue_client *client, const char *id, const char **ret_what, struct err *err);
