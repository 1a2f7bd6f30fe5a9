/* What Redis sends, looked at before hiredis takes it for granted (process: petri). */
#pragma once

#include <hiredis/async.h>
#include <stdbool.h>

/* The largest array that is believed; the longest that petri asks for has far fewer elements. */
#define REDIS_GUARD_ELEMENTS_MAX (1 << 20)

struct redis_guard {
	redisAsyncContext *ac;
	redisReplyObjectFunctions fn, *plain; /* ours; those of hiredis */
	bool message;			      /* what is being read is for a subscription */
};

/*
 * redis_guard_attach - from here on, a reply that hiredis would end the process for is an error of the connection instead, which is
 * then lost as by any other. The guard must outlive the context, or redis_guard_detach() be called before the context is freed.
 */
void redis_guard_attach(struct redis_guard *guard, redisAsyncContext *ac);
void redis_guard_detach(struct redis_guard *guard);
