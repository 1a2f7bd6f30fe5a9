/* The worker without its nursery: its jobs go back to Redis, and it goes on with another, or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/supervisor.h"
#include "executor/worker_internal.h"

#define REVIVE_LOOK_US 5000u
#define REVIVE_US 5000000u	  /* for what ran to be gone */
#define NURSERY_US 60000000u	  /* for a new nursery to come: the supervisor may wait for the old one, and between two that fail */
#define FIRST_ANSWER_US 10000000u /* for the new one to say something */
#define DYING_US 500000		  /* for a last word to Redis; the lease of what is not said there runs out */

/* The supervisor starts worker and nursery anew. What was finished before still goes out, where Redis answers. */
static void give_up(struct worker *w)
{
	w->exit_code = WORKER_EXIT_RESTART;
	w->given_up = true;
	loop_timer_clear(w->loop, &w->revive);
	if (!w->queue) {
		loop_stop(w->loop);
		return;
	}
	queue_stop(w->queue);
	loop_timer_set(w->loop, &w->drain, now_us() + DYING_US);
	worker_look_on(w);
}

static void ask_for_nursery(struct worker *w)
{
	static struct commit_request request;
	request = (struct commit_request){.kind = COMMIT_NURSERY};
	engine_end(w->engine);
	w->asked_for_nursery = true;
	if (fd_send(w->supervisor, &request, sizeof(request), NULL, 0) < 0) {
		give_up(w);
		return;
	}
	loop_poll(w->loop, &w->supervisor_op, w->supervisor, POLLIN);
	loop_timer_set(w->loop, &w->revive, now_us() + NURSERY_US);
}

static void cancel(struct active *a, const void *unused)
{
	(void)unused;
	engine_cancel(a->worker->engine, &a->ej);
}

/* Until the last job of the old engine is gone, then until the new nursery is there. */
static void on_revive(struct loop_timer *timer)
{
	struct worker *w = timer->data;
	worker_each(w, cancel, NULL);
	if (w->asked_for_nursery || (w->nactive > 0 && now_us() > w->revive_until_us))
		give_up(w);
	else if (w->nactive > 0)
		loop_timer_set(w->loop, timer, now_us() + REVIVE_LOOK_US);
	else
		ask_for_nursery(w);
}

static void on_supervisor(struct loop_op *op, int res)
{
	struct worker *w = op->data;
	struct err err = ERR_INIT;
	struct commit_reply reply;
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	ssize_t n = res < 0 ? res : fd_recv(w->supervisor, &reply, sizeof(reply), fds, &nfds, MSG_DONTWAIT);
	if (n != sizeof(reply) || reply.seq != 0 || nfds != 1) {
		fd_close_many(fds, nfds);
		if ((n == sizeof(reply) && reply.seq == 0) || (n <= 0 && !fd_try_later(n))) /* its socket is lost, or the supervisor */
			give_up(w);
		else /* of a commit that nobody waits for any more */
			loop_poll(w->loop, op, w->supervisor, POLLIN);
		return;
	}
	loop_timer_clear(w->loop, &w->revive);
	int r = fcntl(w->supervisor, F_DUPFD_CLOEXEC, 3);
	if (r < 0)
		fd_close_many(fds, nfds);
	r = r < 0 ? err_set(&err, errno, "copy a socket") : engine_replace(w->engine, fds[0], r, &w->engine, &err);
	if (r < 0) {
		log_error("%s", err_msg(&err));
		give_up(w);
		return;
	}
	log_info("petri-nursery was replaced");
	w->answer_until_us = now_us() + FIRST_ANSWER_US;
	w->dying = w->asked_for_nursery = false;
	w->metrics.nurseries++;
	worker_want(w);
}

/*
 * Nothing of what runs can finish: the engine has killed it. All of it goes back to Redis at once, what never started uncounted, and this
 * worker, its results, its connections and its leases go on with another nursery.
 */
void worker_engine_fatal(void *ctx, const struct err *err)
{
	struct worker *w = ctx;
	log_error("%s", err_msg(err));
	w->dying = true;
	for (struct active *a = w->queue ? w->active : NULL; a; a = a->next) {
		struct queue_entry *entry = a->encoding ? NULL : TAKE_PTR(a->entry); /* what has ended is told */
		if (entry)
			queue_release(w->queue, entry, a->started);
	}
	worker_want(w);
	if (w->stopping || !w->queue) {
		give_up(w);
		return;
	}
	w->revive_until_us = now_us() + REVIVE_US;
	w->answer_until_us = w->revive_until_us + NURSERY_US;
	/* Not from here: the engine is in the middle of something. */
	loop_timer_set(w->loop, &w->revive, now_us());
}

bool worker_is_reviving(const struct worker *w)
{
	return now_us() < w->answer_until_us;
}

void worker_nursery_init(struct worker *w, int supervisor)
{
	w->revive = (struct loop_timer){.fn = on_revive, .data = w};
	w->supervisor_op = (struct loop_op){.fn = on_supervisor, .data = w};
	w->supervisor = supervisor;
}
