/*
 * The worker's side of the job queue (process: petri, on the event loop; design, "Redis"). This file: its life, the
 * set-up of a fresh connection, and keys.
 *
 * Three connections. `commands` carries what must not wait: results, leases, heartbeats. `fetch` takes entries, one
 * request at a time, and blocks while there are none. `channel` is subscribed to the bell (a tenant's stream, or a
 * hand-back, has news) and to cancellations. Nothing is fetched before commands is set up: version, durability,
 * groups.
 *
 * How an entry is taken (queue_fetch.c). A script takes entries, stream by stream, never more than the free slots, drops
 * those whose id has a result already and writes the state keys of the others. When it finds nothing, the worker
 * blocks. COUNT of XREADGROUP is per stream, so a read that blocks on four streams may bring four entries: it is used
 * while at least four slots are free, and the script that follows looks at what it brought. It wakes one idle worker
 * of many. With fewer slots what blocks is XREAD, which takes nothing: it waits for an entry later than the
 * last that the group has delivered, as told by the script that found nothing, so no news is missed between the two;
 * then the first script takes it. That costs the entry's bytes twice, and wakes every worker that waits so.
 *
 * States of an entry: held (ours, its owner not told yet), out (the owner's), finishing or releasing (waits until
 * Redis has confirmed). A request that was lost on the way is sent again: every script can run twice.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "executor/queue_internal.h"

#define REDIS_MAJOR_MIN 7

void queue_key(const struct queue *queue, char out[QUEUE_KEY_MAX], const char *kind, const char *name)
{
	(void)snprintf(out, QUEUE_KEY_MAX, "%s:%s%s", queue->prefix, kind, name);
}

void queue_trouble(struct queue *queue, const char *what, const char *why, unsigned retry_ms)
{
	if (queue->troubled || queue->failed || queue->closing)
		return;
	queue->troubled = true;
	char where[400], hint[128] = "";
	redis_url_format(&queue->url, where, sizeof(where));
	if (queue->url.path[0] && strstr(why, strerror(EACCES)))
		(void)snprintf(hint, sizeof(hint), " to uid and gid %u, which this process has: see unixsocketperm of Redis", (unsigned)geteuid());
	log_warn("redis: %s: cannot %s: %s%s; retrying in %u ms", where, what, why, hint, retry_ms);
}

void queue_untroubled(struct queue *queue)
{
	if (queue->troubled && !outbox_stuck(queue)) {
		queue->troubled = false;
		log_info("redis: working again");
	}
}

void queue_fatal(struct queue *queue, const char *fmt, ...)
{
	if (queue->failed || queue->closing)
		return;
	queue->failed = true;
	queue->ready = false;
	char text[ERR_MSG_MAX], where[400];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	redis_url_format(&queue->url, where, sizeof(where));
	struct err err = ERR_INIT;
	(void)err_say(&err, EACCES, "redis: %s: %s", where, text);
	queue->events.fatal(queue->ctx, &err);
}

void queue_script(struct queue *queue, enum redis_script script, struct redis_args *args)
{
	redis_script_begin(&queue->scripts, script, QUEUE_STREAMS + 1, args);
	for (size_t i = 0; i < QUEUE_STREAMS; i++)
		redis_args_str(args, queue->stream[i]);
	redis_args_str(args, queue->tenants);
}

bool queue_noscript(struct queue *queue, const redisReply *reply)
{
	if (!reply || redis_reply_error(reply) != REDIS_ERROR_NOSCRIPT)
		return false;
	memset(&queue->scripts, 0, sizeof(queue->scripts)); /* EVAL from now on; it is loaded again on reconnect */
	return true;
}

/* ---- setting up a fresh connection: INFO, CONFIG, SCRIPT LOAD, groups ---- */

static void set_up_send(struct queue *queue, redis_reply_fn fn, const char *const *words, size_t n)
{
	_cleanup_args_ struct redis_args args = {0};
	for (size_t i = 0; i < n; i++)
		redis_args_str(&args, words[i]);
	if (redis_link_send(&queue->commands, fn, queue, &args) < 0)
		redis_link_drop(&queue->commands, "out of memory");
}

