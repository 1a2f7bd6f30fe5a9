/*
 * The worker's side of the queue against a hostile Redis: replies to whatever is asked, in the order of the requests as hiredis has
 * them but with any content, messages of channels, lost connections, while its owner takes, starts, finishes and hands back jobs. No
 * crash and no leak; the owner sees only what it was promised: no more jobs than it wants, none from inside a call of its own, one that
 * was delivered before alone, each entry's end once. With a spool when the first byte says so.
 *
 * Taken out once: fetch_link_down() in queue_free(); regressions/fuzz_queue/taken_at_the_end then leaks four entries.
 */
#include <dirent.h>
#include <fcntl.h>

#include "fuzz_loop.h"
#include "fuzz_no_link.h"
#include "fuzz_redis.h"

#include "base/log.h"
#include "executor/queue_internal.h"

#define REQUESTS_MAX 1024
#define HELD_MAX 16
#define OP_BUDGET 300

struct request {
	struct redis_link *link;
	redis_reply_fn fn;
	void *data;
	unsigned connection;
	char verb[8];
};

enum { OUT,
	FINISHING };

static struct {
	struct queue *queue;
	struct loop *loop;
	struct request requests[REQUESTS_MAX];
	size_t nrequests;
	unsigned depth; /* inside a reply's callback */
	unsigned connections;
	bool inside;   /* a call of the owner's */
	unsigned want; /* the owner's, less what came */
	bool fatal;
	struct {
		struct queue_entry *entry;
		char id[JOB_ID_MAX + 1];
		bool started, finishing;
	} held[HELD_MAX];
	size_t nheld, nout;
} scene;

static char spool_path[64];

/* ---- the connections ---- */
struct side { /* in the place of hiredis' context */
	unsigned connection;
};

static unsigned connection_of(const struct redis_link *link)
{
	return link->ac ? (unsigned)(uintptr_t)link->ac : 0;
}

void redis_link_connect(struct redis_link *link)
{
	link->ac = (redisAsyncContext *)(uintptr_t)++scene.connections; /* only compared */
}

/* Those of connections that are gone. From inside a callback hiredis does it when that is over. */
static void flush_lost(void)
{
	for (size_t i = 0; scene.depth == 0 && i < scene.nrequests; i++) {
		struct request r = scene.requests[i];
		if (connection_of(r.link) == r.connection)
			continue;
		memmove(&scene.requests[i], &scene.requests[i + 1], (--scene.nrequests - i) * sizeof(r));
		i = SIZE_MAX; /* from the beginning: the callback may do anything */
		if (r.fn) {
			scene.depth++;
			r.fn(r.data, NULL);
			scene.depth--;
		}
	}
}

static void lose(struct redis_link *link)
{
	link->ac = NULL;
	link->up = false;
	flush_lost();
}

void redis_link_drop(struct redis_link *link, const char *why)
{
	if (!link->ac)
		return;
	char text[128];
	(void)snprintf(text, sizeof(text), "%s", why);
	lose(link);
	link->events->down(link, text);
}

void redis_link_end(struct redis_link *link)
{
	CHECK(scene.depth == 0);
	lose(link);
}

int redis_link_send(struct redis_link *link, redis_reply_fn fn, void *data, const struct redis_args *args)
{
	CHECK(redis_args_ok(args));
	for (size_t i = 0; i < args->n; i++) {
		volatile char last = args->lens[i] ? args->argv[i][args->lens[i] - 1] : 0;
		(void)last;
	}
	if (!link->ac)
		return -ENOTCONN;
	if (scene.nrequests == REQUESTS_MAX)
		return -ENOMEM;
	struct request *r = &scene.requests[scene.nrequests++];
	*r = (struct request){link, fn, data, connection_of(link), ""};
	(void)snprintf(r->verb, sizeof(r->verb), "%s", args->argv[0]);
	return 0;
}

int redis_link_subscribe(struct redis_link *link, redis_reply_fn fn, const char *channel)
{
	if (!link->ac)
		return -ENOTCONN;
	link->published = fn;
	return 0;
}

static struct redis_link *link_of(unsigned i)
{
	struct redis_link *const links[] = {&scene.queue->commands, &scene.queue->fetch, &scene.queue->channel};
	return links[i % 3];
}

/* The oldest request of a connection has its answer. Return: false when there is none. */
static bool answer(const struct redis_link *link, const redisReply *reply)
{
	for (size_t i = 0; i < scene.nrequests; i++) {
		struct request r = scene.requests[i];
		if (r.link != link)
			continue;
		memmove(&scene.requests[i], &scene.requests[i + 1], (--scene.nrequests - i) * sizeof(r));
		scene.depth++;
		if (r.fn)
			r.fn(r.data, reply);
		scene.depth--;
		flush_lost();
		return true;
	}
	return false;
}

