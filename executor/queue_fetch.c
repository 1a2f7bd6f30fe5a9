/*
 * Taking entries: one request at a time on the fetch connection, chosen anew after each reply:
 *   own    after a reconnect: what was delivered to us in replies that never came
 *   claim  several times a second, and when somebody handed an entry back: one entry whose lease has run out
 *   fetch  new entries, as many as are wanted
 *   wait   nothing found: until there is news, a second at most. With slots enough the read takes an entry of each
 *          stream; then the next fetch looks whether they may run
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

#define CLAIM_MS 600u	      /* between two looks for entries of others; a wait adds up to a third */
#define OWN_AGAIN_US 1500000u /* longer than any wait */

static uint64_t claim_ms(const struct queue *queue)
{
	return MIN(CLAIM_MS, queue->config.lease_ms / 3);
}

static bool may_fetch(const struct queue *queue)
{
	bool alive = queue->ready && queue->fetch.up && !queue->stopped && !queue->failed && !queue->closing;
	return alive && queue->want > 0 && !queue->accepting && !queue->isolated && !queue->fetch_retry.heap_index &&
		!outbox_stuck(queue) && !outbox_behind(queue);
}

static void emit(struct entry *entry)
{
	struct queue *queue = entry->queue;
	if (queue->want)
		queue->want--;
	queue->stats.fetched++;
	entry->emitted = true;
	entry_set_state(entry, ENTRY_OUT);
	queue->emitting = entry;
	queue->events.job(queue->ctx, &entry->pub);
	queue->emitting = NULL;
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

/* Until SCRIPT_FETCH has looked at it. */
static void keep_taken(struct entry *entry)
{
	entry->queue->taken[entry->queue->ntaken++] = entry;
	entry_ref(entry);
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
	else if (queue->want <= queue->ntaken || (queue->isolated && queue->isolated != entry))
		queue_release(queue, &entry->pub, false);
	else if (entry->pub.attempt > 1)
		queue->isolated = entry; /* fetch_kick() follows, and sees to it */
	else if (queue->fetching == FETCH_TAKE && entry->id_field && queue->ntaken < ARRAY_SIZE(queue->taken))
		keep_taken(entry);
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

/* Whether the entries that a blocking read took may run. After an error they wait for the next request, and where the
 * connection was lost they go back. Where the answer does not tell, they run: the script that starts them looks again. */
static void looked(struct queue *queue, const redisReply *reply)
{
	const redisReply *answers = redis_reply_at(reply, 6);
	size_t n = queue->ntaken;
	if (reply && redis_reply_error(reply) != REDIS_ERROR_NONE && !queue->stopped && !queue->failed && !queue->closing)
		return;
	queue->accepting = true;
	queue->ntaken = 0;
	for (size_t i = 0; i < n; i++) {
		struct entry *entry = queue->taken[i];
		long long answer = redis_reply_int(redis_reply_at(answers, i), -1);
		if (queue->closing || entry->state != ENTRY_HELD) {
			;
		} else if (answer == START_FINISHED || answer == START_LOST) {
			queue->stats.duplicates += answer == START_FINISHED;
			queue->stats.lost += answer == START_LOST;
			entry_leave(entry);
		} else if (!reply || queue->want == 0) { /* without a reply this may be inside a call of the owner's */
			queue_release(queue, &entry->pub, false);
		} else {
			entry->state_written = answer >= 0;
			entry->cancel_due = answer == START_CANCEL;
			emit(entry);
		}
		entry_unref(entry);
	}
	queue->accepting = false;
}

static void fetched(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	const redisReply *trouble = redis_reply_at(reply, 5);
	redisReply error = {0};
	looked(queue, reply);
	if (redis_reply_is_string(trouble)) { /* one stream's: the others' entries are here all the same */
		error = *trouble;
		error.type = REDIS_REPLY_ERROR;
		queue->fetch.errors[redis_reply_error(&error)]++; /* the link saw no error reply */
	}
	if (!settle(queue, error.str ? &error : reply, "fetch") && !error.str)
		return;
	queue->tick = (unsigned)redis_reply_int(redis_reply_at(reply, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(queue->cursor); i++)
		keep_text(queue->cursor[i], sizeof(queue->cursor[i]), redis_reply_at(redis_reply_at(reply, 1), i));
	queue->stats.duplicates += (uint64_t)redis_reply_int(redis_reply_at(reply, 2), 0);
	const redisReply *list = redis_reply_at(reply, 3);
	queue->dry = queue->asked > 0 && !redis_reply_at(list, 0);
	queue->last_known = redis_reply_at(redis_reply_at(reply, 4), 0) != NULL;
	for (size_t i = 0; i < QUEUE_STREAMS; i++)
		keep_text(queue->last_id[i], sizeof(queue->last_id[i]), redis_reply_at(redis_reply_at(reply, 4), i));
	if (!error.str)
		queue_untroubled(queue);
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
	const redisReply *list = redis_reply_at(reply, 0);
	queue->own_due = redis_reply_at(list, 0) != NULL; /* until nothing is left */
	queue->stats.duplicates += (uint64_t)redis_reply_int(redis_reply_at(reply, 1), 0);
	accept_all(queue, list);
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

/* What XREADGROUP says of an entry, in the form in which the scripts hand one over. */
static void accept_read(struct queue *queue, redisReply *stream, const redisReply *read)
{
	const redisReply *fields = redis_reply_at(read, 1);
	redisReply nothing = {.type = REDIS_REPLY_NIL}, bytes = {.type = REDIS_REPLY_INTEGER},
		   deliveries = {.type = REDIS_REPLY_INTEGER, .integer = 1};
	redisReply *parts[] = {stream, &nothing, &nothing, &nothing, &bytes, &deliveries},
		   packed = {.type = REDIS_REPLY_ARRAY, .elements = ARRAY_SIZE(parts), .element = parts};
	if (!redis_reply_at(read, 0) || !fields)
		return;
	parts[1] = read->element[0];
	for (size_t i = fields->elements & ~(size_t)1; i >= 2; i -= 2) { /* the first of a name counts */
		const char *name = redis_reply_text(fields->element[i - 2]);
		if (strcmp(name, "id") == 0)
			parts[2] = fields->element[i - 1];
		else if (strcmp(name, "job") == 0)
			parts[3] = fields->element[i - 1];
	}
	bytes.integer = redis_reply_is_string(parts[3]) ? (long long)parts[3]->len : 0;
	if (bytes.integer > JOB_JSON_MAX)
		parts[3] = &nothing;
	accept_entry(queue, &packed);
}

static void read_came(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	enum redis_error kind = redis_reply_error(reply);
	queue->dry = false;
	bool first = !queue->nogroup;
	if (reply)
		queue->nogroup = kind == REDIS_ERROR_NOGROUP;
	if (!queue->closing && queue->nogroup && first) { /* the script makes it again */
		queue->fetching = FETCH_IDLE;
		queue->unblock_sent = false;
		fetch_kick(queue);
		return;
	}
	if (!queue->closing && reply && kind == REDIS_ERROR_NONE) {
		queue->accepting = true; /* while `fetching` still says how they came */
		for (size_t i = 0; redis_reply_at(reply, i); i++) {
			const redisReply *one = redis_reply_at(reply, i), *list = redis_reply_at(one, 1);
			for (size_t k = 0; redis_reply_at(list, k); k++)
				accept_read(queue, one->element[0], redis_reply_at(list, k));
		}
		queue->accepting = false;
	}
	if (settle(queue, reply, "wait for jobs"))
		fetch_kick(queue);
}

/* ---- requests ---- */

static void request(struct queue *queue, enum fetch_state state, redis_reply_fn fn, const struct redis_args *args)
{
	queue->fetching = state;
	queue->requests++;
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

/* As the scripts count; a blocking read knows no others. */
static unsigned stream_index(const struct queue *queue, const char *stream)
{
	for (unsigned i = 0; i < QUEUE_STREAMS; i++)
		if (strcmp(queue->stream[i], stream) == 0)
			return i + 1;
	return 1;
}

static void send_fetch(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	char result[QUEUE_KEY_MAX], cancelled[QUEUE_KEY_MAX], state[QUEUE_KEY_MAX];
	ids_keys(queue, result, cancelled);
	queue_key(queue, state, "state:", "");
	queue->asked = may_fetch(queue) ? queue->want - MIN(queue->want, queue->ntaken) : 0;
	if (queue->asked)
		queue->news = false;
	queue_script(queue, SCRIPT_FETCH, &args);
	redis_args_str(&args, queue->consumer);
	redis_args_u64(&args, queue->asked);
	redis_args_u64(&args, queue->tick);
	for (size_t i = 0; i < ARRAY_SIZE(queue->cursor); i++)
		redis_args_str(&args, queue->cursor[i]);
	redis_args_u64(&args, JOB_JSON_MAX);
	redis_args_str(&args, result);
	redis_args_str(&args, cancelled);
	redis_args_str(&args, state);
	redis_args_str(&args, queue->name);
	redis_args_u64(&args, queue->config.lease_ms * 2);
	for (size_t i = 0; i < queue->ntaken; i++) {
		redis_args_u64(&args, stream_index(queue, queue->taken[i]->stream));
		redis_args_str(&args, queue->taken[i]->entry_id);
		redis_args_str(&args, queue->taken[i]->id);
	}
	request(queue, FETCH_BUSY, fetched, &args);
}

static void send_claim(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	char result[QUEUE_KEY_MAX], cancelled[QUEUE_KEY_MAX], seen[QUEUE_KEY_MAX];
	ids_keys(queue, result, cancelled);
	queue_key(queue, seen, "looked", "");
	queue->claim_due = false;
	queue->claimed_us = now_us();
	queue_script(queue, SCRIPT_CLAIM, &args);
	redis_args_str(&args, queue->consumer);
	redis_args_u64(&args, queue->config.lease_ms);
	redis_args_u64(&args, JOB_JSON_MAX);
	redis_args_str(&args, result);
	redis_args_str(&args, cancelled);
	redis_args_str(&args, seen);
	redis_args_u64(&args, claim_ms(queue) * 3 / 4);
	request(queue, FETCH_BUSY, claimed, &args);
}

static void send_own(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	char result[QUEUE_KEY_MAX], cancelled[QUEUE_KEY_MAX];
	ids_keys(queue, result, cancelled);
	queue_script(queue, SCRIPT_OWN, &args);
	redis_args_str(&args, queue->consumer);
	redis_args_u64(&args, queue->want);
	redis_args_u64(&args, JOB_JSON_MAX);
	redis_args_str(&args, result);
	redis_args_str(&args, cancelled);
	for (struct entry *e = queue->entries; e; e = e->next) {
		redis_args_str(&args, e->stream);
		redis_args_str(&args, e->entry_id);
	}
	request(queue, FETCH_BUSY, own_told, &args);
}

static void send_wait(struct queue *queue)
{
	static const char *const look[] = {"XREAD"}, *const take[] = {"XREADGROUP", "GROUP", "petri"};
	_cleanup_args_ struct redis_args args = {0};
	bool takes = queue->want >= QUEUE_STREAMS;
	uint64_t ms = claim_ms(queue);
	for (size_t i = 0; i < (takes ? ARRAY_SIZE(take) : ARRAY_SIZE(look)); i++)
		redis_args_str(&args, takes ? take[i] : look[i]);
	if (takes)
		redis_args_str(&args, queue->consumer);
	redis_args_str(&args, "COUNT");
	redis_args_str(&args, "1");
	redis_args_str(&args, "BLOCK");
	redis_args_u64(&args, ms + (now_us() ^ queue->jitter) % (ms / 3));
	redis_args_str(&args, "STREAMS");
	for (size_t i = 0; i < QUEUE_STREAMS; i++)
		redis_args_str(&args, queue->stream[i]);
	for (size_t i = 0; i < QUEUE_STREAMS; i++)
		redis_args_str(&args, takes ? ">" : queue->last_id[i]);
	request(queue, takes ? FETCH_TAKE : FETCH_WAIT, takes ? read_came : woken, &args);
}

static void end_wait(struct queue *queue);

static void unblocked(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	/* It may overtake the XREAD that it means, which goes over another connection: then once more. */
	if (redis_reply_int(reply, 1) != 0 || queue->closing || !queue->unblock_sent || queue->unblock_tries >= 100)
		return;
	queue->unblock_sent = false;
	if (queue->stopped && queue->fetching == FETCH_TAKE)
		end_wait(queue);
	else
		fetch_kick(queue);
}

/* What we hold must not look abandoned to ourselves: after a pause (of this process, or of Redis) renewals come first. */
static bool time_to_claim(const struct queue *queue)
{
	uint64_t now = now_us(), lease = queue->config.lease_ms * 1000;
	bool renewed = !queue->entries || now - queue->renewed_us < lease / 3 * 2;
	return renewed && (queue->claim_due || now - queue->claimed_us >= claim_ms(queue) * 1000);
}

/* A wait ends early when something else is due, or the end; replies to it come as usual. */
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
	if (queue->ntaken && queue->fetching == FETCH_IDLE && queue->fetch.up && !queue->accepting && !queue->failed &&
		!queue->fetch_retry.heap_index)
		send_fetch(queue); /* whatever else is due: they are ours */
	if (!may_fetch(queue) || queue->fetching == FETCH_BUSY)
		return;
	if (queue->fetching == FETCH_WAIT || queue->fetching == FETCH_TAKE) {
		if (queue->own_due || (queue->claim_due && time_to_claim(queue)) || queue->news)
			end_wait(queue);
		return;
	}
	if (queue->own_due)
		send_own(queue);
	else if (time_to_claim(queue))
		send_claim(queue);
	else if (queue->dry && !queue->news && (queue->want >= QUEUE_STREAMS || queue->last_known))
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
	if (queue->fetching == FETCH_TAKE)
		end_wait(queue);
	if (queue->ntaken && queue->fetching == FETCH_IDLE)
		looked(queue, NULL);
	if (queue->isolated && queue->isolated->state == ENTRY_HELD)
		queue_release(queue, &queue->isolated->pub, false);
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
	/* Redis may believe in the old connection for as long as its wait lasts, and give it an entry after our look. */
	if (queue->own_due)
		loop_timer_set(queue->loop, &queue->own_again, now_us() + OWN_AGAIN_US);
	fetch_kick(queue);
}

void fetch_link_down(struct queue *queue)
{
	if (queue->ntaken)
		looked(queue, NULL);
	queue->fetching = FETCH_IDLE;
	queue->fetch_client = 0;
	queue->unblock_sent = false;
	queue->own_due = true;
}

static void on_own_again(struct loop_timer *timer)
{
	struct queue *queue = timer->data;
	queue->own_due = true;
	fetch_kick(queue);
}

static void on_fetch_retry(struct loop_timer *timer)
{
	fetch_kick(timer->data);
}

void fetch_init(struct queue *queue)
{
	queue->fetch_retry = (struct loop_timer){.fn = on_fetch_retry, .data = queue};
	queue->own_again = (struct loop_timer){.fn = on_own_again, .data = queue};
	queue->isolated_due = (struct loop_timer){.fn = on_isolated, .data = queue};
	queue->fetch_backoff_ms = REDIS_BACKOFF_MIN_MS;
	for (size_t i = 0; i < ARRAY_SIZE(queue->cursor); i++)
		memcpy(queue->cursor[i], "~", 2); /* after every name: begin with the first */
}