/* An error that ends the set-up. Return: true when there was one. */
static bool set_up_failed(struct queue *queue, const redisReply *reply)
{
	enum redis_error kind = redis_reply_error(reply);
	if (!reply || kind == REDIS_ERROR_NONE)
		return !reply;
	if (kind == REDIS_ERROR_AUTH)
		queue_fatal(queue, "%s; give the password as redis://user:password@… in PETRI_REDIS",
			redis_reply_text(reply));
	else if (kind == REDIS_ERROR_DENIED)
		queue_fatal(queue, "the account may not do what a worker needs: %s", redis_reply_text(reply));
	else
		redis_link_drop(&queue->commands, redis_reply_text(reply));
	return true;
}

static void set_up_done(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	if (queue_noscript(queue, reply)) {
		redis_link_drop(&queue->commands, "scripts were flushed");
		return;
	}
	if (set_up_failed(queue, reply) || queue->failed)
		return;
	queue->ready = true;
	redis_link_good(&queue->commands);
	for (struct entry *e = queue->entries; e; e = e->next)
		e->state_written = false; /* it may have expired while Redis was away */
	queue->probing = false;
	loop_timer_clear(queue->loop, &queue->outbox_retry);
	lease_renew_now(queue); /* first: what expired meanwhile is still ours if nobody took it */
	outbox_flush(queue);
	queue_untroubled(queue);
	fetch_kick(queue);
}

static void set_up_groups(struct queue *queue)
{
	_cleanup_args_ struct redis_args args = {0};
	queue_script(queue, SCRIPT_SETUP, &args);
	if (redis_link_send(&queue->commands, set_up_done, queue, &args) < 0)
		redis_link_drop(&queue->commands, "out of memory");
}

struct loading {
	struct queue *queue;
	enum redis_script script;
};

static void script_loaded(void *data, const redisReply *reply)
{
	struct loading *loading = data;
	char *sha = loading->queue->scripts.sha[loading->script];
	/* Refused: then it is sent whole every time, and the set-up script reports what is wrong. */
	if (redis_reply_is_string(reply) && reply->len == 40)
		(void)snprintf(sha, 41, "%s", reply->str);
	free(loading);
}

static void load_scripts(struct queue *queue)
{
	for (unsigned i = 0; i < SCRIPT_MAX; i++) {
		_cleanup_args_ struct redis_args args = {0};
		struct loading *loading = malloc(sizeof(*loading));
		if (!loading)
			return;
		*loading = (struct loading){queue, i};
		redis_args_str(&args, "SCRIPT");
		redis_args_str(&args, "LOAD");
		redis_args_str(&args, redis_script_text[i]);
		if (redis_link_send(&queue->commands, script_loaded, loading, &args) < 0)
			free(loading);
	}
}

static const char *config_value(const redisReply *reply, const char *name)
{
	for (size_t i = 0; redis_reply_at(reply, i + 1); i += 2)
		if (strcmp(redis_reply_text(redis_reply_at(reply, i)), name) == 0)
			return redis_reply_text(redis_reply_at(reply, i + 1));
	return "";
}

/* An accepted job survives only where XADD reaches the disk and nothing is evicted (design, "Accepted"). */
static void config_told(void *data, const redisReply *reply)
{
	static const char *const wanted[][2] = {
		{"appendonly", "yes"}, {"appendfsync", "always"}, {"maxmemory-policy", "noeviction"}};
	struct queue *queue = data;
	enum redis_error kind = redis_reply_error(reply);
	if (kind == REDIS_ERROR_DENIED || kind == REDIS_ERROR_OTHER) {
		if (!queue->config_denied_told)
			log_warn("redis: CONFIG is denied (%s): make sure that it runs with appendonly yes, appendfsync "
				 "always and maxmemory-policy noeviction, ignoring",
				redis_reply_text(reply));
		queue->config_denied_told = true;
	} else if (set_up_failed(queue, reply)) {
		return;
	} else {
		for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
			const char *value = config_value(reply, wanted[i][0]);
			if (strcmp(value, wanted[i][1]) == 0)
				continue;
			queue_fatal(queue,
				"%s is \"%s\", so accepted jobs could be lost; set it to \"%s\", or accept that with "
				"--allow-volatile-redis",
				wanted[i][0], value, wanted[i][1]);
			return;
		}
	}
	load_scripts(queue);
	set_up_groups(queue);
}

