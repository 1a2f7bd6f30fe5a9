/*
 * The worker's event loop (process: petri, unprivileged, one thread): one io_uring and a heap of timers.
 *
 * A step submits everything that callbacks asked for since the last one and waits, in one io_uring_enter(2),
 * until a completion is there or the nearest timer is due; then it runs the callbacks of a batch of
 * completions, then the timers that are due. Nothing is submitted from inside a callback unless the
 * submission queue is full.
 *
 * An op's address is its user_data. A request to cancel names that address, and is always queued behind the
 * op it means and ahead of any later op at the same address, so it can never hit the wrong one. Cancel
 * requests themselves complete with user_data 0 and are dropped.
 *
 * The ring is SINGLE_ISSUER | DEFER_TASKRUN where the kernel has it (6.1): completions are then made only
 * inside our own io_uring_enter, on a warm cache, and never by interrupting a callback. Such a ring belongs
 * to the task that made it: a fork may not use it.
 *
 * The ring is restricted to what is called here (loop_ring.h): another operation needs a line there.
 *
 * It fails only when the ring cannot be made or entered. An op that cannot be queued (no memory in the
 * kernel) completes with that error on the next step.
 */
#include "executor/loop.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/loop_ring.h"

#define BATCH 64
#define FREE_WAIT_US 1000000

struct failure {
	struct loop_op *op;
	int res;
};

struct loop {
	struct io_uring ring;
	bool stopped, closing;
	size_t inflight;	  /* ops armed in the ring */
	unsigned round;		  /* counts the times that all of them were handed to the kernel */
	struct loop_timer **heap; /* heap[1..ntimers], the nearest first */
	size_t ntimers, heap_cap;
	struct failure *failures; /* ops that never reached the ring */
	size_t nfailures, failures_cap;
};

/* A list of pointers that cannot grow would mean a deadline or a completion that is silently lost. */
static void *grow(void *array, size_t *cap, size_t need, size_t size)
{
	if (need <= *cap)
		return array;
	size_t bigger = MAX(need, *cap ? *cap * 2 : 64);
	void *p = reallocarray(array, bigger, size);
	if (!p) {
		log_error("event loop: out of memory");
		abort();
	}
	*cap = bigger;
	return p;
}

/* ---- set-up and end ---- */

int loop_new(unsigned entries, struct loop **ret, struct err *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return err_set(err, ENOMEM, "event loop");
	int r = ring_open(entries ? entries : 256, &loop->ring);
	if (r < 0) {
		free(loop);
		if (r == -EPERM || r == -ENOSYS)
			return err_say(err, r,
				"event loop: io_uring is not allowed here (see sysctl "
				"kernel.io_uring_disabled, and the "
				"container's seccomp profile)");
		return err_set(err, r, "event loop: io_uring_setup");
	}
	if (!(loop->ring.features & IORING_FEAT_EXT_ARG)) {
		io_uring_queue_exit(&loop->ring);
		free(loop);
		return err_say(err, ENOSYS,
			"event loop: io_uring without timed waits: Linux 6.1 is the lowest supported");
	}
	*ret = loop;
	return 0;
}

static void op_complete(struct loop *loop, struct loop_op *op, int res)
{
	op->armed = false;
	if (loop->closing && !op->cancelled)
		return;
	op->cancelled = false;
	op->fn(op, res);
}

static size_t reap(struct loop *loop)
{
	struct io_uring_cqe *cqes[BATCH];
	struct failure done[BATCH];
	unsigned n = io_uring_peek_batch_cqe(&loop->ring, cqes, BATCH);
	size_t ndone = 0;
	/* Copied out first: a callback may submit, and the kernel may then want the room. */
	for (unsigned i = 0; i < n; i++) {
		struct loop_op *op = io_uring_cqe_get_data(cqes[i]);
		if (op)
			done[ndone++] = (struct failure){op, cqes[i]->res};
	}
	io_uring_cq_advance(&loop->ring, n);
	loop->inflight -= ndone;
	for (size_t i = 0; i < ndone; i++)
		op_complete(loop, done[i].op, done[i].res);
	return n;
}

