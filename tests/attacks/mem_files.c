/*
 * Tries: kernel memory: empty files in /dev/shm, which no disk limit counts.
 * Must: memory_limit, or cpu_limit where reclaim takes all the time, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "ended as wall_limit, wanted memory_limit".
 */
// flags: --memory 24M --wall 20s --cpu 2s
// expect: memory_limit | cpu_limit
// usage: memory_mib <= 24.5
#include <sys/stat.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	int n = 0;
	for (char path[32]; n < 150000; n++) {
		snprintf(path, sizeof(path), "/dev/shm/%d", n);
		if (mknod(path, S_IFREG | 0600, 0) < 0)
			break;
	}
	broken("%d files", n);
	return finish();
}
