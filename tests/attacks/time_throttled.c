/*
 * Tries: to die slowly: many threads throttled to a hundredth of a CPU, each of which must run once more to die.
 * Must: wall_limit, and dead soon after.
 * Stopped by: the CPU quota is lifted before the leaf is killed.
 * Without it: the quota not lifted: "wall_ms is 810, wanted <= 450".
 */
// flags: --wall 150ms --cpus 0.01 --cpu 10s
// expect: wall_limit
// usage: wall_ms <= 450
#include <pthread.h>

#include "attack.h"

static void spin(void)
{
	for (volatile unsigned long n = 0;; n++)
		;
}

static void *run(void *arg)
{
	spin();
	return arg;
}

int main(void)
{
	pthread_t thread;
	for (int i = 0; i < 30; i++)
		pthread_create(&thread, NULL, run, NULL);
	pause();
}
