/*
 * Tries: to spend more CPU time than is allowed by threads, each of which has little.
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
	spin_in_threads(16);
	pause();
}
