/*
 * Tries: to die slowly: many threads throttled to a hundredth of a CPU, each of which must run once more to die.
 * Must: wall_limit, and dead soon after.
 * Stopped by: the CPU quota is lifted before the leaf is killed.
 * Without it: the quota not lifted: "wall_ms is 810, wanted <= 450".
 */
// flags: --wall 150ms --cpus 0.01 --cpu 10s
// expect: wall_limit
// usage: wall_ms <= 450
#include "attack.h"
#include "spin.h"

int main(void)
{
	spin_in_threads(30);
	pause();
}
