/*
 * The worker's connections to Redis, through hiredis itself, over real sockets: a server that sends what it likes, when it likes, to
 * any of the three: replies that nobody asked for, messages of no channel, halves of replies, and now and then what a Redis would say.
 * On top is the worker's own queue, with an owner that finishes what it gets. What the owner is promised is fuzz_queue's; here
 * neither hiredis nor its callbacks may end the process, leak, or keep a descriptor.
 *
 * Taken out once: welcome() in executor/redis_guard.c, so that all is let in; of the corpus unasked, message_short, message_odd and
 * message_null then end in assertions of hiredis' async.c, unsubscribe_short in a SEGV, much_asked with malloc(17179869176).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fuzz_loop.h"
#include "fuzz_input.h"

#include "base/log.h"
#include "executor/queue_internal.h"

#define SERVERS_MAX 8
#define HELD_MAX 8
#define OP_BUDGET 200
#define PIECE_MAX 4096

static char dir_path[64];
static int listener = -1;

static struct {
	struct loop *loop;
	struct queue *queue;
	bool fatal;
	struct queue_entry *held[HELD_MAX];
	size_t nheld;
	unsigned want;
	struct server {
		int fd;
		redisReader *requests;
	} servers[SERVERS_MAX];
	size_t nservers;
} scene;

/* ---- the server ---- */
static void close_server(size_t i)
{
	close(scene.servers[i].fd);
	redisReaderFree(scene.servers[i].requests);
	scene.servers[i] = scene.servers[--scene.nservers];
}

static void accept_all(void)
{
	int fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (scene.nservers == SERVERS_MAX)
			close_server(0);
		redisReader *reader = redisReaderCreate();
		CHECK(reader);
		scene.servers[scene.nservers++] = (struct server){fd, reader};
	}
}

/* What was sent to it goes to its reader. Servers that lost their worker are closed. */
static void listen_to_all(void)
{
	char buf[16384];
	for (size_t i = 0; i < scene.nservers;) {
		ssize_t n;
		while ((n = recv(scene.servers[i].fd, buf, sizeof(buf), 0)) > 0)
			CHECK(redisReaderFeed(scene.servers[i].requests, buf, (size_t)n) == REDIS_OK);
		if (n == 0 || errno != EAGAIN)
			close_server(i);
		else
			i++;
	}
}

/* Whatever is due at once, and whatever can complete. */
static void settle(void)
{
	for (unsigned turn = 0; turn < 16; turn++) {
		bool any = false;
		for (size_t i = 0; i < scene.loop->ntimers && !any; i++)
			any = scene.loop->timers[i]->deadline_us <= fuzz_clock_us;
		if (any)
			(void)fuzz_fire(scene.loop);
		fuzz_settle(scene.loop);
		accept_all();
		listen_to_all();
		if (!any)
			return;
	}
}

static void say(size_t server, const char *text, size_t len)
{
	(void)send(scene.servers[server].fd, text, len, MSG_NOSIGNAL);
	settle();
}

/* The oldest request of a server is answered as it should be. Return: false when there is none. */
static bool answer_well(size_t server)
{
	void *parsed = NULL;
	const char *text = "+OK\r\n";
	if (redisReaderGetReply(scene.servers[server].requests, &parsed) != REDIS_OK)
		CHECK(!"a request that is none");
	const redisReply *request = parsed;
	if (!request)
		return false;
	CHECK(request->type == REDIS_REPLY_ARRAY && request->elements > 0);
	const char *verb = request->element[0]->str;
	if (strcmp(verb, "PING") == 0)
		text = "+PONG\r\n";
	else if (strcmp(verb, "CONFIG") == 0)
		text = "*6\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n";
	else if (strcmp(verb, "SCRIPT") == 0)
		text = "$40\r\n0123456789012345678901234567890123456789\r\n";
	else if (strcmp(verb, "SUBSCRIBE") == 0)
		text = "*3\r\n$9\r\nsubscribe\r\n$10\r\npetri:bell\r\n:1\r\n";
	else if (strncmp(verb, "EVAL", 4) == 0 || strncmp(verb, "XREAD", 5) == 0)
		text = "*-1\r\n";
	freeReplyObject(parsed);
	say(server, text, strlen(text));
	return true;
}

/* ---- the owner ---- */
static void on_job(void *ctx, struct queue_entry *entry)
{
	CHECK(scene.want > 0 && scene.nheld < HELD_MAX && !scene.fatal);
	scene.want--;
	scene.held[scene.nheld++] = entry;
	queue_started(scene.queue, entry, entry->id_field ? entry->id_field : entry->entry_id, 1000);
}