/* The kernel must be done with every buffer before their owners free them, and closing the ring does not
 * wait. */
static void cancel_all(struct loop *loop)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
	if (!sqe) {
		(void)io_uring_submit(&loop->ring);
		sqe = io_uring_get_sqe(&loop->ring);
	}
	if (sqe) {
		io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
		io_uring_sqe_set_data(sqe, NULL);
	}
	uint64_t until = now_us() + FREE_WAIT_US;
	while (loop->inflight && now_us() < until) {
		struct io_uring_cqe *cqe;
		struct __kernel_timespec ts = {.tv_nsec = 10000000};
		(void)io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &ts, NULL);
		while (reap(loop) == BATCH)
			;
	}
	if (loop->inflight)
		log_warn("event loop: %zu operations did not end in time, ignoring", loop->inflight);
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop->closing = true;
	for (size_t i = 0; i < loop->nfailures; i++)
		op_complete(loop, loop->failures[i].op, loop->failures[i].res);
	if (loop->inflight)
		cancel_all(loop);
	for (size_t i = 1; i <= loop->ntimers; i++)
		loop->heap[i]->heap_index = 0;
	io_uring_queue_exit(&loop->ring);
	free(loop->heap);
	free(loop->failures);
	free(loop);
}

/* ---- ops ---- */

static int submit(struct loop *loop)
{
	int r = io_uring_submit(&loop->ring);
	loop->round += io_uring_sq_ready(&loop->ring) == 0;
	return r;
}

static struct io_uring_sqe *sqe_get(struct loop *loop, int *ret_error)
{
	*ret_error = 0;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
	for (int i = 0; !sqe && i < 3; i++) { /* full: what is queued goes in at once */
		int r = submit(loop);
		if (r < 0)
			*ret_error = r;
		sqe = io_uring_get_sqe(&loop->ring);
	}
	return sqe;
}

static void op_fail(struct loop *loop, struct loop_op *op, int res)
{
	loop->failures = grow(
		loop->failures, &loop->failures_cap, loop->nfailures + 1, sizeof(*loop->failures));
	loop->failures[loop->nfailures++] = (struct failure){op, res};
}

static struct io_uring_sqe *op_arm(struct loop *loop, struct loop_op *op)
{
	if (loop->closing)
		return NULL;
	if (op->armed) { /* would complete twice */
		log_error("event loop: an operation was armed twice");
		abort();
	}
	int error;
	struct io_uring_sqe *sqe = sqe_get(loop, &error);
	op->armed = true;
	op->cancelled = false;
	op->round = loop->round;
	if (!sqe) {
		op_fail(loop, op, error ? error : -EBUSY);
		return NULL;
	}
	loop->inflight++;
	return sqe;
}

void loop_poll(struct loop *loop, struct loop_op *op, int fd, unsigned events)
{
	struct io_uring_sqe *sqe = op_arm(loop, op);
	if (!sqe)
		return;
	io_uring_prep_poll_add(sqe, fd, events);
	io_uring_sqe_set_data(sqe, op);
}

void loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len)
{
	struct io_uring_sqe *sqe = op_arm(loop, op);
	if (!sqe)
		return;
	io_uring_prep_read(sqe, fd, buf, (unsigned)MIN(len, (size_t)1 << 30), (uint64_t)-1);
	io_uring_sqe_set_data(sqe, op);
}

