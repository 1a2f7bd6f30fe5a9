/*
 * Runtimes in their slots: an interpreter is sent to a fresh zygote as if it were the job, says when it is ready, and is told its job
 * when there is one. It runs in the sandbox as the job's user, so nothing that it writes is believed beyond one byte: 'R', ready; or 'N',
 * no, before its job has begun, upon which that runs anew in a plain zygote. A runtime that fails costs a line in the log, never a job.
 * Worker, unprivileged, on the event loop.
 */
#include "executor/engine_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#define READY_PATIENCE_US 10000000ull
#define READY_WAITS_MAX 6    /* times that patience, where many are started at once */
#define RETRY_US 60000000ull /* after a failure; doubled with each in a row */
#define RETRY_DOUBLINGS_MAX 5u
#define READY_PIPE_BYTES 4096 /* one page: two bytes ever pass */

/* ---- which there are ---- */
static struct runtime *keep_runtime(struct engine *engine, struct runtime *made)
{
	for (size_t i = 0; i < engine->nruntimes; i++)
		if (runtime_equal(engine->runtimes[i], made))
			return engine->runtimes[i];
	struct runtime *runtime = engine->nruntimes < RUNTIMES_MAX ? malloc(sizeof(*runtime)) : NULL;
	if (!runtime)
		return NULL;
	*runtime = *made;
	*made = (struct runtime){0};
	engine->runtimes[engine->nruntimes++] = runtime;
	return runtime;
}

struct runtime *engine_runtime(struct engine *engine, const struct image *image)
{
	struct runtime made;
	/* With one job there is nothing to be ahead of. */
	if (engine->config.one_job)
		return NULL;
	int r = runtime_make(image, &made);
	if (r == 0 && made.command.len > DISPATCH_INLINE_MAX) {
		runtime_clear(&made);
		r = -E2BIG;
	}
	if (r < 0)
		log_debug("image=%s its runtime is not known here or too large, ignoring", image->name);
	if (r != 0)
		return NULL;
	struct runtime *runtime = keep_runtime(engine, &made);
	runtime_clear(&made);
	return runtime && now_us() >= runtime->retry_us ? runtime : NULL;
}

void runtime_failed(struct seat *seat, const char *why)
{
	struct runtime *runtime = seat->runtime;
	uint64_t now = now_us();
	if (seat->state == SEAT_RETIRED)
		return;
	if (now >= runtime->retry_us) { /* else another slot's has failed just now */
		uint64_t pause = RETRY_US << MIN(runtime->failures, RETRY_DOUBLINGS_MAX);
		runtime->failures++;
		runtime->retry_us = now + pause;
		log_warn("runtime failed: program=\"%s\" slot=%u why=\"%s\", jobs start without it for %" PRIu64 " s",
			runtime->command.text, seat->index, why, pause / 1000000);
	}
	seat_stamp(seat, &seat->plan, NULL);
}

/* ---- start ---- */
static void on_ready(struct loop_op *op, int res);
static void on_ready_late(struct loop_timer *timer);

