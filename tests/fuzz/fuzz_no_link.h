/*
 * What the targets share that put themselves in the place of executor/redis_link.c: the part of a connection that does nothing there. For one
 * file of a program.
 */
#pragma once

#include "executor/redis_link.h"

void redis_link_init(struct redis_link *link, struct loop *loop, const struct redis_url *url, const struct redis_link_events *events, void *data)
{
	*link = (struct redis_link){.loop = loop, .url = url, .events = events, .data = data, .backoff_ms = REDIS_BACKOFF_MIN_MS, .backoff_max_ms = REDIS_BACKOFF_MAX_MS};
}

bool redis_link_same(const struct redis_link *a, const struct redis_link *b)
{
	return true;
}

void redis_link_good(struct redis_link *link)
{
}

void redis_link_hurry(struct redis_link *link, bool hurry)
{
}
