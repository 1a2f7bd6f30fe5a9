/*
 * Tries: to pass the cap by other ways to the same pipe: duplicates, /dev/stdout and /proc/self/fd/1 opened anew, splice and
 *   sendfile, a larger pipe.
 * Must: output_limit: all ways count as one.
 * Stopped by: the cap on each stream, counted where the worker reads the pipe.
 * Without it: the cap not heeded: "ended as wall_limit, wanted output_limit".
 */
// flags: --output 64K --wall 20s --disk 8M
// expect: output_limit
// usage: wall_ms <= 2000
#include <fcntl.h>
#include <sys/sendfile.h>

#include "attack.h"

int main(void)
{
	static char chunk[16384];
	memset(chunk, 'x', sizeof(chunk));
	int fds[8] = {dup(1), dup2(1, 77), open("/dev/stdout", O_WRONLY), open("/proc/self/fd/1", O_WRONLY | O_APPEND), open("/proc/self/fd/1", O_RDWR), 1};
	int file = open("/work/file", O_CREAT | O_RDWR, 0600), source[2];
	fcntl(1, F_SETPIPE_SZ, 1 << 20);
	if (write(file, chunk, sizeof(chunk)) < 0 || pipe(source) < 0)
		return 98;
	for (int round = 0; round < 1000; round++) {
		for (int i = 0; i < 6; i++)
			if (fds[i] > 0 && write(fds[i], chunk, 8192) < 0)
				break;
		sendfile(1, file, &(off_t){0}, sizeof(chunk));
		if (write(source[1], chunk, sizeof(chunk)) > 0)
			splice(source[0], NULL, 1, NULL, sizeof(chunk), 0);
	}
	broken("more than a hundred times the cap");
	return finish();
}
