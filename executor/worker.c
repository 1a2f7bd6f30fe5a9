/*
 * The worker: the queue on one side, the engine on the other. Unprivileged; one thread, one io_uring loop. Jobs are
 * fetched only for free slots; each gets exactly one result, which is acknowledged together with it.
 */
#include "executor/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/engine.h"
#include "executor/metrics_http.h"
#include "executor/supervisor.h"
#include "pool/wire.h"

#define BEATS_UNANSWERED 2
#define FIRST_BEAT_US 20000
#define SHOW_US 500000u
#define LOOK_ON_US 120000000u /* longer than anybody waits between two scrapes */
#define REVIVE_LOOK_US 5000u
#define REVIVE_US 5000000u   /* for what ran to be gone */
#define NURSERY_US 60000000u /* for a new nursery to come: the supervisor may wait for the old one, and between two that fail */
#define DYING_US 500000	     /* for a last word to Redis; the lease of what is not said there runs out */

struct worker {
	const struct worker_config *config;
	struct loop *loop;
	struct store *store;
	int spool;
	struct engine *engine;
	struct queue *queue;
	struct loop_op signal_op;
	int signals;
	struct loop_timer grace, drain, look, pulse;
	int beats; /* to the supervisor; -1: not wanted */
	uint64_t pulse_us;
	struct active *active; /* running jobs, a list */
	unsigned nactive;
	uint64_t done;
	bool stopping, was_ready;
	uint64_t beat_us, beat_done; /* at the last heartbeat */
	bool dying;		     /* the engine cannot go on: what it still says of jobs is not their result */
	bool given_up;		     /* … and there is no other: the process ends */
	int supervisor;		     /* our own; the engine has a copy */
	struct loop_op supervisor_op;
	struct loop_timer revive;
	uint64_t revive_until_us;
	bool asked_for_nursery;
	int exit_code;
	struct metrics metrics;
	struct metrics_server *server; /* or NULL */
	struct loop_timer show;
	uint64_t look_until_us; /* Redis is asked about the queue while somebody wants to know */
};

struct active {
	struct engine_job ej;
	struct worker *worker;
	struct queue_entry *entry; /* NULL: not ours any more, the result is dropped */
	bool started;
	char id[JOB_ID_MAX + 1];
	uint64_t taken_ns;
	struct active *next, **at;
};

static void update_want(struct worker *w)
{
	if (w->queue)
		queue_want(w->queue, w->stopping || w->dying || !w->engine ? 0 : engine_free_slots(w->engine));
}

/* ---- a job's end ---- */
static void unlink_active(struct active *a)
{
	*a->at = a->next;
	if (a->next)
		a->next->at = a->at;
	a->worker->nactive--;
}

static void maybe_end(struct worker *w)
{
	if ((w->given_up || (w->stopping && w->nactive == 0)) && queue_drained(w->queue))
		loop_stop(w->loop);
}

