#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "executor/loop.h"

struct probe {
	struct loop *loop;
	struct loop_op op;
	struct loop_timer timer;
	int fd, calls, res, limit;
	uint64_t at_us;
	char buf[16];
	struct probe *other;
	int *sequence, order;
};

static struct loop *make_loop(unsigned entries)
{
	struct loop *loop = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(loop_new(entries, &loop, &err), 0, "%s", err_msg(&err));
	return loop;
}

static void step(struct loop *loop)
{
	struct err err = ERR_INIT;
	cr_assert_eq(loop_step(loop, &err), 0, "%s", err_msg(&err));
}

static void count(struct loop_op *op, int res)
{
	struct probe *p = op->data;
	cr_assert_not(op->armed);
	p->calls++;
	p->res = res;
}

static void tick(struct loop_timer *timer)
{
	struct probe *p = timer->data;
	cr_assert_eq(timer->heap_index, 0);
	p->calls++;
	p->at_us = now_us();
	if (p->sequence)
		p->order = ++*p->sequence;
}

static void stop(struct loop_timer *timer)
{
	struct probe *p = timer->data;
	loop_stop(p->loop);
}

static void make_pipe(int fds[2])
{
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
}

Test(loop, poll_once)
{
	struct loop *loop = make_loop(8);
	int fd = eventfd(0, EFD_CLOEXEC);
	struct probe p = {.op = {.fn = count, .data = &p}};
	loop_poll(loop, &p.op, fd, POLLIN);
	cr_assert(p.op.armed);
	uint64_t one = 1;
	cr_assert_eq(write(fd, &one, sizeof(one)), (ssize_t)sizeof(one));
	step(loop);
	cr_assert_eq(p.calls, 1);
	cr_assert(p.res & POLLIN);
	close(fd);
	loop_free(loop);
}

Test(loop, poll_of_a_bad_fd)
{
	struct loop *loop = make_loop(8);
	struct probe p = {.op = {.fn = count, .data = &p}};
	loop_poll(loop, &p.op, 9999, POLLIN);
	step(loop);
	cr_assert_eq(p.calls, 1);
	cr_assert_eq(p.res, -EBADF);
	loop_free(loop);
}

Test(loop, read_then_end_of_file)
{
	struct loop *loop = make_loop(8);
	int fds[2];
	make_pipe(fds);
	struct probe p = {.op = {.fn = count, .data = &p}};
	loop_read(loop, &p.op, fds[0], p.buf, sizeof(p.buf));
	cr_assert_eq(write(fds[1], "abc", 3), 3);
	step(loop);
	cr_assert_eq(p.res, 3);
	cr_assert_eq(memcmp(p.buf, "abc", 3), 0);
	loop_read(loop, &p.op, fds[0], p.buf, sizeof(p.buf));
	close(fds[1]);
	step(loop);
	cr_assert_eq(p.calls, 2);
	cr_assert_eq(p.res, 0);
	close(fds[0]);
	loop_free(loop);
}

Test(loop, read_follows_the_file_position)
{
	struct loop *loop = make_loop(8);
	FILE *f = tmpfile();
	cr_assert_not_null(f);
	cr_assert_eq(write(fileno(f), "0123456789", 10), 10);
	cr_assert_eq(lseek(fileno(f), 2, SEEK_SET), 2);
	struct probe p = {.op = {.fn = count, .data = &p}};
	for (int i = 0; i < 2; i++) {
		loop_read(loop, &p.op, fileno(f), p.buf, 4);
		while (p.calls == i)
			step(loop);
		cr_assert_eq(p.res, 4);
		cr_assert_eq(memcmp(p.buf, i ? "6789" : "2345", 4), 0);
	}
	fclose(f);
	loop_free(loop);
}

static void reread(struct loop_op *op, int res)
{
	struct probe *p = op->data;
	p->calls++;
	p->res = res;
	if (res > 0 && p->calls < p->limit)
		loop_read(p->loop, op, p->fd, p->buf, 1);
}

Test(loop, rearmed_in_its_own_callback)
{
	struct loop *loop = make_loop(8);
	int fds[2];
	make_pipe(fds);
	struct probe p = {.loop = loop, .op = {.fn = reread, .data = &p}, .fd = fds[0], .limit = 5};
	cr_assert_eq(write(fds[1], "abcde", 5), 5);
	loop_read(loop, &p.op, p.fd, p.buf, 1);
	while (p.calls < 5)
		step(loop);
	cr_assert_eq(p.buf[0], 'e');
	cr_assert_not(p.op.armed);
	close(fds[0]);
	close(fds[1]);
	loop_free(loop);
}

