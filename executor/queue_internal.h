/* The worker side of the queue, shared by its files: queue.c (life, set-up), queue_entry.c, queue_fetch.c,
 * queue_outbox.c (finish, release), queue_lease.c, queue_channel.c (pub/sub). */
#pragma once

#include "executor/queue.h"
#include "executor/redis_link.h"
#include "executor/redis_script.h"
#include "executor/spool.h"

#define QUEUE_KEY_MAX 320
#define QUEUE_CONSUMER_MAX 192
#define QUEUE_STREAMS 4 /* high, normal, low, the worker's own */

enum entry_state {
	ENTRY_HELD,	 /* ours, not yet emitted (an isolated one waiting) */
	ENTRY_OUT,	 /* the owner has it */
	ENTRY_FINISHING, /* its result waits for Redis */
	ENTRY_RELEASING, /* its hand-back waits for Redis */
	ENTRY_GONE,	 /* freed as soon as no request refers to it */
};

#define QUEUE_BUCKETS 1024 /* a power of two */

struct entry {
	struct queue_entry pub; /* first: the owner's pointer is ours */
	struct queue *queue;
	struct entry *prev, *next;
	struct entry *chain; /* the next of its bucket */
	enum entry_state state;
	unsigned refs;		      /* requests under way that refer to it */
	bool failed;		      /* FINISHING, RELEASING: a request has failed */
	bool lined_up;		      /* … it is to be sent */
	struct entry *before, *after; /* in that line */
	size_t sent_bytes;	      /* … it was, and is not answered */
	size_t weight;		      /* bytes of what waits, and of the job */
	bool started, start_sent, state_written, cancel_told;
	bool cancel_due; /* somebody had asked for it before it was ours */
	bool emitted;	 /* the owner has seen it */
	bool ran;	 /* RELEASING: it did, and that counts */
	char *stream;
	char *json, *id_field, entry_id[64];
	char *last_consumer;
	char id[JOB_ID_MAX + 1]; /* "" until known */
	uint64_t renew_until_us; /* 0: for as long as it is held */
	uint64_t finishing_us;	 /* since when its result, or that it is handed back, waits */
	/* the result */
	char *result, *reply, *meta;
	char status[32];
	bool dead;
	uint64_t made_ms;	   /* the result, by the wall clock */
	struct spool_batch *batch; /* it is on disk too, or on its way there */
	bool spooled;		   /* it is */
};

enum fetch_state {
	FETCH_IDLE,
	FETCH_BUSY, /* a script that may take entries is under way */
	FETCH_WAIT, /* blocked until there is news */
	FETCH_TAKE, /* blocked until there is an entry, which is then ours */
};

struct queue {
	struct loop *loop;
	struct queue_config config; /* its strings are the ones below */
	char prefix[65], name[129], consumer[QUEUE_CONSUMER_MAX];
	struct queue_events events;
	void *ctx;
	struct redis_url url;
	struct redis_link fetch, commands, channel;
	struct redis_scripts scripts;
	bool ready;   /* commands is set up: groups exist, durability was checked */
	bool failed;  /* fatal was reported */
	bool stopped; /* queue_stop() */
	bool closing;
	bool troubled; /* the trouble was logged */
	bool config_denied_told;

	char stream[QUEUE_STREAMS][QUEUE_KEY_MAX], tenants[QUEUE_KEY_MAX], bell[QUEUE_KEY_MAX], cancel[QUEUE_KEY_MAX];
	struct entry *entries;		     /* all but GONE */
	struct entry *bucket[QUEUE_BUCKETS]; /* the same, by entry id */
	size_t nout;			     /* ENTRY_OUT */
	size_t nwaiting;		     /* ENTRY_FINISHING, ENTRY_RELEASING */
	size_t nfailed;			     /* of them those that failed once */
	size_t waiting_bytes;		     /* of the weight of them all */
	struct entry *emitting;		     /* the owner is being told of it just now */
	struct entry *isolated;		     /* one that was delivered before: it runs alone */
	struct loop_timer isolated_due;
	struct queue_stats stats;

	/* fetch */
	unsigned want;
	enum fetch_state fetching;
	bool accepting; /* the entries of a reply are being emitted */
	bool dry;	/* the last look found nothing: wait for news */
	bool news;	/* the bell rang since */
	bool claim_due, own_due;
	bool nogroup;	   /* the last read said so */
	bool last_known;   /* last_id is of the last look */
	unsigned asked;	   /* how many entries the last fetch asked for */
	unsigned requests; /* counts them */
	uint64_t claimed_us, jitter;
	bool unblock_sent; /* for the present wait */
	unsigned unblock_tries;
	long long fetch_client; /* its CLIENT ID, for CLIENT UNBLOCK; 0 unknown */
	unsigned tick;
	struct entry *taken[QUEUE_STREAMS]; /* by a blocking read: nobody has looked yet whether they may run */
	size_t ntaken;
	char cursor[3][JOB_ID_MAX + 2], last_id[QUEUE_STREAMS][64];
	struct loop_timer fetch_retry, own_again;
	unsigned fetch_backoff_ms;

