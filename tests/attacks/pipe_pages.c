/*
 * Tries: to use up what a user may have in pipes, so that pipes of others, or petri's own of this job, become small or fail.
 * Must: find its own share ended, by its own limits; its output still comes.
 * Stopped by: a host uid for each slot, whom the kernel counts pipe pages by; streams are made before the job runs.
 * Without it: run as root outside of petri, whom the kernel does not count: "BROKEN: 400 pipes of a MiB".
 */
// flags: --open-files 1024 --memory 256M --cpu 5s
#include <fcntl.h>

#include "attack.h"

int main(void)
{
	/* The kernel's limit is 16384 pages of whatever size, and a MiB a pipe. */
	int large = 0, refused = 0, fds[2], most = (int)(sysconf(_SC_PAGESIZE) / 64);
	for (int i = 0; i < 400; i++) {
		if (pipe(fds) < 0)
			break;
		if (fcntl(fds[0], F_SETPIPE_SZ, 1 << 20) > 0)
			large++;
		else
			refused++;
	}
	must(large <= most && (refused > 0 || most >= 400), "%d pipes of a MiB, %d refused", large, refused);
	must_fail(fcntl(fds[0], F_SETPIPE_SZ, 1 << 30), EPERM, EBUSY);
	must(write(1, "", 0) == 0, "stdout still works");
	return finish();
}