static void version_told(void *data, const redisReply *reply)
{
	struct queue *queue = data;
	if (redis_reply_error(reply) != REDIS_ERROR_DENIED && set_up_failed(queue, reply))
		return;
	const char *version = strstr(redis_reply_text(reply), "redis_version:");
	if (version && strtol(version + 14, NULL, 10) < REDIS_MAJOR_MIN) {
		queue_fatal(queue, "this is Redis %.*s, but 7.0 or later (or Valkey) is needed",
			(int)strcspn(version + 14, "\r\n"), version + 14);
		return;
	}
	if (queue->config.allow_volatile) {
		load_scripts(queue);
		set_up_groups(queue);
		return;
	}
	static const char *const words[] = {"CONFIG", "GET", "appendonly", "appendfsync", "maxmemory-policy"};
	set_up_send(queue, config_told, words, ARRAY_SIZE(words));
}

/* ---- links ---- */

/* This one has just been told by its server that it is the master: what still talks to another must not. */
static void follow(struct queue *queue, const struct redis_link *link)
{
	struct redis_link *all[] = {&queue->commands, &queue->fetch, &queue->channel};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i] != link && all[i]->up && !redis_link_same(all[i], link))
			redis_link_drop(all[i], "another server is master now");
}

static void commands_up(struct redis_link *link)
{
	follow(link->data, link);
	static const char *const words[] = {"INFO", "server"};
	set_up_send(link->data, version_told, words, ARRAY_SIZE(words));
}

static void commands_down(struct redis_link *link, const char *why)
{
	struct queue *queue = link->data;
	queue->ready = false;
	queue_trouble(queue, "connect", why, link->backoff_ms);
	redis_link_hurry(link, queue->nwaiting > 0);
}

static void fetch_up(struct redis_link *link)
{
	redis_link_good(link);
	follow(link->data, link);
	fetch_link_up(link->data);
}

static void fetch_down(struct redis_link *link, const char *why)
{
	queue_trouble(link->data, "connect", why, link->backoff_ms);
	fetch_link_down(link->data);
}

static void channel_up(struct redis_link *link)
{
	redis_link_good(link);
	follow(link->data, link);
	channel_subscribe(link->data);
}

static void channel_down(struct redis_link *link, const char *why)
{
	queue_trouble(link->data, "connect", why, link->backoff_ms);
}

static void link_refused(struct redis_link *link, const char *message)
{
	queue_fatal(link->data, "%s; check user, password and database in PETRI_REDIS", message);
}

/* ---- life ---- */

static int make_consumer(struct queue *queue, struct err *err)
{
	uint8_t bytes[16];
	char hex[33];
	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return err_set(err, errno, "getrandom");
	format_hex(bytes, sizeof(bytes), hex);
	memcpy(&queue->jitter, bytes, sizeof(queue->jitter));
	(void)snprintf(queue->consumer, sizeof(queue->consumer), "%s/%s", queue->name, hex);
	return 0;
}

static void make_keys(struct queue *queue)
{
	static const char *const kinds[QUEUE_STREAMS - 1] = {"jobs:high", "jobs", "jobs:low"};
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		queue_key(queue, queue->stream[i], kinds[i], "");
	queue_key(queue, queue->stream[QUEUE_STREAMS - 1], "jobs:worker:", queue->name);
	queue_key(queue, queue->tenants, "tenants", "");
	queue_key(queue, queue->bell, "bell", "");
	queue_key(queue, queue->cancel, "cancel", "");
}

