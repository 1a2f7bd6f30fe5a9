/*
 * Tries: the memory of others: /proc/PID/mem of every process, for reading and writing, by each name; then of a child of its own that
 * made itself dumpable and allowed anybody to trace it; then ptrace of the init and of that child, by ATTACH, SEIZE and TRACEME.
 * Must: be refused (a child of its own: /proc/PID/mem opens, being the job's), or the job ends by violation.
 * Stopped by: the init is another user, not dumpable, and out of sight (hidepid); ptrace by the policies, so that the setting of
 * yama on the host does not matter.
 * Without it: (policies that allow everything) "BROKEN: ptrace of a child: went through"; (/proc writable, no hidepid) "writing
 * the memory of its child through /proc: went through", "/proc/1/oom_score_adj: went through".
 */
// expect judge: violation ptrace
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

#include "reach.h"

static void memory(int pid)
{
	static const char *const names[] = {"mem", "task/%d/mem", "clear_refs", "oom_score_adj", "oom_adj", "coredump_filter", "comm",
		"timerslack_ns", "attr/current",
		"attr/exec", "loginuid", "autogroup", "setgroups", "uid_map", "projid_map"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (int flags = O_RDONLY; flags <= O_RDWR; flags++) {
			char path[96], file[48];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			(void)snprintf(file, sizeof(file), names[i], pid);
#pragma GCC diagnostic pop
			(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
			must_fail_as(path, open(path, flags), EACCES, EPERM, ENOENT, EROFS);
		}
}

int main(void)
{
	memory(1);
	(void)each_pid(memory);
	(void)prctl(PR_SET_DUMPABLE, 1);
	pid_t child = fork();
	if (child == 0) {
		(void)prctl(PR_SET_DUMPABLE, 1);
		(void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
		pause();
		_exit(0);
	}
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", child);
	must_fail_as("writing the memory of its child through /proc", open(path, O_RDWR), EROFS, EACCES);
	static const long requests[] = {PTRACE_ATTACH, PTRACE_SEIZE};
	for (int i = 0; i < 2; i++) {
		must_fail_as("ptrace of the init", ptrace((enum __ptrace_request)requests[i], 1, 0, 0), EPERM);
		must_fail_as("ptrace of a child", ptrace((enum __ptrace_request)requests[i], child, 0, 0), EPERM);
	}
	must_fail_as("ptrace by its parent", ptrace(PTRACE_TRACEME, 0, 0, 0), EPERM);
	(void)kill(child, SIGKILL);
	return finish();
}
