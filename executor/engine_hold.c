/*
 * The layers in use: a run holds its image's and its own from the moment it is prepared until it is freed, a seat those that
 * its room is (or will be) made of, and what seats are kept warm for is held to the end. gc takes none of them. Worker.
 */
#include "executor/engine_internal.h"

#include <errno.h>

int held_add(struct engine *engine, struct held *held, const uint8_t id[16], struct err *err)
{
	if (held->n == HELD_MAX)
		return err_say(err, ENOSPC, "more than %d layers", HELD_MAX);
	int r = layer_uses_hold(engine->uses, id, &held->uses[held->n], err);
	if (r == 0)
		held->n++;
	return r;
}

void held_clear(struct engine *engine, struct held *held)
{
	while (held->n > 0)
		layer_uses_drop(engine->uses, held->uses[--held->n]);
}

int held_plan(struct engine *engine, struct held *held, const struct wire_plan *plan, struct err *err)
{
	struct held next = {.n = 0};
	for (uint32_t i = 0; i < plan->nlayers; i++) {
		int r = held_add(engine, &next, plan->layers[i], err);
		if (r < 0) {
			held_clear(engine, &next);
			return r;
		}
	}
	/* The new ones first: what both have is never let go in between. */
	held_clear(engine, held);
	*held = next;
	return 0;
}
