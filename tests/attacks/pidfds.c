/*
 * Tries: to use pidfds: of the init (by pidfd_open and by opening /proc/1), every signal through it, waiting for it; of every pid up to
 * 300; of its own threads; and pidfd_getfd of each fd of the init's, which has the pipes and the control socket.
 * Must: be refused: signals with EPERM, waiting with ECHILD, pidfd_getfd with EPERM, or the job ends by violation.
 * Stopped by: the init is another user (signals), is nobody's child here, and not dumpable; pidfd_getfd by the policies.
 * Without it: (an init with the job's ids) "BROKEN: 0 of 65 signals refused".
 */
// expect judge: violation pidfd_getfd
#include <signal.h>
#include <sys/syscall.h>

#include "reach.h"

static void use(int fd)
{
	int refused = 0;
	for (int sig = 0; sig <= 64; sig++)
		refused += syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) < 0;
	must(refused == 65, "%d of 65 signals refused", refused);
	for (unsigned flags = 1; flags <= 4; flags *= 2) { /* to thread, process, group, from Linux 6.9 */
		must_fail_as("SIGKILL by pidfd with flags", syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, flags));
	}
	siginfo_t info;
	must_fail_as("waitid", syscall(SYS_waitid, 3 /* P_PIDFD */, fd, &info, WEXITED | WNOHANG, NULL), ECHILD, EINVAL, EBADF);
}

int main(void)
{
	int init = (int)syscall(SYS_pidfd_open, 1, 0), by_path = open("/proc/1", O_RDONLY | O_DIRECTORY);
	must(init < 0 || init > 2, "pidfd_open(1)");
	if (init >= 0)
		use(init);
	if (by_path >= 0)
		use(by_path);
	int others = 0;
	for (int pid = 2; pid <= 300; pid++)
		others += pid != getpid() && syscall(SYS_pidfd_open, pid, 0) >= 0;
	must(others == 0, "%d pidfds of other processes", others);
	for (int fd = 0; fd < 64; fd++)
		must_fail_as("pidfd_getfd of the init", syscall(SYS_pidfd_getfd, init, fd, 0), EPERM);
	return finish();
}