Test(loop, cancel)
{
	struct loop *loop = make_loop(8);
	int fds[2];
	make_pipe(fds);
	struct probe poll = {.op = {.fn = count, .data = &poll}}, read = {.op = {.fn = count, .data = &read}};
	loop_poll(loop, &poll.op, fds[0], POLLIN);
	loop_read(loop, &read.op, fds[0], read.buf, sizeof(read.buf));
	loop_cancel(loop, &poll.op); /* before it was submitted */
	while (!poll.calls)
		step(loop);
	cr_assert_eq(poll.res, -ECANCELED);
	cr_assert_eq(read.calls, 0);
	loop_cancel(loop, &read.op);
	loop_cancel(loop, &read.op); /* twice is as once */
	while (!read.calls)
		step(loop);
	cr_assert_eq(read.res, -ECANCELED);
	loop_cancel(loop, &read.op); /* not armed */
	cr_assert_eq(read.calls, 1);
	close(fds[0]);
	close(fds[1]);
	loop_free(loop);
}

static void rearm_elsewhere(struct loop_op *op, int res)
{
	struct probe *p = op->data;
	p->calls++;
	p->res = res;
	if (p->calls == 1)
		loop_poll(p->loop, op, p->fd, POLLIN);
}

/* The request to cancel must hit the first life of the op, not the one armed before it was submitted. */
Test(loop, cancel_spares_the_next_life)
{
	struct loop *loop = make_loop(8);
	int full[2], idle[2];
	make_pipe(full);
	make_pipe(idle);
	struct probe p = {.loop = loop, .op = {.fn = rearm_elsewhere, .data = &p}, .fd = idle[0]};
	loop_poll(loop, &p.op, full[0], POLLIN);
	struct probe nap = {.timer = {.fn = tick, .data = &nap}};
	loop_timer_set(loop, &nap.timer, now_us());
	step(loop);
	cr_assert_eq(write(full[1], "x", 1), 1); /* completes before the cancellation is read */
	loop_cancel(loop, &p.op);
	while (!p.calls)
		step(loop);
	loop_timer_set(loop, &nap.timer, now_us() + 5000);
	while (nap.calls < 2)
		step(loop);
	cr_assert_eq(p.calls, 1);
	cr_assert(p.op.armed);
	close(full[0]);
	close(full[1]);
	loop_free(loop);
	close(idle[0]);
	close(idle[1]);
}

/* Armed, cancelled and closed before the kernel has heard of it, and the number given to another file: without the submission in
 * loop_cancel() the read took the other file's byte. */
Test(loop, cancel_before_it_was_submitted)
{
	struct loop *loop = make_loop(8);
	int ours[2], other[2];
	struct probe p = {.op = {.fn = count, .data = &p}};
	make_pipe(ours);
	loop_read(loop, &p.op, ours[0], p.buf, sizeof(p.buf));
	loop_cancel(loop, &p.op);
	cr_assert_eq(close(ours[0]), 0);
	make_pipe(other);
	cr_assert_eq(other[0], ours[0]); /* or this shows nothing */
	cr_assert_eq(write(other[1], "x", 1), 1);
	while (p.calls == 0)
		step(loop);
	cr_assert_eq(p.res, -ECANCELED, "%d", p.res);
	char byte = 0;
	cr_assert_eq(read(other[0], &byte, 1), 1);
	cr_assert_eq(byte, 'x');
	loop_free(loop);
	(void)close(ours[1]);
	(void)close(other[0]);
	(void)close(other[1]);
}

Test(loop, more_ops_than_entries)
{
	enum { N = 200 };
	struct loop *loop = make_loop(4);
	static struct probe p[N];
	for (int i = 0; i < N; i++) {
		p[i] = (struct probe){.fd = eventfd(1, EFD_CLOEXEC), .op = {.fn = count, .data = &p[i]}};
		loop_poll(loop, &p[i].op, p[i].fd, POLLIN);
	}
	int done = 0;
	while (done < N) {
		step(loop);
		done = 0;
		for (int i = 0; i < N; i++)
			done += p[i].calls;
	}
	for (int i = 0; i < N; i++) {
		cr_assert_eq(p[i].calls, 1);
		cr_assert(p[i].res & POLLIN);
		close(p[i].fd);
	}
	loop_free(loop);
}

Test(loop, timers_in_order)
{
	enum { N = 500 };
	struct loop *loop = make_loop(8);
	static struct probe p[N];
	int sequence = 0;
	uint64_t base = now_us() + 2000;
	for (int i = 0; i < N; i++) {
		p[i] = (struct probe){.sequence = &sequence, .timer = {.fn = tick, .data = &p[i]}};
		loop_timer_set(loop, &p[i].timer, base + (uint64_t)(i * 7919 % N) * 10);
	}
	for (int i = 0; i < N; i += 3) /* moved */
		loop_timer_set(loop, &p[i].timer, base + (uint64_t)(i * 104729 % N) * 10);
	for (int i = 1; i < N; i += 5)
		loop_timer_clear(loop, &p[i].timer);
	loop_timer_clear(loop, &p[1].timer);
	int expected = N - N / 5;
	while (sequence < expected)
		step(loop);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(p[i].calls, i % 5 == 1 ? 0 : 1, "timer %d", i);
		if (p[i].calls)
			cr_assert_geq(p[i].at_us, p[i].timer.deadline_us);
		for (int j = 0; j < i; j++)
			if (p[i].calls && p[j].calls && p[i].timer.deadline_us < p[j].timer.deadline_us)
				cr_assert_lt(p[i].order, p[j].order);
	}
	loop_free(loop);
}

