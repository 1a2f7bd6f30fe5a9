/*
 * Tries: to spin for ever, ignoring and blocking every signal, at the lowest priority and with all rights it can get hold of.
 * Must: cpu_limit, in time.
 * Stopped by: a deadline timer on the leaf's cpu.stat, set to the earliest moment at which the limit can be used up.
 * Without it: the deadline a hundred times as far: "ended as wall_limit, wanted cpu_limit".
 */
// flags: --cpu 60ms --wall 20s
// expect: cpu_limit
// usage: cpu_ms <= 160
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#include "attack.h"

static void spin(void)
{
	for (volatile unsigned long n = 0;; n++)
		;
}

int main(void)
{
	sigset_t all;
	struct sched_param top = {.sched_priority = 1};
	sigfillset(&all);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_IGN);
	sigprocmask(SIG_SETMASK, &all, NULL);
	must_fail(sched_setscheduler(0, SCHED_FIFO, &top), EPERM);
	must_fail(sched_setscheduler(0, SCHED_RR, &top), EPERM);
	must_fail(setpriority(PRIO_PROCESS, 0, -1), EACCES, EPERM);
	must_fail(setrlimit(RLIMIT_NICE, &(struct rlimit){40, 40}), EPERM);
	must_fail(setrlimit(RLIMIT_RTPRIO, &(struct rlimit){1, 1}), EPERM);
	setpriority(PRIO_PROCESS, 0, 19);
	spin();
}
