/*
 * A loop for fuzz targets: executor/loop.h without a ring and without time. An operation completes, and a timer fires, when the
 * input says so; a timer that fires moves the clock to its deadline. A target that includes this is linked without executor/loop.c,
 * and with -Wl,--wrap of the clock's functions (tests/fuzz/CMakeLists.txt).
 */
#pragma once

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "executor/loop.h"

#define FUZZ_OPS_MAX 512
#define FUZZ_TIMERS_MAX 512

struct loop {
	struct {
		struct loop_op *op;
		int fd;
		unsigned events; /* 0: a read, or with no buffer an fsync */
		void *buf;
		size_t len;
	} ops[FUZZ_OPS_MAX];
	size_t nops;
	struct loop_timer *timers[FUZZ_TIMERS_MAX];
	size_t ntimers;
};

static uint64_t fuzz_clock_us = 1000000000;

uint64_t __wrap_now_us(void);
uint64_t __wrap_now_ns(void);
uint64_t __wrap_now_us(void)
{
	return fuzz_clock_us;
}

uint64_t __wrap_now_ns(void)
{
	return fuzz_clock_us * 1000;
}

int loop_new(unsigned entries, struct loop **ret, struct err *err)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : err_set(err, ENOMEM, "loop");
}

void loop_free(struct loop *loop)
{
	free(loop);
}

static void arm(struct loop *loop, struct loop_op *op, int fd, unsigned events, void *buf, size_t len)
{
	if (op->armed || !op->fn || loop->nops == FUZZ_OPS_MAX)
		abort();
	op->armed = true;
	op->cancelled = false;
	loop->ops[loop->nops].op = op;
	loop->ops[loop->nops].fd = fd;
	loop->ops[loop->nops].events = events;
	loop->ops[loop->nops].buf = buf;
	loop->ops[loop->nops].len = len;
	loop->nops++;
}

void loop_poll(struct loop *loop, struct loop_op *op, int fd, unsigned events)
{
	arm(loop, op, fd, events, NULL, 0);
}

void loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len)
{
	arm(loop, op, fd, 0, buf, len);
}

void loop_sync(struct loop *loop, struct loop_op *op, int fd)
{
	arm(loop, op, fd, 0, NULL, 0);
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	if (op->armed)
		op->cancelled = true;
}

void loop_timer_clear(struct loop *loop, struct loop_timer *timer)
{
	for (size_t i = 0; timer->heap_index && i < loop->ntimers; i++)
		if (loop->timers[i] == timer)
			loop->timers[i] = loop->timers[--loop->ntimers];
	timer->heap_index = 0;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_us)
{
	loop_timer_clear(loop, timer);
	if (!timer->fn || loop->ntimers == FUZZ_TIMERS_MAX)
		abort();
	timer->deadline_us = deadline_us;
	timer->heap_index = 1;
	loop->timers[loop->ntimers++] = timer;
}

/* fuzz_fire - the timer that is due first. Return: false when there is none. */
static inline bool fuzz_fire(struct loop *loop)
{
	struct loop_timer *first = loop->ntimers ? loop->timers[0] : NULL;
	for (size_t i = 1; i < loop->ntimers; i++)
		if (loop->timers[i]->deadline_us < first->deadline_us)
			first = loop->timers[i];
	if (!first)
		return false;
	if (first->deadline_us > fuzz_clock_us)
		fuzz_clock_us = first->deadline_us;
	loop_timer_clear(loop, first);
	first->fn(first);
	return true;
}

/* fuzz_complete - the i-th operation, if it can. Return: whether it did. */
static inline bool fuzz_complete(struct loop *loop, size_t i)
{
	if (i >= loop->nops)
		return false;
	struct pollfd p = {.fd = loop->ops[i].fd, .events = (short)(loop->ops[i].events ? loop->ops[i].events : POLLIN)};
	struct loop_op *op = loop->ops[i].op;
	bool sync = loop->ops[i].events == 0 && !loop->ops[i].buf;
	int res = -ECANCELED;
	if (!op->cancelled && !sync && poll(&p, 1, 0) <= 0)
		return false;
	if (!op->cancelled && loop->ops[i].events)
		res = p.revents & POLLNVAL ? -EBADF : p.revents;
	else if (!op->cancelled && sync)
		res = 0;
	else if (!op->cancelled)
		res = (int)read(loop->ops[i].fd, loop->ops[i].buf, loop->ops[i].len);
	if (res == -1)
		res = -errno;
	loop->ops[i] = loop->ops[--loop->nops];
	op->armed = false;
	op->fn(op, res);
	return true;
}

/* fuzz_settle - complete whatever can, for a bounded number of turns. */
static inline void fuzz_settle(struct loop *loop)
{
	for (size_t turns = 0; turns < 64; turns++) {
		bool any = false;
		for (size_t i = 0; i < loop->nops && !any; i++)
			any = fuzz_complete(loop, (turns + i) % loop->nops); /* none may keep the others from their turn */
		if (!any)
			return;
	}
}

/* fuzz_forget - an operation whose owner ends with the input. */
static inline void fuzz_forget(struct loop *loop, const struct loop_op *op)
{
	for (size_t i = 0; i < loop->nops; i++)
		if (loop->ops[i].op == op)
			loop->ops[i] = loop->ops[--loop->nops];
}
