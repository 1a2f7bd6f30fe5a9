/*
 * Tries: memory in memfds, written and not mapped, their fds held by children.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 96 MiB in memfds".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	static char chunk[MIB];
	memset(chunk, 1, sizeof(chunk));
	for (int mib = 0; mib < MOST; mib++) {
		int fd = memfd_create("attack", 0);
		if (fd < 0 || write(fd, chunk, sizeof(chunk)) != (ssize_t)sizeof(chunk))
			break;
	}
	broken("%d MiB in memfds", MOST);
	return finish();
}
