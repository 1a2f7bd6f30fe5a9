/* Whether the nursery still answers: a message to it and back, asked for by whoever reports the worker's health. Worker. */
#include "base/fd.h"
#include "base/sys.h"
#include "executor/engine_internal.h"

void engine_ask(struct engine *engine)
{
	const struct wire_msg ping = {.type = WIRE_PING};
	/* One at a time: a nursery that hangs must not find its socket filled, nor this process wait for room in it. */
	if (engine->dead || !engine->hello || engine->asked)
		return;
	engine->asked = fd_send_now(engine->config.nursery, &ping, sizeof(ping), NULL, 0) == 0;
}

void engine_answered(struct engine *engine)
{
	engine->asked = false;
	engine->answered_us = now_us();
}

uint64_t engine_answered_us(const struct engine *engine)
{
	return engine->dead ? 0 : engine->answered_us;
}
