/*
 * Tries: memory in pipes, made as large as they may be, and filled; first one process's, then several.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: eight processes filled all pipes they could get".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include <fcntl.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

static void fill(void)
{
	static char chunk[MIB];
	for (;;) {
		int fds[2];
		if (pipe2(fds, O_NONBLOCK) < 0)
			break;
		fcntl(fds[1], F_SETPIPE_SZ, MIB);
		while (write(fds[1], chunk, sizeof(chunk)) > 0)
			;
	}
}

int main(void)
{
	for (int i = 0; i < 8; i++) {
		if (fork() == 0) {
			fill();
			pause();
		}
	}
	sleep(5);
	broken("eight processes filled all pipes they could get");
	return finish();
}