	/* outbox */
	struct entry *line, *line_end; /* what is to be sent */
	size_t outbox_bytes;	       /* on their way */
	bool probing;		       /* one at a time, until one has come through */
	struct loop_timer outbox_retry;
	unsigned outbox_backoff_ms;

	/* spool */
	struct spool *spool; /* NULL: results wait in memory only */
	struct spool_batch *spooling;
	struct loop_timer spool_due;
	bool spool_full; /* was told */
	size_t spool_strangers;

	/* lease, heartbeat */
	struct loop_timer lease, heartbeat, look;
	unsigned look_request; /* the fetch that was under way when a cancellation came */
	uint64_t renewed_us;   /* when the last renewal that was answered was sent */
	unsigned ticks;
	struct queue_beat beat;
	uint64_t beat_us; /* when the last was written */
	char *images, *limits;

	/* queue_look.c */
	void (*look_done)(void *ctx, const struct queue_look *look); /* one is under way */
	void *look_ctx;
	uint64_t look_sent_us, look_next_us;
};

/* queue.c */
void queue_key(const struct queue *queue, char out[QUEUE_KEY_MAX], const char *kind, const char *name);
/* queue_trouble - log "cannot …" once until queue_untroubled(). */
void queue_trouble(struct queue *queue, const char *what, const char *why, unsigned retry_ms);
void queue_untroubled(struct queue *queue);
void queue_fatal(struct queue *queue, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* queue_script - begin a script with the standard five keys (the four streams, tenants). */
void queue_script(struct queue *queue, enum redis_script script, struct redis_args *args);
/* queue_noscript - forget digests when the server lost its scripts. Return: true when the reply said so. */
bool queue_noscript(struct queue *queue, const redisReply *reply);

/* queue_entry.c */
/* entry_new - from a handed-over entry (redis_script.c). NULL when malformed or without memory. */
struct entry *entry_new(struct queue *queue, const redisReply *packed, bool *ret_malformed, bool *ret_too_large);
struct entry *entry_find(struct queue *queue, const char *stream, const char *entry_id);
/* entry_restore - one that an earlier life left, without what only Redis knows. NULL without memory, or malformed. */
struct entry *entry_restore(struct queue *queue, const char *stream, const char *entry_id, const char *json, size_t json_len);
/* entry_leave - off the list, the owner's no more; freed now, or when the last request answers. */
void entry_leave(struct entry *entry);
void entry_ref(struct entry *entry);
void entry_unref(struct entry *entry);
/* entry_set_state - every change of it goes through here: the counters follow. */
void entry_set_state(struct entry *entry, enum entry_state state);
/* entry_failed - a request that settles it failed: nothing is fetched until one came through. */
void entry_failed(struct entry *entry);
/* entry_lose - not ours any more: tell the owner, and forget it. */
void entry_lose(struct entry *entry);

/* queue_fetch.c */
/* fetch_kick - go on with whatever is due, if anything may be fetched now. */
void fetch_kick(struct queue *queue);
void fetch_link_up(struct queue *queue);
void fetch_link_down(struct queue *queue);
/* fetch_ring - there may be news in a stream that the wait does not watch. */
void fetch_ring(struct queue *queue);
void fetch_init(struct queue *queue);

/* queue_outbox.c */
void outbox_init(struct queue *queue);
/* outbox_flush - send whatever waits. */
void outbox_flush(struct queue *queue);
/* outbox_forget - one that is not to be sent any more. */
void outbox_forget(struct entry *entry);
/* outbox_restore - a result that an earlier life left. */
void outbox_restore(struct entry *entry);
bool outbox_stuck(const struct queue *queue);
/* outbox_behind - more waits for Redis than is good: nothing is fetched until it has caught up. */
bool outbox_behind(const struct queue *queue);
/* outbox_reject - the entry never reaches the owner: `rejected`, because of its field `job`. */
void outbox_reject(struct entry *entry, enum reject_reason reason, const char *message);
/* outbox_bury - too many attempts: petri:dead and an `internal_error`. */
void outbox_bury(struct entry *entry);

/* outbox_dead_job - how many bytes of the job go into petri:dead. */
size_t outbox_dead_job(const struct entry *entry);

/* queue_spool.c */
/* queue_spool_open - with what an earlier life left; nothing happens without a directory. */
int queue_spool_open(struct queue *queue, struct err *err);
/* spool_wait - a result is on its way to Redis: if it does not arrive soon, keep it. */
void spool_wait(struct queue *queue);

/* queue_lease.c */
void lease_init(struct queue *queue);
/* lease_renew_now - at once: after the commands connection came back. */
void lease_renew_now(struct queue *queue);
void lease_start(struct entry *entry);
/* lease_beat_soon - somebody watches: a heartbeat now, or half a second after the last. */
void lease_beat_soon(struct queue *queue);
/* lease_look_soon - renew, and so look for cancellations, in a moment, and again when the fetch that is under way has
 * come. */
void lease_look_soon(struct queue *queue);

/* queue_channel.c */
void channel_subscribe(struct queue *queue);
/* entry_cancel - tell the owner, once an attempt. */
void entry_cancel(struct entry *entry);
