/*
 * Tries: memory as arguments and as environment: many processes that execute themselves with as much of one or the other as is
 *   taken.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 24 processes with 4 MiB of arguments or environment".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

#define ARGS 40

int main(int argc, char **argv)
{
	static char word[100000];
	char *args[ARGS + 2] = {argv[0]}, *few[] = {argv[0], argv[0], NULL};
	if (argc > 1)
		pause();
	memset(word, 'x', sizeof(word) - 1);
	for (int i = 1; i <= ARGS; i++)
		args[i] = word;
	for (int i = 0; i < MOST / 4; i++) {
		if (fork() == 0) {
			if (i % 2)
				execv("/proc/self/exe", args);
			else
				execve("/proc/self/exe", few, args);
			_exit(1);
		}
	}
	sleep(5);
	broken("%d processes with 4 MiB of arguments or environment", MOST / 4);
	return finish();
}
