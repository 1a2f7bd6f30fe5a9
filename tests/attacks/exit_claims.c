/*
 * Tries: to have the exit of another process taken for the job's: of orphans, which the init reaps like its own child, before and after the
 *        job's own end; of a child in its process group; and to put the end off by children that keep the streams open
 * Must: the job's own exit code, at once; nothing of what the children still write counts as a reason to wait
 * Stopped by: the init, which believes in the exit of its own child only and ends the pid namespace with it; the leaf's cgroup.kill
 * Without it: any child's exit believed in (wait_for_end() without its comparison): exited 0, wanted exited 42
 */
// expect: exited 42
// usage: wall_ms <= 5000
#include "attack.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static void nap(long ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	(void)nanosleep(&t, NULL);
}

/* A child of the init's, for its parent is gone. */
static void orphan(int code, long after_ms, bool writes)
{
	if (fork() == 0) {
		(void)setsid();
		if (fork() == 0) {
			(void)signal(SIGTERM, SIG_IGN);
			(void)signal(SIGHUP, SIG_IGN);
			for (long waited = 0; waited < after_ms; waited += 10) {
				nap(10);
				if (writes)
					(void)!write(1, "HELD: still here\n", 17);
			}
			_exit(code);
		}
		_exit(code);
	}
	(void)wait(NULL);
}

int main(void)
{
	held("orphans that end before the job does");
	for (int code = 0; code < 4; code++)
		orphan(code, 0, false);
	nap(50);
	orphan(0, 60000, false);
	orphan(0, 60000, true);
	orphan(9, 200, true);
	if (fork() == 0)
		_exit(0);
	must_fail(kill(1, SIGKILL), EPERM);
	must_fail(kill(1, SIGSTOP), EPERM);
	return finish() ? 1 : 42;
}