static void finish(struct active *a)
{
	struct worker *w = a->worker;
	struct result *result = &a->ej.result;
	_cleanup_free_ char *json = NULL, *meta = NULL;
	(void)snprintf(result->id, sizeof(result->id), "%s", a->id);
	if (a->entry) {
		uint64_t placed_ns = a->ej.dispatched_ns;
		metrics_result(&w->metrics, result, placed_ns > a->taken_ns ? (placed_ns - a->taken_ns) / 1000 : 0);
		json = result_json(result);
		meta = result->meta ? json_dumps(result->meta, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
		/* Without memory for the result the job is handed back, to be run again. */
		if (json)
			queue_finish(w->queue, a->entry, a->id, json, a->ej.job.reply, job_status_name(result->status), meta);
		else
			queue_release(w->queue, a->entry, false);
	}
	w->done++;
	unlink_active(a);
	log_debug("job=%s status=%s", a->id, job_status_name(result->status));
	result_clear(result);
	job_clear(&a->ej.job);
	free(a);
	update_want(w);
	maybe_end(w);
}

static void on_done(struct engine_job *ej)
{
	finish(ej->user);
}

static void on_started(struct engine_job *ej)
{
	struct active *a = ej->user;
	a->started = true;
	if (a->entry)
		queue_started(a->worker->queue, a->entry, a->id, ej->job.limits.wall_ms);
}

/* ---- the queue's events ---- */
static struct active *make_active(struct worker *w, struct queue_entry *entry)
{
	struct active *a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->worker = w;
	a->entry = entry;
	entry->user = a;
	a->ej.user = a;
	a->ej.stdin_fd = -1;
	a->ej.done = on_done;
	a->ej.started = on_started;
	a->ej.result.attempt = entry->attempt;
	a->taken_ns = now_ns();
	w->metrics.rerun += entry->attempt > 1;
	a->ej.result.timing.queued_us = entry->queued_us;
	(void)snprintf(a->ej.result.worker, sizeof(a->ej.result.worker), "%s", w->config->name);
	a->next = w->active;
	a->at = &w->active;
	if (a->next)
		a->next->at = &a->next;
	w->active = a;
	w->nactive++;
	return a;
}

static void choose_id(struct active *a)
{
	const struct queue_entry *e = a->entry;
	const char *id = e->id_field && job_id_valid(e->id_field) ? e->id_field : a->ej.job.id[0] ? a->ej.job.id
												  : e->entry_id;
	(void)snprintf(a->id, sizeof(a->id), "%s", id);
}

static bool refuse(struct active *a, const struct reject *why)
{
	a->ej.result.status = STATUS_REJECTED;
	a->ej.result.reject = *why;
	(void)snprintf(a->ej.result.message, sizeof(a->ej.result.message), "%s", why->message);
	return true;
}

/* What only the worker can check. Return: true when the job ends here, with its result set. */
static bool refused_here(struct active *a, int parsed, const struct reject *why)
{
	struct reject own = {0};
	const struct job *job = &a->ej.job;
	if (parsed > 0)
		return refuse(a, why);
	if (parsed < 0) {
		a->ej.result.status = STATUS_INTERNAL_ERROR;
		(void)snprintf(a->ej.result.message, sizeof(a->ej.result.message), "out of memory");
		return true;
	}
	if (job->worker && strcmp(job->worker, a->worker->config->name) != 0) {
		(void)reject_set(&own, "worker", REJECT_MISSING, "this is worker %.60s, not %.60s", a->worker->config->name, job->worker);
		return refuse(a, &own);
	}
	if (job->not_after_ms && wall_ms() > job->not_after_ms) {
		a->ej.result.status = STATUS_CANCELLED;
		(void)snprintf(a->ej.result.message, sizeof(a->ej.result.message), "not_after_ms has passed");
		return true;
	}
	return false;
}

static void on_job(void *ctx, struct queue_entry *entry)
{
	struct worker *w = ctx;
	struct reject why = {0};
	struct active *a = w->dying ? NULL : make_active(w, entry);
	if (!a) {
		queue_release(w->queue, entry, false);
		return;
	}
	int r = job_parse(entry->json, entry->json_len, &w->config->max_limits, &a->ej.job, &why);
	choose_id(a);
	a->ej.result.meta = json_incref(a->ej.job.meta);
	if (refused_here(a, r, &why))
		finish(a);
	else
		engine_start(w->engine, &a->ej);
	/* engine_start() may have finished and freed it. */
}

static void on_cancel(void *ctx, const char *id)
{
	struct worker *w = ctx;
	for (struct active *a = w->dying ? NULL : w->active, *next; a; a = next) {
		next = a->next;
		if (strcmp(a->id, id) == 0)
			engine_cancel(w->engine, &a->ej);
	}
}

static void on_lost(void *ctx, struct queue_entry *entry)
{
	struct worker *w = ctx;
	struct active *a = entry->user;
	if (w->dying)
		return;
	log_warn("job=%s is not ours any more: its lease ran out; killing it", a->id);
	a->entry = NULL;
	engine_cancel(w->engine, &a->ej);
}

static void on_finished(void *ctx, struct queue_entry *entry)
{
	struct worker *w = ctx;
	metrics_observe(&w->metrics, METRICS_FINISH, entry->finish_us);
	maybe_end(w);
}

static void on_queue_fatal(void *ctx, const struct err *err)
{
	struct worker *w = ctx;
	log_error("%s", err_msg(err));
	w->exit_code = 125;
	loop_stop(w->loop);
}

/* ---- what is seen from outside ---- */
static void describe(struct worker *w)
{
	char **names = NULL, images[1024] = "";
	size_t n = 0;
	if (image_list(w->store, &names, NULL) == 0) {
		/* Whole names only: half a name is another image's. */
		for (size_t i = 0; names[i] && n + strlen(names[i]) + 2 < sizeof(images); i++)
			n += (size_t)snprintf(images + n, sizeof(images) - n, "%s%s", i ? " " : "", names[i]);
		image_list_free(names);
	}
	queue_describe(w->queue, images, w->metrics.limits);
}

static void on_beat(void *ctx)
{
	struct worker *w = ctx;
	struct queue_beat beat = {.running = w->nactive, .done = w->done, .stopping = w->stopping || w->dying};
	unsigned slots[ENGINE_SLOT_MAX];
	uint64_t now = now_us();
	engine_warmth(w->engine, &beat.placed, &beat.warm);
	engine_slots(w->engine, slots);
	beat.ready = slots[ENGINE_SLOT_READY];
	beat.busy = slots[ENGINE_SLOT_RUNNING];
	beat.stamping = slots[ENGINE_SLOT_STAMPING];
	beat.retired = slots[ENGINE_SLOT_RETIRED];
	if (w->beat_us && now > w->beat_us)
		beat.done_per_min = (w->done - w->beat_done) * 60000000 / (now - w->beat_us);
	w->beat_us = now;
	w->beat_done = w->done;
	if (!w->metrics.limits[0])
		(void)engine_limits(w->engine, w->metrics.limits, sizeof(w->metrics.limits));
	describe(w);
	queue_heartbeat(w->queue, &beat);
}

static void on_looked(void *ctx, const struct queue_look *look)
{
	struct worker *w = ctx;
	w->metrics.look = *look;
}

/* A picture for the thread that serves the metrics. */
static void on_show(struct loop_timer *timer)
{
	struct worker *w = timer->data;
	struct metrics *m = &w->metrics;
	loop_timer_set(w->loop, timer, now_us() + SHOW_US);
	engine_ask(w->engine);
	if (metrics_server_asked(w->server))
		w->look_until_us = now_us() + LOOK_ON_US;
	if (!m->look.at_us || now_us() < w->look_until_us)
		queue_look(w->queue, on_looked, w);
	m->at_us = now_us();
	m->running = w->nactive;
	m->stopping = w->stopping || w->dying;
	m->nursery_us = engine_answered_us(w->engine);
	engine_warmth(w->engine, &m->placed, &m->warm);
	engine_slots(w->engine, m->slots);
	queue_stats(w->queue, &m->queue);
	queue_redis_errors(w->queue, m->redis_errors);
	if (!m->host_known && engine_cgroup(w->engine, m->cgroup, sizeof(m->cgroup))) {
		m->host = *engine_host(w->engine);
		m->host_known = true;
	}
	metrics_server_publish(w->server, m);
}

static int start_showing(struct worker *w, struct err *err)
{
	w->metrics.started_wall_ms = wall_ms();
	(void)snprintf(w->metrics.name, sizeof(w->metrics.name), "%s", w->config->name);
	int r = metrics_server_start(w->config->metrics, &w->server, err);
	if (r == 0 && w->server)
		on_show(&w->show);
	return r;
}

/* ---- the engine's events ---- */
static void on_capacity(void *ctx)
{
	update_want(ctx);
}

/* ---- the end ---- */
static void on_grace(struct loop_timer *timer)
{
	struct worker *w = timer->data;
	/* Jobs that outlive the grace are killed here and handed on: another worker runs them again. */
	for (struct active *a = w->active, *next; a; a = next) {
		next = a->next;
		log_warn("job=%s still runs after the grace period; handing it back", a->id);
		if (a->entry)
			queue_release(w->queue, TAKE_PTR(a->entry), false);
		engine_cancel(w->engine, &a->ej);
	}
	loop_timer_set(w->loop, &w->drain, now_us() + 10000000);
	maybe_end(w);
}

static void on_drain(struct loop_timer *timer)
{
	struct worker *w = timer->data;
	struct queue_stats stats;
	queue_stats(w->queue, &stats);
	if (stats.spooled)
		log_warn("%zu results could not be delivered before the end; they are kept for the next worker of this name", stats.spooled);
	if (stats.undelivered > stats.spooled)
		log_error("%zu results or hand-backs could not be delivered before the end; their jobs will be run again", stats.undelivered - stats.spooled);
	loop_stop(w->loop);
}

/* While stopping: what is handed back raises no event when Redis has confirmed it. */
static void on_look(struct loop_timer *timer)
{
	struct worker *w = timer->data;
	maybe_end(w);
	loop_timer_set(w->loop, timer, now_us() + 20000);
}

/* The loop turns, or this would not run; the nursery answered lately, and could make a slot. Whether Redis is there is
 * another matter: the worker waits for it. */
static void on_pulse(struct loop_timer *timer)
{
	struct worker *w = timer->data;
	uint64_t answered = engine_answered_us(w->engine), now = now_us();
	bool fresh = answered && now - answered < BEATS_UNANSWERED * w->pulse_us;
	w->was_ready |= engine_ready_slots(w->engine) > 0;
	/* Later all slots may be busy with being made again. */
	if (fresh && w->was_ready)
		(void)!write(w->beats, "b", 1);
	engine_ask(w->engine);
	/* Until the first answer oftener, so that nobody waits for us to be ready. */
	loop_timer_set(w->loop, timer, now + (answered && w->was_ready ? w->pulse_us : MIN(w->pulse_us, (uint64_t)FIRST_BEAT_US)));
}

static void on_signal(struct loop_op *op, int res)
{
	struct worker *w = op->data;
	struct signalfd_siginfo info;
	(void)res;
	while (read(w->signals, &info, sizeof(info)) == sizeof(info)) {
		if (!w->stopping) {
			w->stopping = true;
			queue_stop(w->queue);
			on_look(&w->look);
			log_info("stopping: %u jobs run", w->nactive);
			update_want(w);
			loop_timer_set(w->loop, &w->grace, now_us() + w->config->grace_ms * 1000);
		} else if (w->nactive > 0) {
			loop_timer_set(w->loop, &w->grace, now_us()); /* a second signal: no patience left */
		}
	}
	maybe_end(w);
	loop_poll(w->loop, op, w->signals, POLLIN);
}

/* ---- without its nursery ---- */
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
	on_look(&w->look);
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

/* Until the last job of the old engine is gone, then until the new nursery is there. */
static void on_revive(struct loop_timer *timer)
{
	struct worker *w = timer->data;
	for (struct active *a = w->active, *next; a; a = next) {
		next = a->next;
		engine_cancel(w->engine, &a->ej);
	}
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
		if (n > 0 || n == -EAGAIN) /* of a commit that nobody waits for any more */
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
	w->dying = w->asked_for_nursery = false;
	w->metrics.nurseries++;
	update_want(w);
}

/*
 * Nothing of what runs can finish: the engine has killed it. All of it goes back to Redis at once, what never started uncounted, and this
 * worker, its results, its connections and its leases go on with another nursery.
 */
static void on_engine_fatal(void *ctx, const struct err *err)
{
	struct worker *w = ctx;
	log_error("%s", err_msg(err));
	w->dying = true;
	for (struct active *a = w->queue ? w->active : NULL; a; a = a->next) {
		struct queue_entry *entry = TAKE_PTR(a->entry);
		if (entry)
			queue_release(w->queue, entry, a->started);
	}
	update_want(w);
	if (w->stopping || !w->queue) {
		give_up(w);
		return;
	}
	w->revive_until_us = now_us() + REVIVE_US;
	/* Not from here: the engine is in the middle of something. */
	loop_timer_set(w->loop, &w->revive, now_us());
}

static int connect_queue(struct worker *w, struct err *err)
{
	static const struct queue_events events = {.job = on_job, .cancel = on_cancel, .lost = on_lost, .finished = on_finished, .fatal = on_queue_fatal, .beat = on_beat};
	const struct worker_config *c = w->config;
	struct queue_config config = {.url = c->url, .prefix = c->prefix, .name = c->name, .lease_ms = c->lease_ms, .result_ttl_ms = c->result_ttl_ms, .max_attempts = c->max_attempts, .max_queue = c->max_queue, .allow_volatile = c->allow_volatile, .slots = c->slots, .spool = w->spool};
	return queue_new(w->loop, &config, &events, w, &w->queue, err);
}

/* With a CPU for each slot, petri itself keeps to those that no slot has; an operator's redis-server can be told to do the same. */
static void keep_off_slots(unsigned slots)
{
	cpu_set_t all, mine;
	unsigned seen = 0;
	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return;
	CPU_ZERO(&mine);
	/* Slot i has CPU i: engine_run.c. */
	for (unsigned cpu = slots; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all)) {
			CPU_SET(cpu, &mine);
			seen++;
		}
	if (seen == 0)
		log_warn("worker: pin leaves no CPU to petri itself: slots=%u, and every CPU has one", slots);
	else
		(void)sched_setaffinity(0, sizeof(mine), &mine);
}

