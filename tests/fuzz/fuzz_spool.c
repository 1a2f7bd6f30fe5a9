/*
 * The spool as an earlier life, a crash or a worker that was taken over left it: files of any names and content, torn or with a right
 * hash over records that are none, links and FIFOs among them. The worker's queue reads them at its start, and a Redis that takes
 * everything has the results. No crash and no leak; what is delivered was in a record, with an id that could be one; every batch of
 * which all was delivered is gone; nothing outside of the directory is touched.
 *
 * A file of the input is: a byte for what it is, a name that ends with a zero, two bytes for its length, content. Of those with bit 0
 * the header is made right, and of those with bit 1 the content is one record after the other, each with a length before it.
 *
 * Taken out once: the comparison of texts[i].len with what is left in read_record(); a SEGV in strndup(3) then (corpus: text_beyond).
 * Before entry_restore() copied a job with its zeros, the rest of one was read from beyond its memory (regressions: job_with_zero).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "fuzz_loop.h"
#include "fuzz_no_link.h"
#include "fuzz_input.h"

#include "base/fd.h"
#include "base/log.h"
#include "executor/queue_internal.h"

#define FILES_MAX 16
#define REQUESTS_MAX 512
#define TURNS 400

static char top_path[64], spool_path[80];
static size_t nrequests;
static struct request {
	struct redis_link *link;
	redis_reply_fn fn;
	void *data;
} requests[REQUESTS_MAX];

/* ---- connections that are always there ---- */
void redis_link_connect(struct redis_link *link)
{
	static redisAsyncContext nobody; /* only compared */
	link->ac = &nobody;
}

static void lose(struct redis_link *link)
{
	link->ac = NULL;
	link->up = false;
	for (size_t i = 0; i < nrequests; i++) {
		struct request r = requests[i];
		if (r.link != link)
			continue;
		memmove(&requests[i], &requests[i + 1], (--nrequests - i) * sizeof(r));
		i = SIZE_MAX;
		if (r.fn)
			r.fn(r.data, NULL);
	}
}

void redis_link_drop(struct redis_link *link, const char *why)
{
	if (!link->ac)
		return;
	lose(link);
	link->events->down(link, why);
}

void redis_link_end(struct redis_link *link)
{
	lose(link);
}

int redis_link_send(struct redis_link *link, redis_reply_fn fn, void *data, const struct redis_args *args)
{
	CHECK(redis_args_ok(args));
	for (size_t i = 0; i < args->n; i++) {
		uint8_t sum = 0;
		for (size_t k = 0; k < args->lens[i]; k++)
			sum ^= (uint8_t)args->argv[i][k]; /* all of it can be read */
		*(volatile uint8_t *)&sum = sum;
	}
	if (!link->ac)
		return -ENOTCONN;
	if (nrequests == REQUESTS_MAX)
		return -ENOMEM;
	requests[nrequests++] = (struct request){link, fn, data};
	return 0;
}

int redis_link_subscribe(struct redis_link *link, redis_reply_fn fn, const char *channel)
{
	link->published = fn;
	return 0;
}

/* One request is answered by what all who ask are content with. */
static void answer(redisReply *reply)
{
	struct request r = requests[0];
	memmove(&requests[0], &requests[1], --nrequests * sizeof(r));
	if (r.fn)
		r.fn(r.data, reply);
}

static void deliver_all(struct queue *queue, struct loop *loop, unsigned how)
{
	char yes[] = "finished", sha[] = "0123456789012345678901234567890123456789", error[] = "ERR no";
	redisReply replies[] = {{.type = REDIS_REPLY_INTEGER, .integer = 1}, {.type = REDIS_REPLY_STRING, .str = sha, .len = 40}, {.type = REDIS_REPLY_STATUS, .str = yes, .len = 8}, {.type = REDIS_REPLY_ERROR, .str = error, .len = 6}};
	struct redis_link *const links[] = {&queue->commands, &queue->fetch, &queue->channel};
	for (unsigned i = 0; i < 3; i++) {
		redis_link_connect(links[i]);
		links[i]->up = true;
		links[i]->events->up(links[i]);
	}
	for (unsigned turn = 0; turn < TURNS && queue->nwaiting > 0; turn++) {
		if (nrequests > 0)
			answer(&replies[turn < 8 ? how >> turn & 1 : (how >> (turn % 3) & 3)]);
		else if (!fuzz_fire(loop))
			break;
		fuzz_settle(loop);
	}
}

