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
	int r = plan_for_image(engine, image, engine->config.warm_policy ? engine->config.warm_policy : "judge", &made.plan, &made.held, &made.runtime, err);
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

/* ---- floors ---- */
/* The first entry with this plan; WARM_MAX: there is none. */
static unsigned find_warm(const struct engine *engine, uint64_t hash)
{
	for (unsigned i = 0; i < engine->nwarm; i++)
		if (engine->warm[i].hash == hash)
			return i;
	return WARM_MAX;
}

static struct tally count_seats(const struct engine *engine)
{
	struct tally tally = {0};
	for (unsigned i = 0; i < engine->nseats; i++) {
		const struct seat *seat = &engine->seats[i];
		unsigned at = seat->state == SEAT_NONE || seat->state == SEAT_RETIRED ? WARM_MAX : find_warm(engine, seat->plan_hash);
		if (at < WARM_MAX)
			tally.seats[at]++;
	}
	return tally;
}

static bool has_floors(const struct engine *engine)
{
	for (unsigned i = 0; i < engine->nwarm; i++)
		if (engine->warm[i].floor > 0)
			return true;
	return false;
}

static const struct warm *find_short(const struct engine *engine, const struct tally *tally)
{
	for (unsigned i = 0; i < engine->nwarm; i++)
		if (tally->seats[find_warm(engine, engine->warm[i].hash)] < engine->warm[i].floor)
			return &engine->warm[i];
	return NULL;
}

const struct warm *mix_first(struct engine *engine)
{
	const struct warm *warm = NULL;
	if (has_floors(engine)) {
		struct tally tally = count_seats(engine);
		warm = find_short(engine, &tally);
	}
	return warm || engine->nwarm == 0 ? warm : &engine->warm[0];
}

/* Is one of so many seats of this plan needed for its floor? */
static bool is_kept(const struct engine *engine, const struct tally *tally, unsigned at)
{
	return at < WARM_MAX && engine->warm[at].floor > 0 && tally->seats[at] <= engine->warm[at].floor;
}

struct runtime *mix_next(struct seat *seat, struct wire_plan *plan)
{
	const struct engine *engine = seat->engine;
	if (has_floors(engine)) {
		struct tally tally = count_seats(engine);
		const struct warm *warm = find_short(engine, &tally);
		if (warm && !is_kept(engine, &tally, find_warm(engine, seat->plan_hash))) {
			*plan = warm->plan;
			return warm->runtime;
		}
	}
	*plan = seat->plan;
	if (plan->nlayers > seat->image_layers)
		plan->nlayers = seat->image_layers; /* the image's lie lowest */
	return seat->last_runtime;
}

void mix_count(const struct engine *engine, struct tally *ret)
{
	*ret = has_floors(engine) ? count_seats(engine) : (struct tally){0};
}

bool mix_keeps(const struct engine *engine, const struct tally *tally, const struct seat *seat)
{
	return is_kept(engine, tally, find_warm(engine, seat->plan_hash));
}

void engine_warmth(const struct engine *engine, uint64_t *ret_placed, uint64_t *ret_hits)
{
	*ret_placed = engine->placed;
	*ret_hits = engine->hits;
}
