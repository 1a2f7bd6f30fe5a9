/*
 * Tries: to sleep until the deadline for its CPU time is far, and then to burn it all at once on every CPU.
 * Must: cpu_limit, in time.
 * Stopped by: a deadline timer on the leaf's cpu.stat, set to the earliest moment at which the limit can be used up.
 * Without it: the deadline not brought forward when time is used faster: "ended as wall_limit, wanted cpu_limit".
 */
// flags: --cpu 60ms --wall 20s --cpus 2
// expect: cpu_limit
// usage: cpu_ms <= 260
#include "attack.h"
#include "spin.h"

int main(void)
{
	for (int round = 0; round < 5; round++) { /* a millisecond now and then, so that the deadline is set anew */
		for (volatile long n = 0; n < 1000000; n++)
			;
		usleep(20000);
	}
	spin_in_threads(8);
	pause();
}