/* Both ends of two pipes. @inside: what the runtime gets. */
static int make_pipes(struct zygote_ref *z, int inside[2])
{
	int ready[2], job[2];
	if (pipe2(ready, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(job, O_CLOEXEC) < 0) {
		int r = -errno;
		fd_close_many(ready, 2);
		return r;
	}
	(void)fcntl(ready[1], F_SETPIPE_SZ, READY_PIPE_BYTES);
	(void)fcntl(job[1], F_SETFL, O_NONBLOCK);
	z->ready = ready[0];
	z->job = job[1];
	inside[0] = ready[1];
	inside[1] = job[0];
	return 0;
}

static int send_runtime(const struct seat *seat, const int inside[2])
{
	static char datagram[sizeof(struct dispatch) + DISPATCH_INLINE_MAX]; /* one loop, one thread */
	const struct command *c = &seat->runtime->command;
	const struct job_limits *usual = &seat->engine->usual;
	const struct dispatch head = {.magic = DISPATCH_MAGIC, .flags = DISPATCH_RUNTIME, .argc = c->argc, .envc = c->envc, .strings_len = (uint32_t)c->len, .open_files = usual->open_files, .stack_bytes = usual->stack_bytes, .file_bytes = UINT64_MAX};
	memcpy(datagram, &head, sizeof(head));
	memcpy(datagram + sizeof(head), c->text, c->len);
	return fd_send(seat->zygote->control, datagram, sizeof(head) + c->len, inside, 2);
}

/* What an earlier job left may be too little to start an interpreter under; a leaf that is new holds nothing at all. */
static int set_leaf(struct seat *seat)
{
	static const struct leaf_limits none;
	const struct engine *engine = seat->engine;
	const struct job_limits *usual = &seat->engine->usual;
	struct leaf_limits limits = seat->leaf.fresh ? none : seat->leaf.held;
	uint64_t cpus = usual->cpus_milli >= engine->ncpus * 1000ull ? 0 : usual->cpus_milli;
	limits.memory_bytes = MAX(limits.memory_bytes, usual->memory_bytes);
	limits.pids = MAX(limits.pids, usual->pids);
	if (seat->leaf.fresh || (limits.cpus_milli > 0 && limits.cpus_milli < usual->cpus_milli))
		limits.cpus_milli = cpus;
	return leaf_apply(&seat->leaf, &engine->host, &limits, NULL);
}

void runtime_start(struct seat *seat)
{
	struct engine *engine = seat->engine;
	struct zygote_ref *z = seat->zygote;
	int inside[2] = {-1, -1};
	int r = set_leaf(seat);
	if (r == 0)
		r = make_pipes(z, inside);
	if (r == 0)
		r = send_runtime(seat, inside);
	fd_close_many(inside, 2);
	if (r < 0) { /* no fault of the runtime's; the zygote is there all the same */
		log_debug("slot=%u no runtime is started: %s, ignoring", seat->index, strerror(-r));
		seat->runtime = NULL;
		seat_ready(seat);
		return;
	}
	seat->runtime_ran = true;
	seat->warm_waits = 0;
	seat->warm = (struct loop_timer){.fn = on_ready_late, .data = seat};
	loop_timer_clear(engine->loop, &seat->retry);
	loop_timer_set(engine->loop, &seat->warm, now_us() + READY_PATIENCE_US);
	streams_read(z);
	z->ready_op = (struct loop_op){.fn = on_ready, .data = z};
	loop_read(z->loop, &z->ready_op, z->ready, z->ready_buf, sizeof(z->ready_buf));
}

static unsigned starting(const struct engine *engine)
{
	unsigned n = 0;
	for (unsigned i = 0; i < engine->nseats; i++)
		n += engine->seats[i].state == SEAT_STAMPING && engine->seats[i].runtime_ran;
	return n;
}

static void on_ready_late(struct loop_timer *timer)
{
	struct seat *seat = timer->data;
	if (seat->state != SEAT_STAMPING)
		return;
	/* A thousand slots at once take their time, and it is nobody's fault. */
	if (++seat->warm_waits < READY_WAITS_MAX && starting(seat->engine) > 4 * seat->engine->ncpus)
		loop_timer_set(seat->engine->loop, timer, now_us() + READY_PATIENCE_US);
	else
		runtime_failed(seat, "it was not ready in time");
}

static void became_ready(struct zygote_ref *z)
{
	struct seat *seat = z->seat;
	loop_timer_clear(z->loop, &seat->warm);
	seat->runtime->failures = 0;
	loop_read(z->loop, &z->ready_op, z->ready, z->ready_buf, sizeof(z->ready_buf));
	seat_ready(seat);
}

/* Hostile from its exec on: a byte at a time counts, in one state each. */
static void on_ready(struct loop_op *op, int res)
{
	struct zygote_ref *z = op->data;
	struct seat *seat = z->seat;
	char said = (char)(res == 1 ? z->ready_buf[0] : '\0');
	if (res == -EAGAIN || res == -EINTR) {
		loop_read(z->loop, op, z->ready, z->ready_buf, sizeof(z->ready_buf));
	} else if (seat->state == SEAT_STAMPING) {
		if (said == 'R')
			became_ready(z);
		else
			runtime_failed(seat, "it did not say that it is ready");
	} else if (seat->runtime_ran) { /* ready, without a job yet; to close fd 3 by now is fine */
		if (res > 0)
			runtime_failed(seat, "it said more than that it is ready");
	} else if (seat->state == SEAT_RUNNING) {
		seat->run->declined = said == 'N';
		run_maybe_finish(seat->run);
	}
}

/* ---- the job ---- */
bool runtime_fits(const struct seat *seat, const struct run *run)
{
	uint64_t used = 0;
	if (!seat->runtime || seat->runtime != run->runtime)
		return false;
	/* With little more memory than the interpreter has already, the job shall end as it would from the start. */
	if (run->limits.memory_bytes >= run->engine->usual.memory_bytes)
		return true;
	return fd_pread_u64(seat->leaf.fd[KNOB_MEMORY_NOW], &used) == 0 && used <= run->limits.memory_bytes / 2;
}

/* As much as the pipe takes; the rest when there is room. It may never be read: then the job ends by its limits. */
static void push_job(struct zygote_ref *z);

static void on_job_writable(struct loop_op *op, int res)
{
	struct zygote_ref *z = op->data;
	if (res >= 0 && z->job >= 0 && z->seat->state == SEAT_RUNNING)
		push_job(z);
}

static void push_job(struct zygote_ref *z)
{
	struct run *run = z->seat->run;
	while (run->job_json_at < run->job_json_len) {
		ssize_t n = write(z->job, run->job_json + run->job_json_at, run->job_json_len - run->job_json_at);
		if (n >= 0) {
			run->job_json_at += (size_t)n;
		} else if (errno == EAGAIN) {
			z->job_op = (struct loop_op){.fn = on_job_writable, .data = z};
			loop_poll(z->loop, &z->job_op, z->job, POLLOUT);
			return;
		} else if (errno != EINTR) {
			break; /* nobody reads: the end will tell */
		}
	}
	cleanup_close(&z->job);
}

void runtime_give(struct run *run)
{
	run->ej->dispatched_ns = now_ns();
	run->seat->runtime_ran = false;
	run->warm = true;
	run->job_json_at = 0;
	push_job(run->seat->zygote);
}
