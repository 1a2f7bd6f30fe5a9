/*
 * Tries: a fork bomb: every process forks until it cannot any more, and stays.
 * Must: never be more than --pids of them, and all be gone with the first.
 * Stopped by: pids.max of the job's cgroup; at the end cgroup.kill of its leaf.
 * Without it: pids.max not written: "BROKEN: 816 at once, of 16".
 */
// flags: --pids 16
#include "tally.h"

static void bomb(void)
{
	for (;;) {
		if (tally->alive >= ENOUGH)
			pause();
		pid_t pid = fork();
		if (pid == 0)
			born();
		if (pid >= 0)
			continue;
		tally->refused++;
		usleep(1000);
	}
}

int main(void)
{
	if (!tally_start())
		return 98;
	if (fork() == 0) {
		born();
		bomb();
	}
	usleep(20000);
	return tally_judge();
}
