/* Which waiting job gets which slot: one whose zygote was made for the same plan, else the one that has idled longest. Jobs come in
 * and are cancelled here. Worker. */
#include "executor/engine_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"

static bool plan_equal(const struct wire_plan *a, const struct wire_plan *b)
{
	return a->nlayers == b->nlayers && a->network == b->network && a->policy == b->policy && a->host_usr == b->host_usr &&
		memcmp(a->layers, b->layers, sizeof(a->layers[0]) * a->nlayers) == 0;
}

void engine_wait(struct engine *engine, struct engine_job *ej)
{
	ej->next = NULL;
	*engine->waiting_tail = ej;
	engine->waiting_tail = &ej->next;
}

/* What is there, or coming, is what the job needs: its runtime, or nothing but a zygote (which does for any job). */
static bool seat_suits(const struct seat *seat, const struct run *run)
{
	return seat->state != SEAT_NONE && plan_equal(&seat->plan, &run->plan) &&
		(!seat->runtime || seat->runtime == run->runtime);
}

static struct seat *find_seat(struct engine *engine, const struct run *run)
{
	struct seat *other = NULL, *plain = NULL;
	for (unsigned i = 0; i < engine->nseats; i++) {
		struct seat *seat = &engine->seats[i];
		if (seat->run)
			continue;
		if (seat->state == SEAT_READY && seat_suits(seat, run)) {
			if (seat->runtime == run->runtime)
				return seat;
			plain = seat;
		}
		bool idle = seat->state == SEAT_READY;
		bool better = idle && (!other || other->state != SEAT_READY || seat->idle_since_us < other->idle_since_us);
		bool coming = seat->state == SEAT_STAMPING || (seat->state == SEAT_NONE && seat->leaf.fd[KNOB_KILL] >= 0);
		if (better || (!other && coming))
			other = seat;
	}
	return plain ? plain : other;
}

static void place(struct engine *engine, struct run *run, struct seat *seat)
{
	seat->run = run;
	seat->last_runtime = run->runtime;
	run->seat = seat;
	if (seat_suits(seat, run)) {
		if (seat->state == SEAT_READY)
			run_dispatch(run);
		return; /* STAMPING for the same plan: dispatched when it is ready */
	}
	seat_stamp(seat, &run->plan, NULL);
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

static void reject(struct engine_job *ej, const struct reject *why)
{
	ej->result.status = STATUS_REJECTED;
	ej->result.reject = *why;
	(void)snprintf(ej->result.message, sizeof(ej->result.message), "%s", why->message);
}

void engine_start(struct engine *engine, struct engine_job *ej)
{
	ej->stamp_layers = ej->run_cold = false;
	engine_enqueue(engine, ej);
}

void engine_enqueue(struct engine *engine, struct engine_job *ej)
{
	struct reject why = {0};
	struct err err = ERR_INIT;
	(void)snprintf(ej->result.worker, sizeof(ej->result.worker), "%s", engine->config.name);
	struct run *run = calloc(1, sizeof(*run));
	int r = run ? run_prepare(engine, ej, run, &why, &err) : err_set(&err, ENOMEM, "job");
	if (r != 0) {
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
	run_kill(run, STATUS_CANCELLED);
}

unsigned engine_free_slots(const struct engine *engine)
{
	unsigned n = 0, waiting = 0;
	for (unsigned i = 0; i < engine->nseats; i++)
		n += !engine->seats[i].run && engine->seats[i].failures == 0 &&
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

uint64_t engine_slot_memory(const struct engine *engine, unsigned i)
{
	uint64_t v = 0;
	if (i >= engine->nseats || engine->seats[i].leaf.fd[KNOB_MEMORY_NOW] < 0)
		return 0;
	(void)fd_pread_u64(engine->seats[i].leaf.fd[KNOB_MEMORY_NOW], &v);
	return v;
}
