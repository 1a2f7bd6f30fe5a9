/* Long-lived children; see the header. */
#include "bench/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "bench/workspace.h"

#define PATIENCE_MS 10000
#define LOOK_MS 10

static void become(char *const *argv, int in, int out, pid_t parent)
{
	bench_default_signals();
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() != parent || dup2(in, 0) < 0 || dup2(out, 1) < 0)
		_exit(127);
	(void)setpgid(0, 0); /* a terminal's Ctrl-C is petri-bench's to handle */
	(void)execvp(argv[0], argv);
	_exit(127);
}

int child_start(struct child *child, char *const *argv, int pipes, struct err *err)
{
	int to[2] = {-1, -1}, from[2] = {-1, -1};
	pid_t self = getpid();
	*child = (struct child){.in = -1, .out = -1};
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || (pipes && (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)))
		return err_set(err, errno, "make pipes for %s", argv[0]);
	child->pid = fork();
	if (child->pid == 0)
		become(argv, pipes ? to[0] : null, pipes ? from[1] : null, self);
	int saved = errno;
	cleanup_close(&to[0]);
	cleanup_close(&from[1]);
	child->in = to[1];
	child->out = from[0];
	if (child->pid < 0) {
		child->pid = 0;
		child_stop(child);
		return err_set(err, saved, "fork for %s", argv[0]);
	}
	return 0;
}

void child_stop(struct child *child)
{
	if (child->pid == 0)
		return;
	cleanup_close(&child->in);
	cleanup_close(&child->out);
	(void)kill(child->pid, SIGTERM);
	for (int waited = 0; waitpid(child->pid, NULL, WNOHANG) == 0; waited += LOOK_MS) {
		if (waited >= PATIENCE_MS)
			(void)kill(child->pid, SIGKILL);
		(void)poll(NULL, 0, LOOK_MS);
	}
	child->pid = 0;
}
