/*
 * Tries: as many threads as it can get, in several processes.
 * Must: never be more than --pids of them, and all be gone with the first.
 * Stopped by: pids.max of the job's cgroup; at the end cgroup.kill of its leaf.
 * Without it: pids.max not written: "BROKEN: 150 at once, of 16".
 */
// flags: --pids 16
#include <pthread.h>

#include "tally.h"

static void *stay(void *arg)
{
	born();
	pause();
	return arg;
}

static void threads(void)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (int i = 0; i < ENOUGH / 2; i++) {
		pthread_t thread;
		if (pthread_create(&thread, &attr, stay, NULL) != 0)
			tally->refused++;
	}
}

int main(void)
{
	if (!tally_start())
		return 98;
	for (int i = 0; i < 2; i++) {
		if (fork() == 0) {
			born();
			threads();
			pause();
		}
	}
	usleep(20000);
	return tally_judge();
}
