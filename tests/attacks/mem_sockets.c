/*
 * Tries: memory in the buffers of socket pairs, both ways, in several processes.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: four processes filled all socket pairs they could get".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include <sys/socket.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

static void fill(void)
{
	static char chunk[65536];
	int fds[2];
	while (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0)
		for (int i = 0; i < 2; i++)
			while (write(fds[i], chunk, sizeof(chunk)) > 0)
				;
}

int main(void)
{
	for (int i = 0; i < 4; i++) {
		if (fork() == 0) {
			fill();
			pause();
		}
	}
	sleep(5);
	broken("four processes filled all socket pairs they could get");
	return finish();
}
