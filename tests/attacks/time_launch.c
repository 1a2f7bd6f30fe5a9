/*
 * Tries: to have no wall-clock limit by a launch that takes longer than it: files to be unpacked at a hundredth of a CPU.
 * Must: wall_limit, soon after the program began, since the clock starts there.
 * Stopped by: the deadline, looked at again every few milliseconds until the program has begun.
 * Without it: looked at once only: "wall_ms is 9987, wanted <= 1000", after the ten seconds that a launch may take.
 */
// flags: --wall 1ms --cpus 0.01
// expect: wall_limit
// usage: wall_ms <= 1000
#include "attack.h"

int main(void)
{
	sleep(20);
	broken("twenty seconds");
	return finish();
}
