/*
 * Tries: memory as files in /dev/shm, also deleted ones, in many processes' names.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 96 MiB in /dev/shm".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include <fcntl.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	static char chunk[MIB];
	memset(chunk, 1, sizeof(chunk));
	for (int mib = 0; mib < MOST; mib++) {
		char path[32];
		snprintf(path, sizeof(path), "/dev/shm/%d", mib);
		int fd = open(path, O_CREAT | O_WRONLY, 0600);
		if (fd < 0 || write(fd, chunk, sizeof(chunk)) != (ssize_t)sizeof(chunk))
			break;
		if (mib % 2)
			unlink(path);
	}
	broken("%d MiB in /dev/shm", MOST);
	return finish();
}
