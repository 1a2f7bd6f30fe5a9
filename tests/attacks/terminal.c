/*
 * Tries: to get at a terminal: /dev/tty, /dev/console, ptmx; a session of its own that takes one (TIOCSCTTY); every terminal ioctl on its
 * streams, through /proc/self/fd too; typing by TIOCSTI; and the streams' other ends.
 * Must: find none: ENOENT, ENOTTY, EPERM; the streams are pipes.
 * Stopped by: the streams are pipes that petri relays; there is no terminal in /dev; the job is in a session of its own; TIOCSTI and TIOCLINUX
 * by the policies.
 * Without it: (setsid left out) "BROKEN: a session of its own"; (tty and ptmx in /dev) "BROKEN: /dev/tty: failed, but not as it
 * should: No such device or address".
 */
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "reach.h"

static void streams(void *arg)
{
	(void)arg;
	(void)setsid();
	for (int fd = 0; fd <= 2; fd++) {
		struct stat st;
		must(fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && !isatty(fd), "stream %d is a pipe", fd);
		char path[32];
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		int again = open(path, O_RDWR | O_NONBLOCK);
		int fds[2] = {fd, again < 0 ? fd : again}, answered = 0;
		for (int i = 0; i < 2; i++)
			for (unsigned long request = 0x5400; request <= 0x5470; request++) {
				if (request == FIONREAD || request == FIONBIO || request == FIOASYNC || request == FIOCLEX || request == FIONCLEX || request == 0x5460)
					continue; /* of every file */
				char buffer[256] = {0};
				answered += ioctl(fds[i], request, buffer) >= 0;
			}
		must(answered == 0, "stream %d: %d terminal ioctls answered", fd, answered);
		if (again >= 0)
			(void)close(again);
	}
}

int main(void)
{
	must(getpgrp() == getpid() && getsid(0) == getpid(), "a session of its own");
	static const char *const names[] = {"/dev/tty", "/dev/tty0", "/dev/console", "/dev/ptmx", "/dev/pts", "/dev/pts/0", "/dev/pts/ptmx",
		"/dev/vcs", "/dev/ttyS0"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		must_fail_as(names[i], open(names[i], O_RDWR), ENOENT, ENOTDIR);
	streams(NULL);
	(void)in_child(streams, NULL);
	must_fail(tcgetpgrp(0), ENOTTY);
	return finish();
}
