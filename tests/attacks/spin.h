/* What the attacks on CPU time share: a loop that never ends, alone or in threads. */
#pragma once

#include <pthread.h>

static inline void spin(void)
{
	for (volatile unsigned long n = 0;; n++)
		;
}

static inline void *spin_thread(void *arg)
{
	spin();
	return arg;
}

static inline void spin_in_threads(int n)
{
	pthread_t thread;
	for (int i = 0; i < n; i++)
		pthread_create(&thread, NULL, spin_thread, NULL);
}
