/* Which waiting job gets which slot: one whose zygote was made for the same plan, else the one that has idled longest. Jobs come in
 * and are cancelled here. Worker. */
#include "executor/engine_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/sys.h"

#define LATE_LOOK_US 10000

void engine_wait(struct engine *engine, struct engine_job *ej)
{
	ej->next = NULL;
	*engine->waiting_tail = ej;
	engine->waiting_tail = &ej->next;
}

static bool made_for(const struct seat *seat, const struct run *run)
{
	return seat->plan_hash == run->plan_hash && wire_plan_equal(&seat->plan, &run->plan);
}

/*
 * How well an unclaimed seat suits, the higher the better; 0: not at all. Of equals the one that has idled longest is taken. A zygote
 * without a runtime does for any job of its plan, one with a runtime for those that the runtime can run.
 */
static int suits(const struct engine *engine, const struct tally *tally, const struct seat *seat, const struct run *run)
{
	bool same = made_for(seat, run), runs = same && (!seat->runtime || runtime_fits(seat, run));
	switch (seat->state) {
	case SEAT_READY:
		if (runs)
			return seat->runtime == run->runtime ? 7 : 6;
		return same ? 4 : mix_keeps(engine, tally, seat) ? 2
								 : 3;
	case SEAT_STAMPING:
		if (seat_is_late(seat))
			return 1;
		return same && (!seat->runtime || seat->runtime == run->runtime) ? 5 : 1; /* ready in a moment */
	case SEAT_NONE:
		return seat->leaf.fd[KNOB_KILL] >= 0 ? 1 : 0;
	default:
		return 0;
	}
}

static struct seat *find_seat(struct engine *engine, const struct run *run)
{
	struct seat *best = NULL;
	struct tally tally;
	int most = 0;
	mix_count(engine, &tally);
	for (unsigned i = 0; i < engine->nseats; i++) {
		struct seat *seat = &engine->seats[i];
		if (seat->run)
			continue;
		int how = suits(engine, &tally, seat, run);
		if (how == 7)
			return seat;
		if (how > most || (how == most && how > 1 && seat->idle_since_us < best->idle_since_us)) {
			most = how;
			best = seat;
		}
	}
	return best;
}

static void place(struct engine *engine, struct run *run, struct seat *seat)
{
	bool suited = made_for(seat, run) && seat->state != SEAT_NONE && (!seat->runtime || seat->runtime == run->runtime);
	seat->run = run;
	seat->last_runtime = run->runtime;
	run->seat = seat;
	seat->image_layers = run->image_layers;
	engine->placed += !run->ej->placed;
	engine->hits += suited && !run->ej->placed;
	run->ej->placed = true;
	if (!suited)
		seat_stamp(seat, &run->plan, NULL);
	else if (seat->state == SEAT_READY)
		run_dispatch(run);
	else if (seat_is_late(seat))
		loop_timer_set(engine->loop, &seat->late, now_us() + LATE_LOOK_US);
	/* STAMPING for the same plan: dispatched when it is ready. */
}

void engine_schedule(struct engine *engine)
{
	while (engine->waiting && !engine->dead) {
		struct engine_job *ej = engine->waiting;
		struct seat *seat = find_seat(engine, ej->run);
		if (!seat)
			return;
		engine->waiting = ej->next;
		if (!engine->waiting)
			engine->waiting_tail = &engine->waiting;
		ej->next = NULL;
		engine->running++;
		place(engine, ej->run, seat);
	}
}

static bool any_ready(const struct engine *engine)
{
	for (unsigned i = 0; i < engine->nseats; i++)
		if (engine->seats[i].state == SEAT_READY && !engine->seats[i].run)
			return true;
	return false;
}

/* A job that was given to the seat goes to another as soon as one is ready: first in the queue, for it was there before the others. */
void engine_late(struct loop_timer *timer)
{
	struct seat *seat = timer->data;
	struct engine *engine = seat->engine;
	struct run *run = seat->run;
	if (!seat_is_late(seat) || engine->dead)
		return;
	if (!run) {
		if (engine->config.capacity) /* one slot fewer */
			engine->config.capacity(engine->config.ctx);
		return; /* place() looks again when a job comes */
	}
	if (run->stage == RUN_WAITING && any_ready(engine)) {
		seat->run = NULL;
		seat->forsaken = true;
		run->seat = NULL;
		engine->running--;
		run->ej->next = engine->waiting;
		if (!engine->waiting)
			engine->waiting_tail = &run->ej->next;
		engine->waiting = run->ej;
		engine_schedule(engine);
		return;
	}
	loop_timer_set(engine->loop, timer, now_us() + LATE_LOOK_US);
}

