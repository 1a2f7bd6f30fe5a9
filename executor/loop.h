/*
 * The worker's event loop: one io_uring, one thread. Operations are embedded in their owners and complete
 * exactly once each; timers are a heap beside the ring. Lowest kernel: 6.1.
 *
 * An op whose owner goes away before it completes must be cancelled with loop_cancel() and its memory (and
 * the buffer of a read) kept until fn was called, which then gets -ECANCELED or whatever came first.
 *
 * Ops and timers start zeroed, with fn and data set by their owner. fn may do anything to any op or timer:
 * arm its own again, arm and cancel others, free its owner; only loop_free() and loop_step() are not for
 * callbacks. Completions of one step come in any order, those of timers by their deadlines.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct loop_op;
struct loop_timer;

typedef void (*loop_op_fn)(struct loop_op *op, int res);
typedef void (*loop_timer_fn)(struct loop_timer *timer);

struct loop_op {
	loop_op_fn fn;
	void *data;	/* the owner's */
	bool armed;	/* in flight; set by loop_*(), cleared before fn is called */
	bool cancelled; /* the loop's own: loop_cancel() was called since it was armed */
	unsigned round; /* the loop's own: it was armed after so many submissions */
};

struct loop_timer {
	loop_timer_fn fn;
	void *data;
	uint64_t deadline_us; /* CLOCK_MONOTONIC */
	size_t heap_index;    /* 0 when not set */
};

/* loop_new - set up the ring. Call before privileges are dropped: kernel.io_uring_disabled=1 asks for them.
 */
int loop_new(unsigned entries, struct loop **ret, struct err *err);
/* loop_free - end every op that is armed and wait (a second at most) until the kernel is done with their
 * buffers. The fn of an op that was cancelled before is called as usual, so that its owner can free it; other
 * ops end without a call. Nothing can be armed any more. Timers are forgotten. Op memory must live until this
 * returns. */
void loop_free(struct loop *loop);

/* loop_poll - once: fn(op, revents or -errno) when any of events (poll(2)) holds. */
void loop_poll(struct loop *loop, struct loop_op *op, int fd, unsigned events);
/* loop_read - read up to len bytes at the current position: fn(op, bytes, 0 at end, or -errno). The fd should
 * be a blocking one (the loop waits all the same): for an O_NONBLOCK fd without data, -EAGAIN comes at once.
 */
void loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len);
/* loop_sync - fsync(2), without keeping the loop waiting: fn(op, 0 or -errno). */
void loop_sync(struct loop *loop, struct loop_op *op, int fd);
/* loop_cancel - ask that an armed op end soon; does nothing when it is not armed. Its file can be closed then: the ring has it for itself. */
void loop_cancel(struct loop *loop, struct loop_op *op);

/* loop_timer_set - (re)arm: fn once at the deadline or after. loop_timer_clear - disarm; fine when not set.
 */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_us);
void loop_timer_clear(struct loop *loop, struct loop_timer *timer);

/* loop_step - wait for at least one completion or timer (or a signal) and run what is due. Return: 0 or
 * -errno. */
int loop_step(struct loop *loop, struct err *err);
/* loop_run - step until loop_stop() is called. */
int loop_run(struct loop *loop, struct err *err);
void loop_stop(struct loop *loop);
