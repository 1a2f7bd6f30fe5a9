/*
 * Tries: memory by malloc(3), touched.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 96 MiB by malloc".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	for (int mib = 0; mib < MOST; mib++) {
		volatile char *p = (volatile char *)malloc(MIB);
		for (int i = 0; p && i < MIB; i += 4096)
			p[i] = 1;
	}
	broken("%d MiB by malloc", MOST);
	return finish();
}