static int check_config(const struct queue_config *config, struct err *err)
{
	if (!redis_prefix_valid(config->prefix))
		return err_say(err, EINVAL, "queue: the prefix must be 1 to 64 of letters, digits and . _ { } -");
	if (!config->name || !job_id_valid(config->name))
		return err_say(err, EINVAL, "queue: the worker's name must be 1 to 128 of letters, digits and . _ -");
	if (config->lease_ms < 100 || config->lease_ms > 86400000)
		return err_say(err, EINVAL, "queue: the lease must be between 100ms and 24h");
	if (config->result_ttl_ms < 1000 || config->max_attempts < 1)
		return err_say(err, EINVAL, "queue: the result TTL must be 1s or more, and attempts 1 or more");
	return 0;
}

int queue_new(struct loop *loop, const struct queue_config *config, const struct queue_events *events, void *ctx,
	struct queue **ret, struct err *err)
{
	static const struct redis_link_events commands_events = {commands_up, commands_down, link_refused},
					      fetch_events = {fetch_up, fetch_down, link_refused},
					      channel_events = {channel_up, channel_down, link_refused};
	int r = check_config(config, err);
	if (r < 0)
		return r;
	struct queue *queue = calloc(1, sizeof(*queue));
	if (!queue)
		return err_set(err, ENOMEM, "queue");
	queue->loop = loop;
	queue->config = *config;
	queue->events = *events;
	queue->ctx = ctx;
	queue->url = config->url;
	(void)snprintf(queue->prefix, sizeof(queue->prefix), "%s", config->prefix);
	(void)snprintf(queue->name, sizeof(queue->name), "%s", config->name);
	queue->config.prefix = queue->prefix;
	queue->config.name = queue->name;
	make_keys(queue);
	r = make_consumer(queue, err);
	if (r == 0)
		r = queue_spool_open(queue, err);
	if (r < 0) {
		free(queue);
		return r;
	}
	fetch_init(queue);
	outbox_init(queue);
	lease_init(queue);
	redis_link_init(&queue->commands, loop, &queue->url, &commands_events, queue);
	redis_link_init(&queue->fetch, loop, &queue->url, &fetch_events, queue);
	redis_link_init(&queue->channel, loop, &queue->url, &channel_events, queue);
	redis_link_connect(&queue->commands);
	redis_link_connect(&queue->fetch);
	redis_link_connect(&queue->channel);
	*ret = queue;
	return 0;
}

void queue_stats(const struct queue *queue, struct queue_stats *ret)
{
	*ret = queue->stats;
	ret->connected = queue->ready && queue->fetch.up;
	ret->undelivered = queue->nwaiting;
	ret->spooled = 0;
	for (const struct entry *e = queue->nfailed ? queue->entries : NULL; e; e = e->next)
		ret->spooled += e->spooled;
}

bool queue_drained(const struct queue *queue)
{
	bool asked = queue->fetching == FETCH_BUSY || queue->fetching == FETCH_TAKE;
	bool arriving = queue->want == 0 && (asked || queue->ntaken); /* what comes goes back */
	return queue->nwaiting == 0 && !arriving;
}

void queue_free(struct queue *queue)
{
	if (!queue)
		return;
	queue->closing = true;
	redis_link_end(&queue->fetch);
	redis_link_end(&queue->channel);
	redis_link_end(&queue->commands);
	fetch_link_down(queue); /* what was taken, and waits for a request that was not sent yet */
	loop_timer_clear(queue->loop, &queue->fetch_retry);
	loop_timer_clear(queue->loop, &queue->own_again);
	loop_timer_clear(queue->loop, &queue->isolated_due);
	loop_timer_clear(queue->loop, &queue->outbox_retry);
	loop_timer_clear(queue->loop, &queue->lease);
	loop_timer_clear(queue->loop, &queue->heartbeat);
	loop_timer_clear(queue->loop, &queue->look);
	loop_timer_clear(queue->loop, &queue->spool_due);
	for (struct entry *e; (e = queue->entries);)
		entry_leave(e);
	spool_free(queue->spool); /* what waits there waits for the next life */
	free(queue->images);
	free(queue->limits);
	explicit_bzero(&queue->url, sizeof(queue->url));
	explicit_bzero(&queue->config.url, sizeof(queue->config.url));
	free(queue);
}
