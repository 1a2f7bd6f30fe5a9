/*
 * Tries: to have the init killed instead of itself, so that nobody reports the job's end: many small processes fill the memory limit while
 * the init, which shares its memory with the room outside, would be the better victim.
 * Must: end as memory_limit, whoever dies first, and the slot must serve the next job.
 * Stopped by: the leaf dies as one (memory.oom.group, or petri that reads the counter and kills it), and the worker decides by the counter.
 * Without it: (neither memory.oom.group nor the worker's look at the counter) wall_limit instead of memory_limit.
 */
// flags: --memory 32M --pids 32
// expect: memory_limit
#include "reach.h"

static void eat(size_t bytes)
{
	for (;;) {
		char *p = malloc(bytes);
		if (p)
			memset(p, 1, bytes);
	}
}

int main(void)
{
	for (int i = 0; i < 24; i++)
		if (fork() == 0)
			eat(4096);
	pause();
	return 0;
}
