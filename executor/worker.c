/*
 * The worker: the queue on one side, the engine on the other. Unprivileged; one io_uring loop, with a thread beside it for
 * large JSON (offload.h) and one for metrics. Jobs are fetched only for free slots; each gets exactly one result, which is acknowledged together with it.
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
#include "executor/notify.h"
#include "executor/supervisor.h"
#include "executor/worker_internal.h"
#include "pool/wire.h"

#define BEATS_UNANSWERED 2
#define FIRST_BEAT_US 20000
#define SHOW_US 500000u
#define LOOK_ON_US 120000000u /* longer than anybody waits between two scrapes */

void worker_want(struct worker *w)
{
	if (!w->queue)
		return;
	unsigned free_slots = w->stopping || w->dying || !w->engine ? 0 : engine_free_slots(w->engine);
	/* Jobs whose JSON is still being read have no slot yet, and results whose JSON is being written none any more: both are held in memory. */
	unsigned held = w->nparsing + w->nencoding;
	queue_want(w->queue, free_slots > held ? free_slots - held : 0);
}

void worker_maybe_end(struct worker *w)
{
	if ((w->given_up || (w->stopping && w->nactive == 0)) && queue_drained(w->queue))
		loop_stop(w->loop);
}

/* ---- events ---- */
static void on_finished(void *ctx, struct queue_entry *entry)
{
	struct worker *w = ctx;
	metrics_observe(&w->metrics, METRICS_FINISH, entry->finish_us);
	worker_maybe_end(w);
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
	worker_want(ctx);
}

/* ---- the end ---- */
static void hand_back(struct active *a, const void *unused)
{
	(void)unused;
	if (a->encoding)
		return;
	if (a->entry) {
		log_warn("job=%s still runs after the grace period; handing it back", a->id);
		queue_release(a->worker->queue, TAKE_PTR(a->entry), false);
	}
	engine_cancel(a->worker->engine, &a->ej);
}

static void on_grace(struct loop_timer *timer)
{
	struct worker *w = timer->data;
	/* Jobs that outlive the grace are killed here and handed on: another worker runs them again. */
	worker_each(w, hand_back, NULL);
	loop_timer_set(w->loop, &w->drain, now_us() + 10000000);
	worker_maybe_end(w);
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
	worker_maybe_end(w);
	loop_timer_set(w->loop, timer, now_us() + 20000);
}

void worker_look_on(struct worker *w)
{
	on_look(&w->look);
}

/* The loop turns, or this would not run; the nursery answered lately, and could make a slot, or has died and another is on its way. Whether Redis is
 * there is another matter: the worker waits for it. */
static void on_pulse(struct loop_timer *timer)
{
	struct worker *w = timer->data;
	uint64_t answered = engine_answered_us(w->engine), now = now_us();
	bool fresh = answered && now - answered < BEATS_UNANSWERED * w->pulse_us;
	w->was_ready |= engine_ready_slots(w->engine) > 0;
	/* Later all slots may be busy with being made again. */
	bool reviving = !answered && worker_is_reviving(w);
	const char beat = fresh && w->was_ready ? BEAT_READY : BEAT_REVIVING;
	if (beat == BEAT_READY || reviving)
		(void)!write(w->beats, &beat, 1);
	engine_ask(w->engine);
	/* Until the first answer oftener, so that nobody waits for us to be ready. */
	loop_timer_set(w->loop, timer, now + ((answered && w->was_ready) || reviving ? w->pulse_us : MIN(w->pulse_us, (uint64_t)FIRST_BEAT_US)));
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
			worker_want(w);
			loop_timer_set(w->loop, &w->grace, now_us() + w->config->grace_ms * 1000);
		} else if (w->nactive > 0) {
			loop_timer_set(w->loop, &w->grace, now_us()); /* a second signal: no patience left */
		}
	}
	worker_maybe_end(w);
	loop_poll(w->loop, op, w->signals, POLLIN);
}

static int connect_queue(struct worker *w, struct err *err)
{
	static const struct queue_events events = {.job = worker_job, .cancel = worker_cancel, .lost = worker_lost, .finished = on_finished, .fatal = on_queue_fatal, .beat = on_beat};
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
	worker_nursery_init(&w, fds->supervisor);
	cpu_set_t cpus;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		CPU_ZERO(&cpus);
	int supervisor = fcntl(w.supervisor, F_DUPFD_CLOEXEC, 3);
	if (c->pin)
		keep_off_slots(c->slots);
	w.signals = worker_signals();
	w.signal_op = (struct loop_op){.fn = on_signal, .data = &w};
	struct engine_config config = {.loop = w.loop, .store = fds->store, .nursery = fds->nursery, .supervisor = supervisor, .name = c->name, .policy_dirs = c->policies[0] ? dirs : NULL, .warm_image = c->warm_image[0] ? c->warm_image : NULL, .warm_policy = c->warm_policy[0] ? c->warm_policy : NULL, .pin = c->pin, .cpus = cpus, .max_limits = &c->max_limits, .allow_unenforced = c->allow_unenforced, .capacity = on_capacity, .fatal = worker_engine_fatal, .ctx = &w};
	int r = w.signals < 0 ? err_set(&err, errno, "make a signalfd") : offload_new(w.loop, &w.offload, &err);
	r = r < 0 ? r : supervisor < 0 ? err_set(&err, errno, "copy a socket")
				       : engine_new(&config, &w.engine, &err);
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
	offload_free(w.offload);
	engine_free(w.engine); /* before the queue: nothing may run that nobody holds */
	queue_free(w.queue);
	return w.exit_code;
}