static void forget(struct queue_entry *entry)
{
	for (size_t i = 0; i < scene.nheld; i++)
		if (scene.held[i] == entry)
			scene.held[i--] = scene.held[--scene.nheld];
}

static void on_cancel(void *ctx, const char *id)
{
	CHECK(scene.nheld > 0);
}

static void on_lost(void *ctx, struct queue_entry *entry)
{
	forget(entry);
}

static void on_finished(void *ctx, struct queue_entry *entry)
{
}

static void on_fatal(void *ctx, const struct err *err)
{
	scene.fatal = true;
}

static void on_beat(void *ctx)
{
	queue_heartbeat(scene.queue, &(struct queue_beat){.running = 1});
}

static void finish_one(void)
{
	if (scene.nheld == 0)
		return;
	struct queue_entry *entry = scene.held[0];
	forget(entry);
	queue_finish(scene.queue, entry, entry->entry_id, "{\"status\":\"exited\"}", "front", "exited", "{}");
}

/* ---- one input ---- */
static void one_op(struct input *in)
{
	unsigned op = take_byte(in), arg = op >> 3;
	size_t server = scene.nservers ? arg % scene.nservers : 0;
	char piece[PIECE_MAX];
	switch (op & 7) {
	case 0:
	case 1:
	case 2: { /* a length in one byte, or in two */
		size_t len = take_byte(in);
		if ((op & 7) == 2)
			len = len << 4 | (arg & 15);
		len = MIN(MIN(len, sizeof(piece)), in->left);
		take_bytes(in, piece, len);
		if (scene.nservers)
			say(server, piece, len);
		break;
	}
	case 3:
		for (unsigned i = 0; i <= arg && scene.nservers && answer_well(server % scene.nservers); i++)
			;
		break;
	case 4: /* of all, what they wait for */
		for (unsigned i = 0; i < 64; i++)
			if (scene.nservers && i % SERVERS_MAX < scene.nservers)
				(void)answer_well(i % SERVERS_MAX);
		break;
	case 5:
		if (scene.nservers)
			close_server(server);
		settle();
		break;
	case 6:
		if (fuzz_fire(scene.loop))
			settle();
		break;
	default:
		if (arg == 31) {
			scene.want = 0;
			queue_stop(scene.queue);
		} else if (arg & 1) {
			finish_one();
		} else {
			scene.want = MIN(arg, HELD_MAX - (unsigned)scene.nheld);
			queue_want(scene.queue, scene.want);
		}
		settle();
	}
}

static void remove_socket(void)
{
	char path[80];
	(void)snprintf(path, sizeof(path), "%s/s", dir_path);
	(void)unlink(path);
	(void)rmdir(dir_path);
}

static void begin_once(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	log_set_level(LOG_LEVEL_MAX);
	fuzz_tmp(dir_path, sizeof(dir_path), "link");
	(void)atexit(remove_socket);
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", dir_path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(listener, 64) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct queue_events events = {on_job, on_cancel, on_lost, on_finished, on_fatal, on_beat};
	struct input in = {data, size};
	struct err err = ERR_INIT;
	if (listener < 0)
		begin_once();
	unsigned before = open_fds();
	memset(&scene, 0, sizeof(scene));
	struct queue_config config = {.prefix = "petri", .name = "w", .lease_ms = 30000, .result_ttl_ms = 60000, .max_attempts = 3, .allow_volatile = true, .slots = 4};
	unsigned how = take_byte(&in);
	(void)snprintf(config.url.path, sizeof(config.url.path), "%s/s", dir_path);
	if (how & 1)
		(void)snprintf(config.url.password, sizeof(config.url.password), "secret");
	config.url.db = (how & 2) ? 1 : 0;
	CHECK(loop_new(0, &scene.loop, &err) == 0 && queue_new(scene.loop, &config, &events, NULL, &scene.queue, &err) == 0);
	settle();
	for (int i = 0; i < OP_BUDGET && in.left > 0 && !scene.fatal; i++)
		one_op(&in);
	queue_free(scene.queue);
	while (scene.nservers > 0)
		close_server(0);
	while (scene.loop->nops > 0 && fuzz_complete(scene.loop, 0))
		;
	CHECK(scene.loop->nops == 0);
	loop_free(scene.loop);
	accept_all();
	while (scene.nservers > 0)
		close_server(0);
	CHECK(open_fds() == before);
	return 0;
}
