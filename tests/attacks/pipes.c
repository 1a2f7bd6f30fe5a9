/*
 * Tries: to take all pages for pipes that the kernel gives one user (pipe-user-pages-soft), so that other jobs' pipes hold one page or none
 * Must: the pipes of jobs beside it, and of the next in its slot, have their full size
 * Stopped by: a slot's own range of uids; pipes are made under the job's uid, and end with it before the slot is used again
 * Without it: (the same uids for all slots) a new pipe of the job beside it has 8192 bytes
 */
// driven-by: tests/integration/test_attacks_petri.py
/* pipes take: as many as there can be, and wait. pipes look: the sizes of the three streams and of a new pipe. */
#include "attack.h"

#include <fcntl.h>

int main(int argc, char **argv)
{
	int fds[2];
	if (argc > 1 && strcmp(argv[1], "take") == 0) {
		long pages = 0;
		while (pipe(fds) == 0)
			for (int size = 1 << 20; size >= 4096; size /= 2)
				if (fcntl(fds[1], F_SETPIPE_SZ, size) >= 0) {
					pages += size / 4096;
					break;
				}
		printf("%ld\n", pages);
		fflush(stdout);
		(void)pause();
	}
	for (int fd = 0; fd < 3; fd++)
		printf("%d ", fcntl(fd, F_GETPIPE_SZ));
	printf("%d\n", pipe(fds) == 0 ? fcntl(fds[1], F_GETPIPE_SZ) : -1);
	return 0;
}
