/* The adapter between hiredis' asynchronous contexts and the event loop. */
#pragma once

#include <hiredis/async.h>

#include "executor/loop.h"

/* redis_wire_attach - let the loop drive ac. Return: 0 or -ENOMEM. It frees itself after ac was freed. */
int redis_wire_attach(struct loop *loop, redisAsyncContext *ac);
