/*
 * Tries: namespaces of its own by unshare: each kind, with and without a user namespace, from a thread and a child; then, in case it
 * had one, to map itself to root there. First the same without any call that a policy knows: writing uid_map, gid_map and setgroups.
 * Must: be refused with EPERM, or the job ends by violation.
 * Stopped by: the policies; beneath them max_user_namespaces of 0 and no capability for the other kinds.
 * Without it: (policies that allow everything) "BROKEN: unshare(0x10000000): failed, but not as it should: No space left on
 * device"; with max_user_namespaces left as it is: "went through".
 */
// expect judge: violation unshare
#include <sched.h>
#include <sys/syscall.h>

#include "reach.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	long n = fd < 0 ? -1 : write(fd, text, strlen(text));
	must(n < 0, "write %s to %s", text, path);
	if (fd >= 0)
		(void)close(fd);
}

static void map_itself(void)
{
	write_to("/proc/self/setgroups", "allow");
	write_to("/proc/self/setgroups", "deny");
	write_to("/proc/self/uid_map", "0 1000 1");
	write_to("/proc/self/gid_map", "0 1000 1");
	write_to("/proc/thread-self/uid_map", "0 0 4294967295");
	write_to("/proc/1/uid_map", "0 0 4294967295");
	write_to("/proc/sys/user/max_user_namespaces", "100");
}

static void each(void *arg)
{
	static const int kinds[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP,
		CLONE_NEWTIME};
	(void)arg;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char what[32];
		(void)snprintf(what, sizeof(what), "unshare(%#x)", (unsigned)kinds[i]);
		must_fail_as(what, syscall(SYS_unshare, kinds[i]), EPERM);
		must_fail_as(what, syscall(SYS_unshare, kinds[i] | CLONE_NEWUSER), EPERM);
		must_fail_as(what, syscall(SYS_unshare, 0xdead000000000000UL | (unsigned)kinds[i]), EPERM);
	}
	map_itself();
}

int main(void)
{
	char limit[16] = "";
	(void)read_text("/proc/sys/user/max_user_namespaces", limit, sizeof(limit));
	must(strcmp(limit, "0\n") == 0, "max_user_namespaces is %s", limit);
	map_itself();
	(void)in_child(each, NULL);
	each(NULL);
	unprivileged("after all", getuid());
	return finish();
}