static redisReply *reply_of(const char *text)
{
	struct input in = {(const uint8_t *)text, strlen(text)};
	redisReply *reply = take_reply(&in);
	CHECK(reply);
	return reply;
}

/* As a Redis would that is as it should be: until the queue is set up. */
static void set_up_well(void)
{
	struct redis_link *link = &scene.queue->commands;
	for (int i = 0; i < 32 && !scene.queue->ready; i++) {
		const char *text = "+OK\r\n";
		size_t k = 0;
		while (k < scene.nrequests && scene.requests[k].link != link)
			k++;
		if (k == scene.nrequests)
			return;
		if (strcmp(scene.requests[k].verb, "CONFIG") == 0)
			text = "*6\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n";
		else if (strcmp(scene.requests[k].verb, "SCRIPT") == 0)
			text = "$40\r\n0123456789012345678901234567890123456789\r\n";
		redisReply *reply = reply_of(text);
		(void)answer(link, reply);
		freeReplyObject(reply);
	}
}

/* ---- the owner ---- */
static size_t find(const struct queue_entry *entry)
{
	for (size_t i = 0; i < scene.nheld; i++)
		if (scene.held[i].entry == entry)
			return i;
	CHECK(!"an entry that is not the owner's");
}

static void forget(size_t i)
{
	scene.nout -= !scene.held[i].finishing;
	scene.held[i] = scene.held[--scene.nheld];
}

#define CALL(what) \
	do { \
		bool was = scene.inside; \
		scene.inside = true; \
		what; \
		scene.inside = was; \
	} while (0)

static void start(size_t i)
{
	const struct queue_entry *entry = scene.held[i].entry;
	if (scene.held[i].started || scene.held[i].finishing)
		return;
	scene.held[i].started = true;
	(void)snprintf(scene.held[i].id, JOB_ID_MAX + 1, "%s", entry->id_field ? entry->id_field : entry->entry_id);
	CALL(queue_started(scene.queue, scene.held[i].entry, scene.held[i].id, 1000));
}

static void finish(size_t i)
{
	if (scene.held[i].finishing)
		return;
	start(i);
	scene.held[i].finishing = true;
	scene.nout--;
	CALL(queue_finish(scene.queue, scene.held[i].entry, scene.held[i].id, "{\"status\":\"exited\"}", "front", "exited", "{}"));
}

static void on_job(void *ctx, struct queue_entry *entry)
{
	CHECK(!scene.inside && !scene.fatal && scene.want > 0 && scene.nheld < HELD_MAX);
	CHECK(entry->json[entry->json_len] == '\0' && entry->json_len <= JOB_JSON_MAX && job_id_valid(entry->entry_id));
	CHECK(!entry->id_field || job_id_valid(entry->id_field));
	CHECK(entry->attempt == 1 ? true : scene.nout == 0);
	for (size_t i = 0; i < scene.nheld; i++)
		CHECK(scene.held[i].entry != entry && (scene.held[i].finishing || scene.held[i].entry->attempt == 1));
	scene.want--;
	scene.held[scene.nheld].entry = entry;
	scene.held[scene.nheld].started = scene.held[scene.nheld].finishing = false;
	scene.nheld++;
	scene.nout++;
	if (entry->json_len % 3 == 1)
		start(scene.nheld - 1);
	else if (entry->json_len % 3 == 2)
		finish(scene.nheld - 1);
}

static void on_cancel(void *ctx, const char *id)
{
	size_t i = 0;
	while (i < scene.nheld && !(scene.held[i].started && !scene.held[i].finishing && strcmp(scene.held[i].id, id) == 0))
		i++;
	CHECK(i < scene.nheld && !scene.inside);
	if (id[0] & 1)
		finish(i);
}

static void on_lost(void *ctx, struct queue_entry *entry)
{
	size_t i = find(entry);
	CHECK(!scene.inside && !scene.held[i].finishing);
	forget(i);
}

static void on_finished(void *ctx, struct queue_entry *entry)
{
	size_t i = find(entry);
	CHECK(!scene.inside && scene.held[i].finishing);
	forget(i);
}

static void on_fatal(void *ctx, const struct err *err)
{
	CHECK(!scene.fatal && err->msg[0]);
	scene.fatal = true;
}

static void on_beat(void *ctx)
{
	queue_heartbeat(scene.queue, &(struct queue_beat){.running = 1});
}

static void on_look(void *ctx, const struct queue_look *look)
{
	CHECK(look->at_us > 0);
}

/* ---- one input ---- */
static void publish(struct input *in, const char *channel)
{
	redisReply *raw = take_reply(in);
	redisReply kind = {.type = REDIS_REPLY_STRING, .str = (char *)"message", .len = 7}, name = {.type = REDIS_REPLY_STRING, .str = (char *)channel, .len = strlen(channel)};
	redisReply *parts[] = {&kind, &name, raw}, whole = {.type = REDIS_REPLY_ARRAY, .elements = 3, .element = parts};
	if (raw && scene.queue->channel.published) {
		scene.depth++;
		scene.queue->channel.published(scene.queue->channel.data, channel[0] ? &whole : raw);
		scene.depth--;
		flush_lost();
	}
	freeReplyObject(raw);
}

