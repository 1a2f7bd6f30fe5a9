/* Where a client verb finds its Redis. */
#pragma once

#include "executor/queue.h"

/* cli_redis_url - --redis, else PETRI_REDIS (which may have credentials), else the default. */
int cli_redis_url(const char *flag, struct redis_url *ret, struct err *err);