/* ---- the directory ---- */
static void plant_file(int dir, struct input *in)
{
	unsigned what = take_byte(in);
	char name[300] = "";
	for (size_t i = 0; i < sizeof(name) - 1; i++) {
		name[i] = (char)take_byte(in);
		if (!name[i])
			break;
		if (name[i] == '/')
			name[i] = '_';
	}
	size_t len = (size_t)take_byte(in) << 4 | what >> 4;
	len = MIN(len, in->left);
	if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return;
	if ((what & 12) == 12) { /* no file */
		if (what & 1)
			(void)mkfifoat(dir, name, 0600);
		else if (what & 2)
			(void)!symlinkat("../kept", dir, name);
		else
			(void)mkdirat(dir, name, 0700);
		return;
	}
	struct {
		char magic[8];
		uint64_t records, bytes, hash;
		uint8_t body[1 << 13];
	} file;
	size_t at = 0;
	memcpy(file.magic, "petrisp1", 8);
	file.records = 0;
	const uint8_t *from = in->at;
	for (size_t left = len; left > 0;) {
		uint64_t size = what & 2 ? MIN((uint64_t)(*from + (left > 1 ? from[1] * 256u : 0)), left - MIN(left, 2)) : left;
		if (what & 2) {
			from += MIN(left, 2);
			left -= MIN(left, 2);
			if (at + sizeof(size) + size > sizeof(file.body))
				break;
			memcpy(file.body + at, &size, sizeof(size));
			at += sizeof(size);
		}
		memcpy(file.body + at, from, size);
		at += size;
		from += size;
		left -= size;
		file.records++;
	}
	take_bytes(in, &(uint8_t[1 << 13]){0}, len);
	file.bytes = at;
	file.hash = XXH3_64bits(file.body, at);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (what & 1)
		CHECK(fd_write_all(fd, &file, sizeof(file) - sizeof(file.body)) == 0);
	CHECK(fd_write_all(fd, file.body, at) == 0);
	close(fd);
}

static void empty_spool(void)
{
	DIR *dir = opendir(spool_path);
	CHECK(dir);
	for (struct dirent *d; (d = readdir(dir));)
		if (d->d_name[0] != '.' || (d->d_name[1] && strcmp(d->d_name, "..") != 0))
			CHECK(unlinkat(dirfd(dir), d->d_name, d->d_type == DT_DIR ? AT_REMOVEDIR : 0) == 0);
	closedir(dir);
}

static void check_kept(void)
{
	char path[100], text[8];
	(void)snprintf(path, sizeof(path), "%s/kept", top_path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && fd_read_all(fd, text, sizeof(text)) == 4 && memcmp(text, "kept", 4) == 0);
	close(fd);
}

static void remove_all(void)
{
	char path[100];
	(void)snprintf(path, sizeof(path), "%s/kept", top_path);
	(void)unlink(path);
	(void)rmdir(spool_path);
	(void)rmdir(top_path);
}

static void begin_once(void)
{
	char path[100];
	log_set_level(LOG_LEVEL_MAX);
	fuzz_tmp(top_path, sizeof(top_path), "spool");
	(void)snprintf(spool_path, sizeof(spool_path), "%s/spool", top_path);
	(void)snprintf(path, sizeof(path), "%s/kept", top_path);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(mkdir(spool_path, 0700) == 0 && fd >= 0 && fd_write_all(fd, "kept", 4) == 0);
	close(fd);
	(void)atexit(remove_all);
}

static void on_finished(void *ctx, struct queue_entry *entry)
{
	CHECK(!"nobody has this entry");
}

static void on_fatal(void *ctx, const struct err *err)
{
}

static void on_beat(void *ctx)
{
}

/* Each waits once, with an id, a stream and a result. */
static void check_entries(const struct queue *queue)
{
	size_t waiting = 0;
	for (const struct entry *e = queue->entries; e; e = e->next) {
		waiting += e->state == ENTRY_FINISHING;
		CHECK(e->state == ENTRY_FINISHING && e->spooled && e->batch && e->result && e->stream);
		CHECK(job_id_valid(e->id) && job_id_valid(e->entry_id));
	}
	CHECK(waiting == queue->nwaiting && queue->nout == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct queue_events events = {.finished = on_finished, .fatal = on_fatal, .beat = on_beat};
	struct input in = {data, size};
	struct err err = ERR_INIT;
	struct loop *loop = NULL;
	if (!top_path[0])
		begin_once();
	unsigned before = open_fds(), how = take_byte(&in);
	struct queue_config config = {.prefix = "petri", .name = "w", .lease_ms = 30000, .result_ttl_ms = 60000, .max_attempts = 3, .allow_volatile = true, .slots = 4};
	config.spool = open(spool_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(config.spool >= 0);
	for (unsigned i = 0; i < FILES_MAX && in.left > 0; i++)
		plant_file(config.spool, &in);
	for (unsigned life = 0; life < 2; life++) { /* what the first one leaves, the second one reads */
		struct queue *queue = NULL;
		nrequests = 0;
		if (config.spool < 0)
			config.spool = open(spool_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		CHECK(loop_new(0, &loop, &err) == 0 && queue_new(loop, &config, &events, NULL, &queue, &err) == 0);
		config.spool = -1;
		check_entries(queue);
		deliver_all(queue, loop, how);
		queue_free(queue);
		while (loop->nops > 0 && fuzz_complete(loop, 0))
			;
		CHECK(loop->nops == 0);
		loop_free(loop);
	}
	check_kept();
	empty_spool();
	CHECK(open_fds() == before);
	return 0;
}