int worker_main(const struct worker_fds *fds, void *ctx)
{
	struct err err = ERR_INIT;
	struct worker w = {.config = ctx, .loop = fds->loop, .store = fds->store, .spool = fds->spool, .beats = fds->beats, .pulse_us = fds->beat_us};
	const struct worker_config *c = w.config;
	const char *const dirs[] = {c->policies, NULL};
	w.grace = (struct loop_timer){.fn = on_grace, .data = &w};
	w.drain = (struct loop_timer){.fn = on_drain, .data = &w};
	w.look = (struct loop_timer){.fn = on_look, .data = &w};
	w.pulse = (struct loop_timer){.fn = on_pulse, .data = &w};
	w.show = (struct loop_timer){.fn = on_show, .data = &w};
	w.revive = (struct loop_timer){.fn = on_revive, .data = &w};
	w.supervisor_op = (struct loop_op){.fn = on_supervisor, .data = &w};
	w.supervisor = fds->supervisor;
	int supervisor = fcntl(w.supervisor, F_DUPFD_CLOEXEC, 3);
	if (c->pin)
		keep_off_slots(c->slots);
	w.signals = worker_signals();
	w.signal_op = (struct loop_op){.fn = on_signal, .data = &w};
	struct engine_config config = {.loop = w.loop, .store = fds->store, .nursery = fds->nursery, .supervisor = supervisor, .name = c->name, .policy_dirs = c->policies[0] ? dirs : NULL, .warm_image = c->warm_image[0] ? c->warm_image : NULL, .warm_policy = c->warm_policy[0] ? c->warm_policy : NULL, .pin = c->pin, .max_limits = &c->max_limits, .capacity = on_capacity, .fatal = on_engine_fatal, .ctx = &w};
	int r = supervisor < 0 ? err_set(&err, errno, "copy a socket") : engine_new(&config, &w.engine, &err);
	if (r == 0)
		r = connect_queue(&w, &err);
	if (r == 0)
		r = start_showing(&w, &err);
	if (r == 0) {
		loop_poll(w.loop, &w.signal_op, w.signals, POLLIN);
		if (w.beats >= 0)
			on_pulse(&w.pulse);
		r = loop_run(w.loop, &err);
	}
	if (r < 0) {
		log_error("worker: %s", err_msg(&err));
		return 125;
	}
	uint64_t placed, warm;
	engine_warmth(w.engine, &placed, &warm);
	log_info("worker: ends: done=%" PRIu64 " placed=%" PRIu64 " warm=%" PRIu64, w.done, placed, warm);
	metrics_server_stop(w.server);
	engine_free(w.engine); /* before the queue: nothing may run that nobody holds */
	queue_free(w.queue);
	return w.exit_code;
}
