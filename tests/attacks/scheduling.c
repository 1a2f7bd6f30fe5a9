/*
 * Tries: to get more of the machine, or to slow down others: a better nice value, realtime and deadline scheduling, realtime I/O
 * priority, more of each rlimit, scheduling and limits of the init and of every pid up to 300, of its user and group, PR_SCHED_CORE with
 * the init, alarms that wake a sleeping machine.
 * Must: be refused with EPERM or EACCES (ESRCH for pids that are not there).
 * Stopped by: no capability; RLIMIT_NICE and RLIMIT_RTPRIO of 0; hard limits; the pid namespace and the init being another user; each slot having
 * a host uid of its own.
 * Without it: (an init with the job's ids) "BROKEN: 5 changes of other processes".
 */
// expect: exited 0
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "reach.h"

#define IOPRIO_REALTIME (1 << 13)

struct attr { /* struct sched_attr, sched_setattr(2) */
	unsigned size, policy;
	unsigned long long flags;
	int nice;
	unsigned priority;
	unsigned long long runtime, deadline, period;
	unsigned util_min, util_max;
};

static void own(void)
{
	must_fail(setpriority(PRIO_PROCESS, 0, -1), EACCES, EPERM);
	must_fail(setpriority(PRIO_USER, 0, -20), EACCES, EPERM);
	must_fail(setpriority(PRIO_PGRP, 0, -5), EACCES, EPERM);
	for (int policy = SCHED_FIFO; policy <= SCHED_RR; policy++) {
		struct sched_param param = {.sched_priority = 1};
		must_fail(syscall(SYS_sched_setscheduler, 0, policy, &param), EPERM);
		must_fail(syscall(SYS_sched_setscheduler, 0, policy | 0x40000000 /* SCHED_RESET_ON_FORK */, &param), EPERM);
	}
	struct attr deadline = {.size = sizeof(deadline), .policy = 6, .runtime = 5000000, .deadline = 10000000, .period = 10000000};
	must_fail(syscall(SYS_sched_setattr, 0, &deadline, 0), EPERM);
	must_fail(syscall(SYS_ioprio_set, 1, 0, IOPRIO_REALTIME), EPERM);
	must_fail(syscall(SYS_ioprio_set, 3, getuid(), IOPRIO_REALTIME), EPERM);
}

static void limits(void)
{
	for (int resource = 0; resource <= 15; resource++) {
		struct rlimit held_now, more = {RLIM_INFINITY, RLIM_INFINITY};
		if (getrlimit((__rlimit_resource_t)resource, &held_now) < 0 || held_now.rlim_max == RLIM_INFINITY)
			continue;
		char what[64];
		(void)snprintf(what, sizeof(what), "more of rlimit %d than %lu", resource, (unsigned long)held_now.rlim_max);
		must_fail_as(what, setrlimit((__rlimit_resource_t)resource, &more), EPERM);
		more.rlim_cur = more.rlim_max = held_now.rlim_max + 1;
		must_fail_as(what, syscall(SYS_prlimit64, getpid(), resource, &more, NULL), EPERM);
	}
}

static void others(void)
{
	struct rlimit none = {0, 0};
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	struct sched_param param = {0};
	int reached = 0;
	for (int pid = 1; pid <= 300; pid++) {
		if (pid == getpid())
			continue;
		reached += setpriority(PRIO_PROCESS, (id_t)pid, 19) == 0;
		reached += syscall(SYS_ioprio_set, 1, pid, 3 << 13) == 0;
		reached += sched_setaffinity(pid, sizeof(cpus), &cpus) == 0;
		reached += syscall(SYS_sched_setscheduler, pid, SCHED_IDLE, &param) == 0;
		reached += syscall(SYS_prlimit64, pid, RLIMIT_CPU, &none, NULL) == 0;
		reached += prctl(62 /* PR_SCHED_CORE */, 2 /* SHARE_TO */, pid, 0, 0) == 0;
		reached += prctl(62, 3 /* SHARE_FROM */, pid, 0, 0) == 0;
	}
	must(reached == 0, "%d changes of other processes", reached);
	must_fail(setpriority(PRIO_USER, 0xffff, 19), ESRCH, EPERM, EACCES);
	static const unsigned uids[] = {0, 1, 65534, 1001};
	for (size_t i = 0; i < sizeof(uids) / sizeof(uids[0]); i++)
		if (uids[i] != 0)
			must_fail_as("the priority of another user", setpriority(PRIO_USER, uids[i], 19), ESRCH, EPERM, EACCES);
}

int main(void)
{
	own();
	limits();
	others();
	timer_t timer;
	must_fail_as("an alarm", timer_create(CLOCK_REALTIME_ALARM, NULL, &timer), EPERM, EOPNOTSUPP, EINVAL);
	must_fail_as("an alarm's fd", syscall(SYS_timerfd_create, CLOCK_BOOTTIME_ALARM, 0), EPERM, EINVAL);
	return finish();
}
