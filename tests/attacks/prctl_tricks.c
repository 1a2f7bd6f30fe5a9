/*
 * Tries: prctl: no_new_privs off, capabilities into the ambient set, out of and into the bounding set, securebits, KEEPCAPS across a
 * change of ids, PR_SET_MM (where its memory appears to be), dumpable by root only, seccomp off, IO_FLUSHER, machine checks, core
 * scheduling of others, being a subreaper, with bits above the 32 that the kernel takes; then capset and every change of ids.
 * Must: be refused; where the kernel lets anybody do it (dumpable, subreaper, keepcaps), nothing may come of it.
 * Stopped by: no capability in any set, empty bounding set, no_new_privs, ids mapped for the slot only.
 * Without it: (no_new_privs, and the bounding set kept) "BROKEN: 41 capabilities to be had", "after all: no_new_privs is 0";
 * (capabilities kept) 89 BROKEN.
 */
// expect: exited 0
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "reach.h"

#define HIGH 0xdead000000000000UL

static void privileges(void)
{
	must_fail(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
	must_fail(prctl(PR_SET_NO_NEW_PRIVS, HIGH, 0, 0, 0), EINVAL);
	int inheritable = 0;
	for (int cap = 0; cap <= 40; cap++) {
		inheritable += prctl(PR_CAPBSET_READ, cap) == 1;
		inheritable += prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) == 0;
		inheritable += prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1;
		must_fail_as("PR_CAPBSET_DROP", prctl(PR_CAPBSET_DROP, cap), EPERM, EINVAL);
	}
	must(inheritable == 0, "%d capabilities to be had", inheritable);
	must_fail(prctl(PR_SET_SECUREBITS, 0x2f), EPERM);
	must_fail(prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, open("/proc/self/exe", O_RDONLY), 0, 0), EPERM, EBUSY);
	must_fail(prctl(PR_SET_MM, PR_SET_MM_ARG_START, 4096, 0, 0), EPERM);
	must_fail(prctl(PR_SET_DUMPABLE, 2), EINVAL);
	must_fail(prctl(57 /* PR_SET_IO_FLUSHER */, 1, 0, 0, 0), EPERM);
	must_fail(prctl(PR_SET_SECCOMP, 0, 0), EINVAL);
	must_fail(syscall(SYS_prctl, HIGH | PR_SET_SECCOMP, 0, 0), EINVAL);
	must_fail(syscall(SYS_prctl, HIGH | PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0), EPERM, EINVAL);
}

static void capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct all[2], one[2] = {{0}, {0}};
	memset(all, 0xff, sizeof(all));
	must_fail(syscall(SYS_capset, &header, all), EPERM);
	for (unsigned cap = 0; cap < 41; cap++) {
		memset(one, 0, sizeof(one));
		one[cap / 32].inheritable = 1u << (cap % 32);
		must_fail_as("an inheritable capability", syscall(SYS_capset, &header, one), EPERM, EINVAL);
	}
	header.pid = 1;
	must_fail_as("capset of the init", syscall(SYS_capset, &header, one), EPERM);
}

static void ids(void)
{
	static const unsigned others[] = {0, 1, 999, 1001, 65533, 65534, 65535, 65536, 0x70000000, 0x70010000, 0x7ffd0000, 0x7fffffff};
	(void)prctl(PR_SET_KEEPCAPS, 1);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		unsigned id = others[i];
		char what[32];
		(void)snprintf(what, sizeof(what), "id %u", id);
		must_fail_as(what, syscall(SYS_setuid, id), EPERM, EINVAL);
		must_fail_as(what, syscall(SYS_setgid, id), EPERM, EINVAL);
		must_fail_as(what, syscall(SYS_setreuid, id, -1), EPERM, EINVAL);
		must_fail_as(what, syscall(SYS_setresuid, -1, id, -1), EPERM, EINVAL);
		must_fail_as(what, syscall(SYS_setresgid, -1, -1, id), EPERM, EINVAL);
		must_fail_as(what, setgroups(1, &id), EPERM, EINVAL);
		(void)setfsuid(id);
		must((unsigned)setfsuid((uid_t)-1) == getuid(), "setfsuid(%u)", id);
		(void)setfsgid(id);
		must((unsigned)setfsgid((gid_t)-1) == getgid(), "setfsgid(%u)", id);
	}
	must_fail_as("no groups", setgroups(0, NULL), EPERM);
	must(getgroups(0, NULL) == 0, "no supplementary group");
}

/* Orphans come to the job instead of the init: they are the job's own, and end with it. */
static void reap(void)
{
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid_t child = fork();
	if (child == 0) {
		if (fork() == 0) {
			usleep(1000);
			_exit(getppid() == 1 ? 1 : 0);
		}
		_exit(0);
	}
	int status = 0, wrong = 0;
	while (wait(&status) > 0)
		wrong += status != 0;
	must(wrong == 0, "a subreaper of its own children");
}

int main(void)
{
	uid_t uid = getuid();
	privileges();
	capabilities();
	ids();
	reap();
	(void)prctl(PR_SET_DUMPABLE, 1);
	(void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	unprivileged("after all", uid);
	return finish();
}
