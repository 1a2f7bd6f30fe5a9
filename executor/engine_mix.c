/*
 * The mix: which plans idle seats are made for. A seat that has run a job is made ready for the same plan again, since the next job is
 * most likely of the same kind, without the layers that only one submission has; a job that finds no seat of its plan takes the one
 * that has idled longest (engine_schedule.c). So the mix follows what arrives. An image may have a floor: so many seats are kept for it,
 * and given back to it when a rush for others is over.
 */
#include "executor/engine_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"

#define FNV_OFFSET 0xcbf29ce484222325ull
#define FNV_PRIME 0x100000001b3ull

static uint64_t fold(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * FNV_PRIME;
	return hash;
}

/* FNV-1a, over what wire_plan_equal() compares. */
uint64_t plan_hash(const struct wire_plan *plan)
{
	uint64_t hash = (FNV_OFFSET ^ plan->nlayers) * FNV_PRIME;
	hash = (hash ^ plan->network) * FNV_PRIME;
	hash = (hash ^ plan->policy) * FNV_PRIME;
	hash = (hash ^ plan->host_usr) * FNV_PRIME;
	return fold(hash, plan->layers, sizeof(plan->layers[0]) * MIN(plan->nlayers, (uint32_t)POOL_LAYERS_MAX));
}

static int add_warm(struct engine *engine, const char *image, unsigned floor, struct err *err)
{
	if (engine->nwarm == WARM_MAX)
		return err_say(err, E2BIG, "warm-image names more than %d images", WARM_MAX);
	struct warm made = {.floor = floor};
	int r = plan_for_image(engine, image, engine->config.warm_policy ? engine->config.warm_policy : "judge", &made.plan, &made.runtime, err);
	if (r < 0)
		return r;
	made.hash = plan_hash(&made.plan);
	engine->warm[engine->nwarm] = made;
	engine->nwarm++;
	return 0;
}

/* One that is not there yet must not keep the others from being warmed. */
int mix_init(struct engine *engine, struct err *err)
{
	_cleanup_free_ char *list = strdup(engine->config.warm_image ? engine->config.warm_image : "host");
	char *rest = NULL;
	int worst = 0;
	for (char *item = list ? strtok_r(list, ",", &rest) : NULL; item; item = strtok_r(NULL, ",", &rest)) {
		struct err why = ERR_INIT;
		char *count = strchr(item, '=');
		uint64_t floor = 0;
		if (count)
			*count++ = '\0';
		int r = count ? parse_u64(count, &floor, &why) : 0;
		if (r == 0 && floor > POOL_SLOTS_MAX)
			r = err_say(&why, ERANGE, "more than %d", POOL_SLOTS_MAX);
		if (r == 0)
			r = add_warm(engine, item, (unsigned)floor, &why);
		if (r < 0)
			worst = err_say(err, -r, "image '%.100s': %s", item, err_msg(&why));
	}
	return worst;
}

static unsigned seats_of(const struct engine *engine, uint64_t hash)
{
	unsigned n = 0;
	for (unsigned i = 0; i < engine->nseats; i++)
		n += engine->seats[i].state != SEAT_NONE && engine->seats[i].state != SEAT_RETIRED && engine->seats[i].plan_hash == hash;
	return n;
}

static const struct warm *short_of_seats(const struct engine *engine)
{
	for (unsigned i = 0; i < engine->nwarm; i++)
		if (engine->warm[i].floor > 0 && seats_of(engine, engine->warm[i].hash) < engine->warm[i].floor)
			return &engine->warm[i];
	return NULL;
}

const struct warm *mix_first(struct engine *engine)
{
	const struct warm *warm = short_of_seats(engine);
	return warm || engine->nwarm == 0 ? warm : &engine->warm[0];
}

struct runtime *mix_next(struct seat *seat, struct wire_plan *plan)
{
	const struct warm *warm = short_of_seats(seat->engine);
	if (warm && !mix_keeps(seat->engine, seat)) {
		*plan = warm->plan;
		return warm->runtime;
	}
	*plan = seat->plan;
	if (plan->nlayers > seat->image_layers)
		plan->nlayers = seat->image_layers; /* the image's lie lowest */
	return seat->last_runtime;
}

bool mix_keeps(const struct engine *engine, const struct seat *seat)
{
	for (unsigned i = 0; i < engine->nwarm; i++)
		if (engine->warm[i].hash == seat->plan_hash)
			return engine->warm[i].floor > 0 && seats_of(engine, seat->plan_hash) <= engine->warm[i].floor;
	return false;
}

void engine_warmth(const struct engine *engine, uint64_t *ret_placed, uint64_t *ret_hits)
{
	*ret_placed = engine->placed;
	*ret_hits = engine->hits;
}
