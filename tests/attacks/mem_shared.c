/*
 * Tries: memory that is shared between children which die: what one has touched stays when it is gone.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 96 MiB shared".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include <sys/wait.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	char *p = (char *)mmap(NULL, (size_t)MOST * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int part = 0; p != MAP_FAILED && part < 8; part++) {
		if (fork() == 0) {
			memset(p + part * (MOST / 8) * MIB, 1, (size_t)(MOST / 8) * MIB);
			_exit(0);
		}
		wait(NULL);
	}
	broken("%d MiB shared", MOST);
	return finish();
}
