/*
 * Tries: to have its memory dumped: raise RLIMIT_CORE, set core_pattern and what goes with it, then die by every signal that dumps core, in
 * each of the places, dumpable and with all kinds of memory in the filter.
 * Must: be refused; no process may die with a dump, no file may appear.
 * Stopped by: RLIMIT_CORE is 1 (or 0, where petri has seen that core_pattern is no pipe), hard; /proc is read-only.
 * Without it: (RLIMIT_CORE not set) "BROKEN: signal 3 without a dump" and core files in /work, /tmp and /dev/shm; (/proc writable)
 * coredump_filter opened.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "reach.h"

static void die(void *arg)
{
	int sig = *(int *)arg;
	struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY}, held_now = {0, 0};
	(void)prctl(PR_SET_DUMPABLE, 1);
	(void)setrlimit(RLIMIT_CORE, &more);
	if (getrlimit(RLIMIT_CORE, &held_now) == 0) {
		held_now.rlim_cur = held_now.rlim_max;
		(void)setrlimit(RLIMIT_CORE, &held_now);
	}
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

static void look(const char *dir)
{
	DIR *d = opendir(dir);
	int found = 0;
	for (struct dirent *e; d && (e = readdir(d));)
		found += strstr(e->d_name, "core") != NULL;
	must(found == 0, "%d core files in %s", found, dir);
	if (d)
		(void)closedir(d);
}

static void settings(void)
{
	static const char *const names[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/core_uses_pid",
		"/proc/sys/kernel/core_pipe_limit", "/proc/sys/fs/suid_dumpable",
		"/proc/self/coredump_filter", "/proc/self/task/../coredump_filter"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		must_fail_as(names[i], open(names[i], O_WRONLY), EACCES, EPERM, EROFS, ENOENT);
}

int main(void)
{
	static int signals[] = {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS};
	static const char *const dirs[] = {"/work", "/tmp", "/dev/shm", "/"};
	struct rlimit limit;
	must(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max <= 1, "the hard limit is %lu", (unsigned long)limit.rlim_max);
	settings();
	for (size_t j = 0; j < sizeof(dirs) / sizeof(dirs[0]); j++) {
		if (chdir(dirs[j]) < 0)
			continue;
		for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
			int status = in_child(die, &signals[i]);
			must(WIFSIGNALED(status) && !WCOREDUMP(status), "signal %d without a dump", signals[i]);
		}
		look(dirs[j]);
	}
	return finish();
}
