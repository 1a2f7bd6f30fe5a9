/*
 * Tries: to spend CPU time in children that nobody waits for, each of which dies before it has used a few milliseconds.
 * Must: cpu_limit, in time.
 * Stopped by: a deadline timer on the leaf's cpu.stat, set to the earliest moment at which the limit can be used up.
 * Without it: the deadline a hundred times as far: "ended as wall_limit, wanted cpu_limit".
 */
// flags: --cpu 100ms --wall 20s
// expect: cpu_limit
// usage: cpu_ms <= 250
#include <signal.h>
#include <time.h>

#include "attack.h"

static void spin_ms(long ms)
{
	struct timespec now;
	long end;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	end = now.tv_sec * 1000000000L + now.tv_nsec + ms * 1000000L;
	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	while (now.tv_sec * 1000000000L + now.tv_nsec < end);
}

int main(void)
{
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < 20000; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			spin_ms(2);
			_exit(0);
		}
		if (pid < 0)
			usleep(1000);
	}
	broken("20000 children of 2 ms each");
	return finish();
}
