/* burn THREADS MS: each thread uses MS milliseconds of CPU time by its own clock, then it ends; 0: for ever. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static long limit_ms;

static void *burn(void *unused)
{
	struct timespec used;
	do {
		for (volatile int i = 0; i < 100000; i++)
			;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	} while (limit_ms == 0 || used.tv_sec * 1000 + used.tv_nsec / 1000000 < limit_ms);
	return unused;
}

int main(int argc, char **argv)
{
	int threads = argc > 2 ? atoi(argv[1]) : 1;
	pthread_t id[64];
	limit_ms = argc > 2 ? atol(argv[2]) : 0;
	for (int i = 1; i < threads && i < 64; i++)
		if (pthread_create(&id[i], NULL, burn, NULL) != 0)
			return 2;
	burn(NULL);
	for (int i = 1; i < threads && i < 64; i++)
		pthread_join(id[i], NULL);
	return 0;
}
