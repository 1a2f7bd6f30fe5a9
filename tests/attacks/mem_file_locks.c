/*
 * Tries: kernel memory: record locks on single bytes, which have no limit of their own and which no memory limit counts.
 * Must: end with the CPU time, and all be freed with the job: nothing else bounds them, at about 25 MiB for a second of CPU time.
 * Stopped by: the CPU limit alone. Linux ignores RLIMIT_LOCKS, and does not charge locks to a cgroup.
 * Without it: the deadline a hundred times as far: "ended as wall_limit, wanted cpu_limit".
 */
// flags: --cpu 100ms --memory 24M --wall 20s
// expect: cpu_limit
#include <fcntl.h>

#include "attack.h"

#define LOCK_BYTES 216 /* struct file_lock, about */

int main(void)
{
	long locks = 0;
	for (int f = 0; f < 100; f++) {
		char path[32];
		snprintf(path, sizeof(path), "/work/%d", f);
		int fd = open(path, O_CREAT | O_RDWR, 0600);
		for (int i = 0; i < 1000; i++) {
			struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)2 * i, .l_len = 1};
			if (fcntl(fd, F_SETLK, &lock) < 0)
				break;
			locks++;
		}
	}
	broken("%ld locks, %ld KiB", locks, locks * LOCK_BYTES / 1024);
	return finish();
}
