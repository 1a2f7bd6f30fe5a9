/* The engine's end, and another one in its place when it has lost its nursery. Worker. */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "executor/engine_internal.h"

#define GRAVE_LOOK_US 100000u

void engine_end(struct engine *engine)
{
	if (engine->ended)
		return;
	engine->ended = engine->dead = true;
	loop_cancel(engine->loop, &engine->nursery_op);
	loop_cancel(engine->loop, &engine->supervisor_op);
	for (unsigned i = 0; i < engine->nseats; i++) {
		struct seat *seat = &engine->seats[i];
		loop_cancel(engine->loop, &seat->oom_op);
		seat->oom_fd = -1; /* the leaf's, which is closed below; the event may have come already, and its number be another file's */
		loop_timer_clear(engine->loop, &seat->retry);
		loop_timer_clear(engine->loop, &seat->late);
		loop_timer_clear(engine->loop, &seat->oom_look);
		loop_timer_clear(engine->loop, &seat->warm);
		zygote_ref_drop(TAKE_PTR(seat->zygote));
		held_clear(engine, &seat->held);
		leaf_close(&seat->leaf);
		if (seat->page)
			(void)munmap((void *)TAKE_PTR(seat->page), sizeof(struct zygote_page));
	}
	for (unsigned i = 0; i < engine->nwarm; i++)
		held_clear(engine, &engine->warm[i].held);
	images_forget(engine);
	layer_uses_free(engine->uses);
	for (size_t i = 0; i < engine->npolicies; i++)
		free(engine->policies[i].name);
	for (size_t i = 0; i < engine->nruntimes; i++) {
		runtime_clear(engine->runtimes[i]);
		free(engine->runtimes[i]);
	}
	/* Closing the socket is what ends the nursery. */
	cleanup_close(&engine->config.nursery);
	cleanup_close(&engine->config.supervisor);
}

void engine_free(struct engine *engine)
{
	if (engine)
		engine_end(engine);
	/* The rest stays: the ring may still call back into the seats until the loop is freed, and the process ends next. */
}

static bool any_armed(const struct engine *engine)
{
	bool armed = engine->nursery_op.armed || engine->supervisor_op.armed;
	for (unsigned i = 0; i < engine->nseats; i++)
		armed |= engine->seats[i].oom_op.armed;
	return armed;
}

/* Of one that was replaced: once the ring is done with it. */
static void on_grave(struct loop_timer *timer)
{
	struct engine *engine = timer->data;
	if (any_armed(engine)) {
		loop_timer_set(engine->loop, timer, now_us() + GRAVE_LOOK_US);
		return;
	}
	free(engine->seats);
	free(engine);
}

int engine_replace(struct engine *old, int nursery, int supervisor, struct engine **ret, struct err *err)
{
	struct engine_config config = old->config;
	engine_end(old);
	config.nursery = nursery;
	config.supervisor = supervisor;
	int r = engine_new(&config, ret, err);
	if (r < 0) {
		cleanup_close(&nursery);
		cleanup_close(&supervisor);
		return r;
	}
	(*ret)->placed = old->placed;
	(*ret)->hits = old->hits;
	(*ret)->next_commit = old->next_commit;
	old->grave = (struct loop_timer){.fn = on_grave, .data = old};
	on_grave(&old->grave);
	return 0;
}
