/* A zygote in the worker's hands: its fds and ring operations, freed when the last of them has come back. */
#include "executor/engine_internal.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"

struct zygote_ref *zygote_ref_new(struct seat *seat, int control)
{
	struct zygote_ref *z = calloc(1, sizeof(*z));
	if (!z)
		return NULL;
	z->seat = seat;
	z->loop = seat->engine->loop;
	z->control = control;
	z->pidfd = z->root = z->ns = -1;
	z->in = z->out = z->errs = z->listener = z->ready = z->job = -1;
	return z;
}

static bool busy(const struct zygote_ref *z)
{
	return z->control_op.armed || z->pidfd_op.armed || z->out_op.armed || z->err_op.armed || z->listener_op.armed ||
		z->in_op.armed || z->source_op.armed || z->ready_op.armed || z->job_op.armed;
}

/* Takes the place of every callback once the slot has let go. */
static void drained(struct loop_op *op, int res)
{
	struct zygote_ref *z = op->data;
	(void)res;
	if (busy(z))
		return;
	free(z->out_buf);
	free(z->err_buf);
	free(z->in_buf);
	free(z);
}

void zygote_ref_drop(struct zygote_ref *z)
{
	if (!z)
		return;
	struct loop_op *const ops[] = {&z->control_op, &z->pidfd_op, &z->out_op, &z->err_op, &z->listener_op, &z->in_op,
		&z->source_op, &z->ready_op, &z->job_op};
	z->seat = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		ops[i]->fn = drained;
		ops[i]->data = z;
		loop_cancel(z->loop, ops[i]);
	}
	/* The ring holds references of its own to the files of armed operations. */
	int *const fds[] = {&z->control, &z->pidfd, &z->root, &z->ns, &z->in, &z->out, &z->errs, &z->listener, &z->ready, &z->job};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		cleanup_close(fds[i]);
	z->page = NULL; /* the seat's */
	struct loop_op none = {.data = z};
	drained(&none, 0);
}
