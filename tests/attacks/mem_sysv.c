/*
 * Tries: memory by System V segments, detached and never removed.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 96 MiB of System V memory".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	for (int i = 0; i < MOST / 8; i++) {
		int id = shmget(IPC_PRIVATE, 8 * MIB, IPC_CREAT | 0600);
		char *p = id < 0 ? NULL : (char *)shmat(id, NULL, 0);
		if (!p || (intptr_t)p == -1)
			break;
		memset(p, 1, 8 * MIB);
		shmdt(p);
	}
	broken("%d MiB of System V memory", MOST);
	return finish();
}
