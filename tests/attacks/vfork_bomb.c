/*
 * Tries: a chain of vfork(2): each child makes the next and none goes on, so that every one of them sleeps in the kernel.
 * Must: never be more than --pids of them, and all be gone with the first.
 * Stopped by: pids.max of the job's cgroup; at the end cgroup.kill of its leaf.
 * Without it: pids.max not written: "BROKEN: 200 at once, of 16".
 */
// flags: --pids 16
#include "tally.h"

static void chain(void)
{
	if (tally->alive >= ENOUGH)
		pause();
	pid_t pid = (pid_t)raw_vfork();
	if (pid == 0) {
		born();
		chain();
	}
	tally->refused += pid < 0;
	pause();
}

int main(void)
{
	if (!tally_start())
		return 98;
	pid_t pid = fork();
	if (pid == 0) {
		born();
		chain();
	}
	usleep(20000);
	return tally_judge();
}
