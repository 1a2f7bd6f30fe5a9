/*
 * Tries: memory as arguments: many processes that execute themselves with as large an argument vector as is taken.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 24 processes with 4 MiB of arguments".
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
	char *args[ARGS + 2] = {argv[0]};
	if (argc > 1)
		pause();
	memset(word, 'x', sizeof(word) - 1);
	for (int i = 1; i <= ARGS; i++)
		args[i] = word;
	for (int i = 0; i < MOST / 4; i++) {
		if (fork() == 0) {
			execv("/proc/self/exe", args);
			_exit(1);
		}
	}
	sleep(5);
	broken("%d processes with 4 MiB of arguments", MOST / 4);
	return finish();
}
