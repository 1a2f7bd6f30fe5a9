/*
 * Tries: a fork bomb by clone(2) with CLONE_PARENT, whose children are all their grandparent's, and with a shared memory.
 * Must: never be more than --pids of them, and all be gone with the first.
 * Stopped by: pids.max of the job's cgroup; at the end cgroup.kill of its leaf.
 * Without it: pids.max not written: "BROKEN: 201 at once, of 16".
 */
// flags: --pids 16
#include <sched.h>
#include <signal.h>

#include "tally.h"

static char stacks[ENOUGH][8192] __attribute__((aligned(16)));

static int child(void *arg)
{
	(void)arg;
	born();
	pause();
	return 0;
}

int main(void)
{
	if (!tally_start())
		return 98;
	for (int i = 0; i < ENOUGH; i++) {
		int flags = i % 2 ? CLONE_PARENT | SIGCHLD : CLONE_VM | CLONE_FILES | CLONE_FS;
		if (clone(child, stacks[i] + sizeof(stacks[i]), flags, NULL) < 0)
			tally->refused++;
	}
	usleep(20000);
	return tally_judge();
}
