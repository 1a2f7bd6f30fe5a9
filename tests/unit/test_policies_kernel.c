/* The kernel's own opinion: programs are installed, and calls are made. */
#include "policies_util.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/sys.h"

/* A child under a policy. It shares our descriptors, so that its listener can be taken over. */
struct jail {
	struct policy_program program;
	volatile int *listener; /* -1: not yet; -2: none, or taken */
	pid_t pid;
	int fd;
};

static void enter(const struct jail *j)
{
	struct sock_fprog prog = {.len = (unsigned short)j->program.len, .filter = j->program.insns};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		_exit(99);
	int r = sys_seccomp(SECCOMP_SET_MODE_FILTER, j->program.notifies ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0, &prog);
	if (r < 0)
		_exit(98);
	if (!j->program.notifies)
		return;
	*j->listener = r;
	while (*j->listener != -2)
		(void)syscall(SYS_sched_yield);
}

/* Run body in a child under the policy, its result is the exit code. */
static struct jail start(const char *policy, int (*body)(void))
{
	struct jail j = {.program = compile_named(policy), .fd = -1};
	j.listener = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq((void *)j.listener, MAP_FAILED);
	*j.listener = -1;
	j.pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	cr_assert_geq(j.pid, 0);
	if (j.pid == 0) {
		enter(&j);
		(void)syscall(SYS_exit_group, body());
	}
	if (!j.program.notifies)
		return j;
	siginfo_t info = {0};
	while (*j.listener == -1 && waitid(P_PID, (id_t)j.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && !info.si_pid)
		(void)usleep(100);
	cr_assert_geq(*j.listener, 0, "no listener");
	j.fd = *j.listener;
	*j.listener = -2;
	return j;
}

/* Return: the name of the violation, or "" and the exit code when there was none. */
static void finish(struct jail *j, char *violation, size_t cap, int *code)
{
	int status;
	violation[0] = '\0';
	struct pollfd p = {.fd = j->fd, .events = POLLIN};
	if (j->fd >= 0 && poll(&p, 1, 10000) == 1 && (p.revents & POLLIN)) {
		struct seccomp_notif n = {0};
		cr_assert_eq(ioctl(j->fd, SECCOMP_IOCTL_NOTIF_RECV, &n), 0);
		cr_assert_eq(n.pid, (unsigned)j->pid);
		(void)policy_syscall_name(n.data.nr, violation, cap);
		cr_assert_eq(kill(j->pid, SIGKILL), 0);
	}
	cr_assert_eq(waitpid(j->pid, &status, 0), j->pid);
	cr_assert_eq(WIFSIGNALED(status) != 0, violation[0] != '\0');
	*code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	if (j->fd >= 0)
		(void)close(j->fd);
	(void)munmap((void *)j->listener, 4096);
	policy_program_free(&j->program);
}

static void expect(const char *policy, int (*body)(void), const char *violation, int code)
{
	char name[64];
	int got;
	struct jail j = start(policy, body);
	finish(&j, name, sizeof(name), &got);
	cr_assert_str_eq(name, violation);
	if (!violation[0])
		cr_assert_eq(got, code, "exit %d instead of %d", got, code);
}

static int error_of(long r)
{
	return r < 0 ? errno : 0;
}

static int call_mount(void)
{
	return error_of(syscall(SYS_mount, 0, 0, 0, 0, 0));
}

static int call_clone_user(void)
{
	return error_of(syscall(SYS_clone, 0x10000000 | SIGCHLD | 1ULL << 40, 0, 0, 0, 0));
}

static int call_inet(void)
{
	return error_of(syscall(SYS_socket, AF_INET | 1ULL << 33, SOCK_DGRAM, 0));
}

static int call_unix(void)
{
	return error_of(syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
}

static int call_pair(void)
{
	int pair[2];
	return error_of(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
}

static int call_dgram_pair(void)
{
	int pair[2];
	return error_of(syscall(SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, pair));
}

static int call_future(void)
{
	return error_of(syscall(1000, 0, 0, 0));
}

static int call_sync(void)
{
	return error_of(syscall(SYS_sync));
}

static int call_fssetxattr(void)
{
	/* EFAULT or ENOTTY would be the kernel's own answer: the high bits must not get it past the filter. */
	return error_of(syscall(SYS_ioctl, 0, 0x401c5820ULL | 1ULL << 35, 0));
}

static int call_fork(void)
{
	int status;
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		(void)syscall(SYS_exit_group, 7);
	return waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7 ? 0 : 1;
}

Test(policies_kernel, judge_reports_violations)
{
	expect("judge", call_mount, "mount", 0);
	expect("judge", call_clone_user, "clone", 0);
	expect("judge", call_inet, "socket", 0);
}

Test(policies_kernel, judge_refuses_mildly)
{
	expect("judge", call_unix, "", EACCES);
	expect("judge", call_dgram_pair, "", EACCES);
	expect("judge", call_future, "", ENOSYS);
	expect("judge", call_sync, "", 0);
	expect("judge", call_fssetxattr, "", EPERM);
}

Test(policies_kernel, judge_allows)
{
	expect("judge", call_pair, "", 0);
	expect("judge", call_fork, "", 0);
}

Test(policies_kernel, default_refuses)
{
	expect("default", call_mount, "", EPERM);
	expect("default", call_clone_user, "", EPERM);
	expect("default", call_fssetxattr, "", EPERM);
	expect("default", call_fork, "", 0);
	expect("default", call_inet, "", 0);
}

#if defined(__x86_64__)
static int call_x32(void)
{
	return error_of(syscall(SYS_getpid | 0x40000000));
}

static int call_i386(void)
{
	long r;
	__asm__ volatile("int $0x80"
			 : "=a"(r)
			 : "a"(20L)
			 : "memory"); /* getpid */
	return r < 0 ? (int)-r : 0;
}

Test(policies_kernel, foreign_calls_do_not_exist)
{
	expect("judge", call_x32, "", ENOSYS);
	expect("judge", call_i386, "", ENOSYS);
	expect("default", call_i386, "", ENOSYS);
}
#endif