static void reject(struct engine_job *ej, const struct reject *why)
{
	ej->result.status = STATUS_REJECTED;
	ej->result.reject = *why;
	(void)snprintf(ej->result.message, sizeof(ej->result.message), "%s", why->message);
}

void engine_start(struct engine *engine, struct engine_job *ej)
{
	ej->stamp_layers = ej->run_cold = ej->placed = false;
	ej->unborn = 0;
	engine_enqueue(engine, ej);
}

void engine_enqueue(struct engine *engine, struct engine_job *ej)
{
	struct reject why = {0};
	struct err err = ERR_INIT;
	(void)snprintf(ej->result.worker, sizeof(ej->result.worker), "%s", engine->config.name);
	struct run *run = calloc(1, sizeof(*run));
	int r = run ? run_prepare(engine, ej, run, &why, &err) : err_set(&err, ENOMEM, "job");
	if (r != 0 || !run) {
		if (r > 0) {
			reject(ej, &why);
		} else {
			ej->result.status = STATUS_INTERNAL_ERROR;
			(void)snprintf(ej->result.message, sizeof(ej->result.message), "%s", err_msg(&err));
		}
		if (run)
			run_free(run);
		ej->done(ej);
		return;
	}
	run->plan_hash = plan_hash(&run->plan);
	ej->run = run;
	engine_wait(engine, ej);
	engine_schedule(engine);
}

void engine_cancel(struct engine *engine, struct engine_job *ej)
{
	if (!ej->run)
		return;
	if (ej->run->stage == RUN_WAITING && !ej->run->seat) {
		struct engine_job **at = &engine->waiting;
		while (*at && *at != ej)
			at = &(*at)->next;
		if (*at) {
			*at = ej->next;
			if (!*at)
				engine->waiting_tail = at;
		}
		run_free(TAKE_PTR(ej->run));
		ej->result.status = STATUS_CANCELLED;
		ej->done(ej);
		return;
	}
	struct run *run = ej->run;
	if (run->stage == RUN_WAITING && run->seat && run->seat->state == SEAT_STAMPING) {
		run->seat->run = NULL; /* the stamp goes on without it */
		run->seat = NULL;
		ej->result.status = STATUS_CANCELLED;
		run_finish(run);
		return;
	}
	/* Whoever reads its outputs may take long, and without a nursery nothing else holds the worker up. */
	if (engine->dead && run->stage >= RUN_COLLECTING)
		collect_abandon(run);
	else
		run_kill(run, STATUS_CANCELLED);
}

unsigned engine_free_slots(const struct engine *engine)
{
	unsigned n = 0, waiting = 0;
	for (unsigned i = 0; i < engine->nseats; i++)
		n += !engine->seats[i].run && engine->seats[i].failures == 0 && !seat_is_late(&engine->seats[i]) &&
			(engine->seats[i].state == SEAT_READY || engine->seats[i].state == SEAT_STAMPING ||
				(engine->seats[i].state == SEAT_NONE && engine->seats[i].leaf.fd[KNOB_KILL] >= 0));
	for (const struct engine_job *ej = engine->waiting; ej; ej = ej->next)
		waiting++;
	return n > waiting ? n - waiting : 0;
}

unsigned engine_ready_slots(const struct engine *engine)
{
	unsigned n = 0;
	for (unsigned i = 0; i < engine->nseats; i++)
		n += engine->seats[i].state == SEAT_READY && !engine->seats[i].run;
	return n;
}

unsigned engine_nslots(const struct engine *engine)
{
	return engine->nseats;
}

unsigned engine_running(const struct engine *engine)
{
	return engine->running;
}

const struct wire_host *engine_host(const struct engine *engine)
{
	return engine->hello ? &engine->host : NULL;
}

unsigned engine_slot_number(const struct engine *engine, unsigned i)
{
	return i < engine->nseats ? engine->seats[i].number : 0;
}
