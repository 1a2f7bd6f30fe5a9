/*
 * Tries: namespaces of its own by clone: each kind alone, all together, a user namespace with each other kind, with bits above the 32
 * that the kernel takes, from a thread and from a child; and by clone3 with flags that a second thread writes while the call is made.
 * Must: be refused with EPERM (clone) and ENOSYS (clone3), or the job ends by violation.
 * Stopped by: the policies' mask on clone's flags; the fixed filter, which has no clone3; beneath them max_user_namespaces of 0 and no
 * capability for the other kinds.
 * Without it: (policies and fixed filter that allow everything) "BROKEN: clone3 with changing flags", ENOSPC for a user namespace;
 * with max_user_namespaces and capabilities left as well "NEWUSER: went through".
 */
// expect judge: violation clone
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "reach.h"

static const struct {
	const char *name;
	unsigned long flags;
} kinds[] = {{"NEWUSER", CLONE_NEWUSER}, {"NEWNS", CLONE_NEWNS}, {"NEWPID", CLONE_NEWPID}, {"NEWNET", CLONE_NEWNET}, {"NEWIPC", CLONE_NEWIPC},
	{"NEWUTS", CLONE_NEWUTS}, {"NEWCGROUP", CLONE_NEWCGROUP},
	{"all", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP}};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct clone_args changing = {.exit_signal = SIGCHLD};
static atomic_bool stop;

static void *change(void *arg)
{
	while (!atomic_load(&stop)) {
		*(volatile unsigned long long *)&changing.flags = CLONE_NEWUSER;
		*(volatile unsigned long long *)&changing.flags = 0;
	}
	return arg;
}

/* A child that came to be ends at once. */
static long clone_raw(unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(0);
	return pid;
}

static void by_clone3(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, change, NULL) != 0)
		broken("no thread");
	long pid = -1;
	for (int i = 0; i < 2000 && pid < 0; i++) {
		pid = syscall(SYS_clone3, &changing, sizeof(changing));
		if (pid == 0)
			_exit(0);
		if (pid < 0 && errno != ENOSYS)
			broken("clone3: %s", strerror(errno));
	}
	must(pid < 0, "clone3 with changing flags");
	atomic_store(&stop, true);
	(void)pthread_join(thread, NULL);
}

static void by_clone(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < KINDS; i++) {
		must_fail_as(kinds[i].name, clone_raw(kinds[i].flags), EPERM);
		must_fail_as(kinds[i].name, clone_raw(kinds[i].flags | 0xdead000000000000UL), EPERM);
		must_fail_as(kinds[i].name, clone_raw(kinds[i].flags | CLONE_NEWUSER), EPERM);
		must_fail_as(kinds[i].name, clone_raw(kinds[i].flags | CLONE_PARENT), EPERM);
		must_fail_as(kinds[i].name, clone_raw(kinds[i].flags | CLONE_UNTRACED | CLONE_VM | CLONE_VFORK), EPERM);
	}
}

static void *by_clone_thread(void *arg)
{
	by_clone(arg);
	return arg;
}

int main(void)
{
	by_clone3();
	(void)in_child(by_clone, NULL);
	pthread_t thread;
	if (pthread_create(&thread, NULL, by_clone_thread, NULL) == 0)
		(void)pthread_join(thread, NULL);
	by_clone(NULL);
	return finish();
}
