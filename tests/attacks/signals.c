/*
 * Tries: to end, stop or confuse the init and whatever else it may reach: every signal to pid 1 by kill, tkill, tgkill and
 * rt_sigqueueinfo (as if from the kernel), to tids 0 to 300, to its process group, its session, everybody (-1), and as the target of
 * fcntl(F_SETOWN) and a timer.
 * Must: reach nothing but itself; the job ends with its own exit code, which the init reports.
 * Stopped by: the pid namespace; the init is another user; signals to pid 1 from its own namespace need a handler there, of which it has none.
 * Without it: (an init with the job's ids) "BROKEN: signal 1 to the init: went through", 192 in all, of which it survives each;
 * (no session of its own) "BROKEN: signal 18 to the init: went through": SIGCONT.
 */
// expect: exited 0
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "reach.h"

static void to_init(int sig)
{
	siginfo_t info = {.si_signo = sig, .si_code = 0x80 /* SI_KERNEL */};
	char what[32];
	(void)snprintf(what, sizeof(what), "signal %d to the init", sig);
	must_fail_as(what, kill(1, sig), EPERM);
	must_fail_as(what, syscall(SYS_tkill, 1, sig), EPERM);
	must_fail_as(what, syscall(SYS_tgkill, 1, 1, sig), EPERM);
	must_fail_as(what, syscall(SYS_rt_sigqueueinfo, 1, sig, &info), EPERM);
	must_fail_as(what, syscall(SYS_rt_tgsigqueueinfo, 1, 1, sig, &info), EPERM);
	must_fail_as(what, kill(-1, sig), EPERM, ESRCH);
}

/* The kernel sends these with the rights of whoever asked for them. */
static void by_owner(void)
{
	int p[2];
	if (pipe(p) < 0)
		return;
	(void)fcntl(p[0], F_SETOWN, 1);
	(void)fcntl(p[0], F_SETSIG, SIGKILL);
	(void)fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK);
	(void)!write(p[1], "x", 1);
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGKILL};
	event._sigev_un._tid = 1;
	timer_t timer;
	must_fail_as("a timer of the init's", timer_create(CLOCK_MONOTONIC, &event, &timer), EINVAL, EPERM);
	held("an owner of a pipe who is the init");
}

int main(void)
{
	for (int sig = 1; sig <= 64; sig++)
		(void)signal(sig, SIG_IGN);
	for (int sig = 0; sig <= 64; sig++)
		if (sig != 0)
			to_init(sig);
	int reached = 0;
	for (int tid = 2; tid <= 300; tid++)
		if (tid != getpid() && (syscall(SYS_tkill, tid, SIGTERM) == 0 || kill(-tid, SIGTERM) == 0))
			reached++;
	must(reached == 0, "%d other threads and groups", reached);
	must_fail_as("tkill of 0", syscall(SYS_tkill, 0, SIGKILL), EINVAL);
	must(kill(0, SIGTERM) == 0, "its own process group is its own");
	must(getsid(0) == getpid(), "its session is its own");
	by_owner();
	usleep(50000);
	held("the init is still there: %d", access("/proc/self", F_OK));
	return finish();
}