static void link_up(struct redis_link *link)
{
	if (!link->ac)
		redis_link_connect(link);
	if (!link->up) {
		link->up = true;
		scene.depth++;
		link->events->up(link);
		scene.depth--;
		flush_lost();
	}
}

static void one_op(struct input *in)
{
	unsigned op = take_byte(in), arg = op >> 4;
	struct redis_link *link = link_of(arg);
	redisReply *reply;
	size_t i = scene.nheld ? arg % scene.nheld : 0;
	switch (op & 15) {
	case 0:
	case 1:
	case 2:
		reply = take_reply(in);
		if (reply)
			(void)answer(link_of(op & 15), reply);
		freeReplyObject(reply);
		break;
	case 3:
		link_up(link);
		break;
	case 4:
		redis_link_drop(link, "lost");
		break;
	case 5:
		publish(in, arg & 1 ? scene.queue->cancel : arg & 2 ? scene.queue->bell
								    : "");
		break;
	case 6:
	case 7:
		(void)fuzz_fire(scene.loop);
		break;
	case 8:
		if (scene.nheld)
			finish(i);
		break;
	case 9:
		if (scene.nheld && !scene.held[i].finishing) {
			struct queue_entry *entry = scene.held[i].entry;
			forget(i);
			CALL(queue_release(scene.queue, entry, (entry->attempt & 1) != 0));
		}
		break;
	case 10:
		scene.want = MIN(arg, HELD_MAX - (unsigned)scene.nheld);
		CALL(queue_want(scene.queue, scene.want));
		break;
	case 11:
		if (arg == 15) {
			scene.want = 0;
			CALL(queue_stop(scene.queue));
		} else if (scene.nheld) {
			start(i);
		}
		break;
	case 12:
		(void)fuzz_complete(scene.loop, arg);
		break;
	case 13:
		CALL(queue_look(scene.queue, on_look, NULL));
		break;
	case 14:
		link_up(&scene.queue->commands);
		set_up_well();
		link_up(&scene.queue->fetch);
		link_up(&scene.queue->channel);
		break;
	default:
		link->events->refused(link, "WRONGPASS");
	}
}

static int open_spool(void)
{
	if (!spool_path[0])
		fuzz_tmp(spool_path, sizeof(spool_path), "queue");
	return open(spool_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void empty_spool(void)
{
	DIR *dir = spool_path[0] ? opendir(spool_path) : NULL;
	for (struct dirent *d; dir && (d = readdir(dir));)
		if (d->d_name[0] != '.')
			(void)unlinkat(dirfd(dir), d->d_name, 0);
	if (dir)
		closedir(dir);
}

static void remove_spool(void)
{
	(void)rmdir(spool_path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct queue_events events = {on_job, on_cancel, on_lost, on_finished, on_fatal, on_beat};
	static bool begun;
	struct input in = {data, size};
	struct err err = ERR_INIT;
	if (!begun) {
		log_set_level(LOG_LEVEL_MAX);
		(void)atexit(remove_spool);
	}
	begun = true;
	int lowest = lowest_fd();
	memset(&scene, 0, sizeof(scene));
	unsigned how = take_byte(&in);
	struct queue_config config = {.prefix = "petri", .name = "w", .lease_ms = 30000, .result_ttl_ms = 60000, .max_attempts = 3, .allow_volatile = how & 2, .slots = 4};
	if (how & 1)
		config.spool = open_spool();
	CHECK(loop_new(0, &scene.loop, &err) == 0 && queue_new(scene.loop, &config, &events, NULL, &scene.queue, &err) == 0);
	for (int i = 0; i < OP_BUDGET && in.left > 0 && !scene.fatal; i++)
		one_op(&in);
	/* Every entry is somebody's, and counted once. */
	size_t out = 0, waiting = 0;
	for (const struct entry *e = scene.queue->entries; e; e = e->next) {
		out += e->state == ENTRY_OUT;
		waiting += e->state == ENTRY_FINISHING || e->state == ENTRY_RELEASING;
		CHECK(entry_find(scene.queue, e->stream, e->entry_id));
	}
	CHECK(out == scene.nout && out == scene.queue->nout && waiting == scene.queue->nwaiting && scene.queue->nfailed <= waiting);
	queue_free(scene.queue);
	CHECK(scene.nrequests == 0);
	while (scene.loop->nops > 0 && fuzz_complete(scene.loop, 0))
		;
	CHECK(scene.loop->nops == 0);
	loop_free(scene.loop);
	if (how & 1)
		empty_spool();
	CHECK(lowest_fd() == lowest);
	return 0;
}
