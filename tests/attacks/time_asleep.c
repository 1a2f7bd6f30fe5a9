/*
 * Tries: to be there for ever without using CPU time: asleep, stopped, in vfork(2), waiting for a lock, all signals ignored.
 * Must: wall_limit, in time.
 * Stopped by: the wall-clock deadline; cgroup.kill, which needs nobody's consent.
 * Without it: the deadline two seconds late: "wall_ms is 2217, wanted <= 300".
 */
// flags: --wall 150ms
// expect: wall_limit
// usage: wall_ms <= 300
// usage: cpu_ms <= 100
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "attack.h"

int main(void)
{
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_IGN);
	if (fork() == 0) {
		kill(getpid(), SIGSTOP);
		pause();
	}
	if (fork() == 0) {
		if (raw_vfork() == 0)
			pause();
		_exit(0);
	}
	if (fork() == 0) {
		int fd = open("/work/fifo", mkfifo("/work/fifo", 0600) == 0 ? O_RDONLY : O_WRONLY);
		_exit(fd);
	}
	kill(getpid(), SIGSTOP);
	sleep(1000);
	broken("woken");
	return finish();
}
