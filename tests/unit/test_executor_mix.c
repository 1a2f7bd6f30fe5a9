/* Floors of the mix: which seats may be given to a job of another image. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "executor/engine_internal.h"

#define OTHER 99

static struct engine engine;

/* Two images with floors, and so many seats of the first, the second and neither. */
static void setup(unsigned floor1, unsigned n1, unsigned floor2, unsigned n2, unsigned others)
{
	engine = (struct engine){.nwarm = 2, .nseats = n1 + n2 + others, .placed = 1, .next_seq = 1};
	engine.warm[0] = (struct warm){.hash = 1, .floor = floor1, .plan = {.policy = 1}};
	engine.warm[1] = (struct warm){.hash = 2, .floor = floor2, .plan = {.policy = 2}};
	engine.seats = calloc(engine.nseats, sizeof(*engine.seats));
	cr_assert(engine.seats);
	for (unsigned i = 0; i < engine.nseats; i++) {
		struct seat *seat = &engine.seats[i];
		*seat = (struct seat){.state = SEAT_READY, .index = i, .engine = &engine};
		seat->plan_hash = i < n1 ? 1 : i < n1 + n2 ? 2
							   : OTHER;
		seat->plan.policy = (uint32_t)seat->plan_hash;
	}
}

static bool keeps(const struct seat *seat)
{
	struct tally tally;
	mix_count(&engine, &tally);
	return mix_keeps(&engine, &tally, seat);
}

/* As engine_schedule() does when it has chosen one. */
static void place(unsigned seat, uint64_t hash)
{
	engine.placed++;
	engine.seats[seat].plan_hash = hash;
}

static uint32_t policy_next(unsigned seat)
{
	struct wire_plan plan;
	(void)mix_next(&engine.seats[seat], &plan);
	return plan.policy;
}

Test(mix, floor_is_kept)
{
	setup(2, 3, 0, 3, 1);
	cr_assert(!keeps(&engine.seats[0])); /* three, and two are kept */
	cr_assert(!keeps(&engine.seats[3])); /* no floor */
	cr_assert(!keeps(&engine.seats[6])); /* of no image that is kept warm */
	place(0, OTHER);
	cr_assert(keeps(&engine.seats[1]));
	cr_assert(keeps(&engine.seats[2]));
}

Test(mix, retired_and_missing_seats_do_not_count)
{
	setup(2, 4, 0, 0, 0);
	engine.seats[0].state = SEAT_RETIRED;
	engine.seats[1].state = SEAT_NONE;
	cr_assert(keeps(&engine.seats[2]));
	engine.seats[1].state = SEAT_STAMPING;
	cr_assert(!keeps(&engine.seats[2]));
}

Test(mix, seats_go_back_to_a_floor_that_is_short)
{
	setup(2, 1, 1, 1, 2);
	cr_assert_eq(mix_first(&engine), &engine.warm[0]);
	cr_assert_eq(policy_next(2), 1); /* neither image's */
	cr_assert_eq(policy_next(1), 2); /* the only one of the other floor */
	place(2, 1);
	cr_assert_eq(policy_next(3), OTHER); /* nothing is short */
	cr_assert_eq(mix_first(&engine), &engine.warm[0]);
}

/* An image that is named twice has its seats counted for both. */
Test(mix, same_image_twice)
{
	setup(1, 3, 3, 0, 1);
	engine.warm[1].hash = 1;
	cr_assert_eq(policy_next(3), OTHER);
}
