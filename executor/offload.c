/* The helper thread; see the header. */
#include "executor/offload.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

struct list {
	struct offload_task *first, **end;
};

struct offload {
	struct loop *loop;
	struct loop_op op;
	int event; /* something is in `ready` */
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t more;
	struct list todo, ready;
	bool stop; /* written by the loop's thread alone */
};

static void put(struct list *list, struct offload_task *task)
{
	task->next = NULL;
	*list->end = task;
	list->end = &task->next;
}

static struct offload_task *take(struct list *list)
{
	struct offload_task *task = list->first;
	if (!task)
		return NULL;
	list->first = task->next;
	if (!list->first)
		list->end = &list->first;
	return task;
}

static void *run(void *arg)
{
	struct offload *o = arg;
	const uint64_t one = 1;
	(void)pthread_mutex_lock(&o->lock);
	while (!o->stop) {
		struct offload_task *task = take(&o->todo);
		if (!task) {
			(void)pthread_cond_wait(&o->more, &o->lock);
			continue;
		}
		(void)pthread_mutex_unlock(&o->lock);
		task->work(task);
		(void)pthread_mutex_lock(&o->lock);
		put(&o->ready, task);
		(void)!write(o->event, &one, sizeof(one));
	}
	(void)pthread_mutex_unlock(&o->lock);
	return NULL;
}

static void destroy(struct offload *o)
{
	cleanup_close(&o->event);
	(void)pthread_cond_destroy(&o->more);
	(void)pthread_mutex_destroy(&o->lock);
	free(o);
}

static void on_event(struct loop_op *op, int res)
{
	struct offload *o = op->data;
	uint64_t count;
	if (o->stop) { /* offload_free() was here, and the ring lets go */
		destroy(o);
		return;
	}
	(void)!read(o->event, &count, sizeof(count));
	for (;;) {
		(void)pthread_mutex_lock(&o->lock);
		struct offload_task *task = take(&o->ready);
		(void)pthread_mutex_unlock(&o->lock);
		if (!task)
			break;
		task->away = false;
		task->done(task);
	}
	if (res != -ECANCELED) /* anything else is the ring's trouble of the moment */
		loop_poll(o->loop, op, o->event, POLLIN);
}

int offload_new(struct loop *loop, struct offload **ret, struct err *err)
{
	struct offload *o = calloc(1, sizeof(*o));
	if (!o)
		return err_set(err, ENOMEM, "offload");
	o->loop = loop;
	o->todo.end = &o->todo.first;
	o->ready.end = &o->ready.first;
	(void)pthread_mutex_init(&o->lock, NULL);
	(void)pthread_cond_init(&o->more, NULL);
	o->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r = o->event < 0 ? -errno : 0;
	/* Signals are the loop's. */
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGSYS); /* of the worker's filter, in place of a call: blocked, it would kill */
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = r < 0 ? r : -pthread_create(&o->thread, NULL, run, o);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0) {
		destroy(o);
		return err_set(err, r, "start a thread");
	}
	o->op = (struct loop_op){.fn = on_event, .data = o};
	loop_poll(loop, &o->op, o->event, POLLIN);
	*ret = o;
	return 0;
}

void offload_add(struct offload *o, struct offload_task *task)
{
	if (!o) {
		task->work(task);
		task->done(task);
		return;
	}
	task->away = true;
	(void)pthread_mutex_lock(&o->lock);
	put(&o->todo, task);
	(void)pthread_cond_signal(&o->more);
	(void)pthread_mutex_unlock(&o->lock);
}

void offload_free(struct offload *o)
{
	if (!o)
		return;
	(void)pthread_mutex_lock(&o->lock);
	o->stop = true;
	(void)pthread_cond_signal(&o->more);
	(void)pthread_mutex_unlock(&o->lock);
	(void)pthread_join(o->thread, NULL);
	if (!o->op.armed)
		destroy(o);
	else
		loop_cancel(o->loop, &o->op);
}