void loop_sync(struct loop *loop, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = op_arm(loop, op);
	if (!sqe)
		return;
	io_uring_prep_fsync(sqe, fd, 0);
	io_uring_sqe_set_data(sqe, op);
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	if (!op->armed || op->cancelled || loop->closing)
		return;
	/* The kernel knows of it by its file's number only, until it is submitted: whoever cancels closes the file next, and the number may be another's. */
	if (op->round == loop->round)
		(void)submit(loop);
	int error;
	struct io_uring_sqe *sqe = sqe_get(loop, &error);
	if (!sqe) {
		log_warn("event loop: cannot queue a cancellation: %s, ignoring", strerror(-error));
		return;
	}
	op->cancelled = true;
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

/* ---- timers ---- */

static void heap_place(struct loop *loop, size_t i, struct loop_timer *timer)
{
	loop->heap[i] = timer;
	timer->heap_index = i;
}

/* Put timer where it belongs, starting from the hole at i. */
static void heap_sift(struct loop *loop, size_t i, struct loop_timer *timer)
{
	for (; i > 1 && loop->heap[i / 2]->deadline_us > timer->deadline_us; i /= 2)
		heap_place(loop, i, loop->heap[i / 2]);
	for (;;) {
		size_t child = 2 * i;
		if (child > loop->ntimers)
			break;
		if (child < loop->ntimers &&
			loop->heap[child + 1]->deadline_us < loop->heap[child]->deadline_us)
			child++;
		if (loop->heap[child]->deadline_us >= timer->deadline_us)
			break;
		heap_place(loop, i, loop->heap[child]);
		i = child;
	}
	heap_place(loop, i, timer);
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_us)
{
	timer->deadline_us = deadline_us;
	if (loop->closing)
		return;
	if (!timer->heap_index) {
		loop->heap = grow(
			loop->heap, &loop->heap_cap, loop->ntimers + 2, sizeof(struct loop_timer *));
		timer->heap_index = ++loop->ntimers;
	}
	heap_sift(loop, timer->heap_index, timer);
}

void loop_timer_clear(struct loop *loop, struct loop_timer *timer)
{
	size_t hole = timer->heap_index;
	if (!hole)
		return;
	timer->heap_index = 0;
	struct loop_timer *last = loop->heap[loop->ntimers--];
	if (last != timer)
		heap_sift(loop, hole, last);
}

static void run_timers(struct loop *loop)
{
	/* A clock read and a bound taken once: a timer that re-arms itself for "now" waits for the next step.
	 */
	uint64_t now = now_us();
	for (size_t n = loop->ntimers; n && loop->ntimers && loop->heap[1]->deadline_us <= now; n--) {
		struct loop_timer *timer = loop->heap[1];
		loop_timer_clear(loop, timer);
		timer->fn(timer);
	}
}

/* ---- running ---- */

static void run_failures(struct loop *loop)
{
	size_t n = loop->nfailures;
	for (size_t i = 0; i < n; i++) { /* callbacks may add to the list, and move it */
		struct failure f = loop->failures[i];
		op_complete(loop, f.op, f.res);
	}
	loop->nfailures -= n;
	if (loop->nfailures)
		memmove(loop->failures, loop->failures + n, loop->nfailures * sizeof(*loop->failures));
}

int loop_step(struct loop *loop, struct err *err)
{
	struct __kernel_timespec ts = {0}, *timeout = NULL;
	if (loop->nfailures) {
		timeout = &ts;
	} else if (loop->ntimers) {
		uint64_t now = now_us(), due = loop->heap[1]->deadline_us, left = due > now ? due - now : 0;
		left = MIN(left, (uint64_t)3600 * 1000000);
		ts.tv_sec = (int64_t)(left / 1000000);
		ts.tv_nsec = (long long)(left % 1000000 * 1000);
		timeout = &ts;
	}
	struct io_uring_cqe *cqe;
	int r = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, timeout, NULL);
	loop->round += io_uring_sq_ready(&loop->ring) == 0;
	/* EBUSY and EAGAIN: what was queued stays queued; reaping makes the room that it waits for. */
	if (r < 0 && r != -ETIME && r != -EINTR && r != -EBUSY && r != -EAGAIN)
		return err_set(err, r, "event loop: io_uring_enter");
	if (loop->nfailures)
		run_failures(loop);
	(void)reap(loop);
	run_timers(loop);
	return 0;
}

int loop_run(struct loop *loop, struct err *err)
{
	int r = 0;
	while (r == 0 && !loop->stopped)
		r = loop_step(loop, err);
	loop->stopped = false;
	return r;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
