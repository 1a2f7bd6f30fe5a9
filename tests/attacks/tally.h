/* How many processes or threads there were at once, and how many the kernel refused: for the bombs. */
#pragma once

#include <stdatomic.h>

#include "attack.h"

#define MOST 16
#define ENOUGH 200 /* so that the machine survives the test of the test */

struct tally {
	atomic_int alive, peak, refused;
};

static struct tally *tally; /* shared by all of them */

static inline void born(void)
{
	int alive = atomic_fetch_add(&tally->alive, 1) + 1, peak = atomic_load(&tally->peak);
	while (alive > peak && !atomic_compare_exchange_weak(&tally->peak, &peak, alive))
		;
}

static inline bool tally_start(void)
{
	tally = (struct tally *)mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED)
		return false;
	tally->alive = tally->peak = 1;
	return true;
}

static inline int tally_judge(void)
{
	for (int i = 0; i < 1000 && tally->refused == 0; i++) /* ten seconds: a slow machine needs some */
		usleep(10000);
	must(tally->peak <= MOST, "%d at once, of %d", tally->peak, MOST);
	must(tally->refused > 0, "%d refused", tally->refused);
	return finish();
}
