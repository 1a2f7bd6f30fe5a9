/* Where a client verb finds its Redis; see the header. */
#include "executor/cli_redis.h"

#include <stdlib.h>

#include "executor/worker.h"

int cli_redis_url(const char *flag, struct redis_url *ret, struct err *err)
{
	const char *env = getenv("PETRI_REDIS");
	bool from_env = !flag && env && *env;
	return redis_url_parse(flag ? flag : from_env ? env
						      : REDIS_DEFAULT,
		from_env, ret, err);
}
