/*
 * hiredis on the event loop: hiredis asks for readability and writability, each is a one-shot poll that is armed
 * again while wanted. What is to be written is tried first, at the end of the step that asked for it: a socket nearly
 * always has room, so the requests of a step leave in one write(2) and without another turn of the loop. Only what did
 * not fit is polled for. The wire outlives its context, because a cancelled poll completes later.
 */
#include "executor/redis_wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "executor/redis_guard.h"

struct wire {
	struct loop *loop;
	redisAsyncContext *ac;
	struct redis_guard guard;
	struct loop_op read, write;
	struct loop_timer flush; /* due at once: run at the end of a step */
	bool want_read, want_write;
	bool dead; /* ac is gone */
	int busy;  /* inside hiredis, which may free ac */
};

/* Arm what is wanted, or free what nobody uses any more. */
static void wire_settle(struct wire *wire)
{
	if (wire->busy)
		return;
	if (wire->dead) {
		if (!wire->read.armed && !wire->write.armed)
			free(wire);
		return;
	}
	if (wire->want_read && !wire->read.armed)
		loop_poll(wire->loop, &wire->read, wire->ac->c.fd, POLLIN);
	if (wire->want_write && !wire->write.armed && !wire->flush.heap_index)
		loop_poll(wire->loop, &wire->write, wire->ac->c.fd, POLLOUT);
}

static void wire_readable(struct loop_op *op, int res)
{
	struct wire *wire = op->data;
	if (!wire->dead && wire->want_read) {
		wire->busy++;
		redisAsyncHandleRead(wire->ac);
		wire->busy--;
	}
	wire_settle(wire);
}

static void wire_write(struct wire *wire)
{
	if (!wire->dead && wire->want_write) {
		wire->busy++;
		redisAsyncHandleWrite(wire->ac);
		wire->busy--;
	}
	wire_settle(wire);
}

static void wire_writable(struct loop_op *op, int res)
{
	wire_write(op->data);
}

static void wire_flush(struct loop_timer *timer)
{
	wire_write(timer->data);
}

static void add_read(void *data)
{
	struct wire *wire = data;
	wire->want_read = true;
	wire_settle(wire);
}

static void del_read(void *data)
{
	((struct wire *)data)->want_read = false;
}

static void add_write(void *data)
{
	struct wire *wire = data;
	/* A connection that is not there yet tells by its writability that it is; and what hiredis asks for from inside a
	 * write is what did not fit. */
	if (!wire->want_write && (wire->ac->c.flags & REDIS_CONNECTED))
		loop_timer_set(wire->loop, &wire->flush, 0);
	wire->want_write = true;
	wire_settle(wire);
}

static void del_write(void *data)
{
	((struct wire *)data)->want_write = false;
}

static void cleanup(void *data)
{
	struct wire *wire = data;
	wire->dead = true;
	redis_guard_detach(&wire->guard);
	loop_timer_clear(wire->loop, &wire->flush);
	loop_cancel(wire->loop, &wire->read);
	loop_cancel(wire->loop, &wire->write);
	wire_settle(wire);
}

int redis_wire_attach(struct loop *loop, redisAsyncContext *ac)
{
	struct wire *wire = calloc(1, sizeof(*wire));
	if (!wire)
		return -ENOMEM;
	wire->loop = loop;
	wire->ac = ac;
	redis_guard_attach(&wire->guard, ac);
	wire->read = (struct loop_op){.fn = wire_readable, .data = wire};
	wire->write = (struct loop_op){.fn = wire_writable, .data = wire};
	wire->flush = (struct loop_timer){.fn = wire_flush, .data = wire};
	ac->ev.addRead = add_read;
	ac->ev.delRead = del_read;
	ac->ev.addWrite = add_write;
	ac->ev.delWrite = del_write;
	ac->ev.cleanup = cleanup;
	ac->ev.data = wire;
	return 0;
}
