/*
 * Tries: to flood stdout and stderr at once, from two processes, in large and in single-byte writes.
 * Must: output_limit, soon.
 * Stopped by: the cap on each stream, counted where the worker reads the pipe.
 * Without it: the cap not heeded: "ended as wall_limit, wanted output_limit".
 */
// flags: --output 64K --wall 20s
// expect: output_limit
// usage: wall_ms <= 2000
#include <sys/wait.h>

#include "attack.h"

int main(void)
{
	static char chunk[1 << 20];
	memset(chunk, 'x', sizeof(chunk));
	pid_t pid = fork();
	for (int i = 0; i < 1000000; i++)
		if (write(pid ? 1 : 2, chunk, i % 2 ? sizeof(chunk) : 1) < 0)
			break;
	if (pid)
		wait(NULL);
	broken("a terabyte went through");
	return finish();
}