Test(loop, timers_are_precise)
{
	struct loop *loop = make_loop(8);
	uint64_t best = UINT64_MAX;
	for (int i = 0; i < 20; i++) {
		struct probe p = {.timer = {.fn = tick, .data = &p}};
		loop_timer_set(loop, &p.timer, now_us() + 500);
		while (!p.calls)
			step(loop);
		cr_assert_geq(p.at_us, p.timer.deadline_us);
		best = MIN(best, p.at_us - p.timer.deadline_us);
	}
	cr_assert_lt(best, 1000, "best lateness %lu us", (unsigned long)best);
	loop_free(loop);
}

static void rearm_now(struct loop_timer *timer)
{
	struct probe *p = timer->data;
	p->calls++;
	loop_timer_set(p->loop, timer, 0);
}

/* A timer that is always due must starve neither ops nor the caller of loop_step(). */
Test(loop, a_due_timer_starves_nobody)
{
	struct loop *loop = make_loop(8);
	int fd = eventfd(1, EFD_CLOEXEC);
	struct probe p = {.loop = loop, .timer = {.fn = rearm_now, .data = &p}},
		     q = {.op = {.fn = count, .data = &q}};
	loop_timer_set(loop, &p.timer, 0);
	loop_poll(loop, &q.op, fd, POLLIN);
	for (int i = 0; i < 100; i++)
		step(loop);
	cr_assert_eq(p.calls, 100);
	cr_assert_eq(q.calls, 1);
	close(fd);
	loop_free(loop);
}

static void clear_other(struct loop_timer *timer)
{
	struct probe *p = timer->data;
	p->calls++;
	loop_timer_clear(p->loop, &p->other->timer);
	loop_poll(p->loop, &p->op, p->fd, POLLIN);
}

Test(loop, a_timer_may_clear_and_arm)
{
	struct loop *loop = make_loop(8);
	struct probe b = {.timer = {.fn = tick, .data = &b}};
	struct probe a = {.loop = loop,
		.other = &b,
		.fd = eventfd(1, EFD_CLOEXEC),
		.timer = {.fn = clear_other, .data = &a},
		.op = {.fn = count, .data = &a}};
	loop_timer_set(loop, &a.timer, 1);
	loop_timer_set(loop, &b.timer, 2); /* due in the same step */
	while (a.calls < 2)
		step(loop);
	cr_assert_eq(b.calls, 0);
	close(a.fd);
	loop_free(loop);
}

Test(loop, run_and_stop)
{
	struct loop *loop = make_loop(8);
	struct err err = ERR_INIT;
	for (int i = 0; i < 2; i++) {
		struct probe p = {.loop = loop, .timer = {.fn = stop, .data = &p}};
		loop_timer_set(loop, &p.timer, now_us() + 1000);
		cr_assert_eq(loop_run(loop, &err), 0);
	}
	loop_free(loop);
}

Test(loop, free_with_armed_ops)
{
	struct loop *loop = make_loop(8);
	int fds[2];
	make_pipe(fds);
	struct probe quiet = {.op = {.fn = count, .data = &quiet}},
		     told = {.op = {.fn = count, .data = &told}},
		     fresh = {.op = {.fn = count, .data = &fresh}},
		     timer = {.timer = {.fn = tick, .data = &timer}};
	loop_poll(loop, &quiet.op, fds[0], POLLIN);
	loop_read(loop, &told.op, fds[0], told.buf, sizeof(told.buf));
	loop_timer_set(loop, &timer.timer, now_us());
	step(loop);
	loop_timer_set(loop, &timer.timer, now_us() + 1000000);
	loop_read(loop, &fresh.op, fds[0], fresh.buf, sizeof(fresh.buf)); /* never submitted */
	loop_cancel(loop, &told.op);
	uint64_t begin = now_us();
	loop_free(loop);
	cr_assert_lt(now_us() - begin, 500000);
	cr_assert_eq(write(fds[1], "late", 4), 4);
	cr_assert_eq(quiet.calls, 0);
	cr_assert_eq(fresh.calls, 0);
	cr_assert_eq(told.calls, 1);
	cr_assert_eq(told.res, -ECANCELED);
	cr_assert_eq(told.buf[0], 0);
	cr_assert_eq(timer.timer.heap_index, 0);
	close(fds[0]);
	close(fds[1]);
	loop_free(NULL);
}
