/*
 * Tries: to reach other namespaces by files: the ns directory of every process, ioctls that tell a namespace's parent, owner and
 * neighbours (nsfs), those of a pidfd of the init, and setns with all that it got, and with pidfds.
 * Must: find none but its own, and enter none, not even its own: EPERM, or the job ends by violation.
 * Stopped by: the kernel tells no namespace outside of the caller's own user and pid namespaces; the init is another user and not
 * dumpable; setns by the policies, and beneath them CAP_SYS_ADMIN.
 * Without it: (an init with the job's ids that is dumpable) "BROKEN: /proc/1/ns/mnt: went through", "pidfd ioctl 10 of the init";
 * (policies that allow everything, and capabilities kept) "setns by a pidfd: went through".
 */
// expect judge: violation setns
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "reach.h"

static const char *const kinds[] = {"mnt", "user", "pid", "pid_for_children", "net", "ipc", "uts", "cgroup", "time", "time_for_children"};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* linux/nsfs.h and linux/pidfd.h of kernels newer than the headers here. */
#define NS_GET_USERNS_ _IO(0xb7, 1)
#define NS_GET_PARENT_ _IO(0xb7, 2)
#define NS_GET_NSTYPE_ _IO(0xb7, 3)
#define NS_MNT_GET_NEXT_ _IOR(0xb7, 11, char[16])
#define NS_MNT_GET_PREV_ _IOR(0xb7, 12, char[16])

static bool same_as_own(int fd)
{
	struct stat got, mine;
	if (fstat(fd, &got) < 0)
		return false;
	for (size_t i = 0; i < KINDS; i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
		if (stat(path, &mine) == 0 && mine.st_ino == got.st_ino)
			return true;
	}
	return false;
}

static void ask(const char *kind, int fd, const char *what, unsigned long request)
{
	char buf[64] = {16};
	int other = ioctl(fd, request, buf);
	must(other < 0 || same_as_own(other), "%s of %s: %s", what, kind, other < 0 ? strerror(errno) : "its own");
	if (other >= 0)
		(void)close(other);
}

static void ask_about_own(void)
{
	for (size_t i = 0; i < KINDS; i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
		int fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		ask(kinds[i], fd, "parent", NS_GET_PARENT_);
		ask(kinds[i], fd, "owner", NS_GET_USERNS_);
		ask(kinds[i], fd, "next", NS_MNT_GET_NEXT_);
		ask(kinds[i], fd, "previous", NS_MNT_GET_PREV_);
		(void)close(fd);
	}
}

static void of_process(int pid)
{
	for (size_t i = 0; i < KINDS; i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, kinds[i]);
		must_fail_as(path, open(path, O_RDONLY), EACCES, EPERM, ENOENT);
	}
}

/* PIDFD_GET_CGROUP_NAMESPACE to PIDFD_GET_UTS_NAMESPACE, from Linux 6.11. */
static void of_pidfd(void)
{
	int init = (int)syscall(SYS_pidfd_open, 1, 0);
	if (init < 0) {
		held("pidfd_open(1): %s", strerror(errno));
		return;
	}
	for (unsigned i = 1; i <= 10; i++) {
		char what[32];
		(void)snprintf(what, sizeof(what), "pidfd ioctl %u of the init", i);
		must_fail_as(what, ioctl(init, _IO(0xff, i), 0));
	}
	(void)close(init);
}

static void enter_all(void)
{
	for (size_t i = 0; i < KINDS; i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
		int fd = open(path, O_RDONLY);
		must_fail_as(path, syscall(SYS_setns, fd, 0), EPERM);
		(void)close(fd);
	}
	for (int pid = 1; pid <= 2; pid++) {
		int fd = (int)syscall(SYS_pidfd_open, pid, 0);
		must_fail_as("setns by a pidfd", syscall(SYS_setns, fd, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUSER), EPERM);
		must_fail_as("setns by a pidfd", syscall(SYS_setns, fd, CLONE_NEWNS), EPERM);
	}
}

int main(void)
{
	ask_about_own();
	of_process(1);
	(void)each_pid(of_process);
	of_pidfd();
	enter_all();
	return finish();
}
