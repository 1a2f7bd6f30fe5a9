/*
 * Tries: to outlive the job: a double fork, a session of its own, all signals ignored, all fds closed; a stopped child; one
 *   that holds stdout.
 * Must: all be gone, and the job over, as soon as its first process ends.
 * Stopped by: the pid namespace, whose end its init is; cgroup.kill of the leaf, which must read `populated 0`.
 * Without it: init waits for all of the job, not for its first process only: "ended as wall_limit, wanted exited 0".
 */
// flags: --wall 10s
// usage: wall_ms <= 1000
#include <signal.h>

#include "attack.h"

static void daemon_of(bool close_all)
{
	if (fork() != 0)
		return;
	setsid();
	if (fork() != 0)
		_exit(0);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_IGN);
	if (close_all)
		close_range(0, ~0U, 0);
	for (;;)
		sleep(100);
}

int main(void)
{
	daemon_of(true);
	daemon_of(false);
	pid_t pid = fork();
	if (pid == 0) {
		raise(SIGSTOP);
		_exit(0);
	}
	usleep(20000);
	must(kill(pid, 0) == 0 && getpgrp() != pid, "the runner looks for what is left");
	return finish();
}
