/*
 * The worker's seccomp filter; see the header. One table of calls that are always allowed, and a few whose arguments are looked at.
 * The kernel remembers the answer to a call whose arguments are not, so that those cost next to nothing.
 *
 * It keeps a worker that was taken over from most of the kernel, from other processes and from new rights. It does not keep it from
 * running code of its own: the rest of its own memory and files would serve for that.
 */
#include "executor/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/sanitizer.h"

#define CALLS_SEEN 1024

static const int always[] = {
	/* files, through fds and beneath directories; which ones is Landlock's matter, and that of their owners */
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv),
	SCMP_SYS(preadv2),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pwrite64),
	SCMP_SYS(pwritev),
	SCMP_SYS(lseek),
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(close),
	SCMP_SYS(close_range),
	SCMP_SYS(dup),
	SCMP_SYS(dup2),
	SCMP_SYS(dup3),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(statfs),
	SCMP_SYS(fstatfs),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getdents64),
	SCMP_SYS(mkdirat),
	SCMP_SYS(linkat),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(unlinkat),
	SCMP_SYS(fchmod),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fallocate),
	SCMP_SYS(fadvise64),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(sync_file_range),
	SCMP_SYS(utimensat),
	SCMP_SYS(flock),
	SCMP_SYS(memfd_create),
	SCMP_SYS(splice),
	/* events and messages */
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(select),
	SCMP_SYS(pselect6),
	SCMP_SYS(pipe2),
	SCMP_SYS(eventfd2),
	SCMP_SYS(signalfd4),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),
	/* memory, threads, time, itself */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(getppid),
	SCMP_SYS(gettid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getrlimit),
	SCMP_SYS(getrusage),
	SCMP_SYS(uname),
	SCMP_SYS(sysinfo),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/* libseccomp asks what there is when a policy is compiled; more filters can only take away */
	SCMP_SYS(seccomp),
};

static const int network[] = {
	SCMP_SYS(connect),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(sendmmsg), /* the resolver's two questions */
	SCMP_SYS(recvmmsg),
};

static const int listening[] = {
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
};

/* Nothing that belongs to a worker makes one of these. */
static const int deadly[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(io_uring_setup), /* a ring without restrictions */
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(unshare),
	SCMP_SYS(setns),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsmount),
	SCMP_SYS(open_tree),
	SCMP_SYS(move_mount),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(setuid),
	SCMP_SYS(setresuid),
	SCMP_SYS(capset),
	SCMP_SYS(personality),
};

/* One value of one argument, and maybe one of a second. */
struct choice {
	int call;
	unsigned first;
	unsigned value;
	unsigned second; /* 0: the second is not looked at */
	unsigned with;
};

static const struct choice choices[] = {
	{SCMP_SYS(ioctl), 1, SECCOMP_IOCTL_NOTIF_RECV, 0, 0},
	{SCMP_SYS(ioctl), 1, FIONREAD, 0, 0},
	{SCMP_SYS(ioctl), 1, FIONBIO, 0, 0},
	{SCMP_SYS(ioctl), 1, 0x5401 /* TCGETS: isatty(3) in stdio */, 0, 0},
	{SCMP_SYS(fcntl), 1, F_DUPFD, 0, 0},
	{SCMP_SYS(fcntl), 1, F_DUPFD_CLOEXEC, 0, 0},
	{SCMP_SYS(fcntl), 1, F_GETFD, 0, 0},
	{SCMP_SYS(fcntl), 1, F_SETFD, 0, 0},
	{SCMP_SYS(fcntl), 1, F_GETFL, 0, 0},
	{SCMP_SYS(fcntl), 1, F_SETFL, 0, 0},
	{SCMP_SYS(fcntl), 1, F_ADD_SEALS, 0, 0},
	{SCMP_SYS(fcntl), 1, F_GET_SEALS, 0, 0},
	{SCMP_SYS(fcntl), 1, F_GETPIPE_SZ, 0, 0},
	{SCMP_SYS(fcntl), 1, F_SETPIPE_SZ, 0, 0},
	{SCMP_SYS(prctl), 0, PR_SET_NAME, 0, 0},
	{SCMP_SYS(prctl), 0, PR_GET_NAME, 0, 0},
	{SCMP_SYS(prctl), 0, PR_SET_NO_NEW_PRIVS, 0, 0}, /* libseccomp */
	{SCMP_SYS(prctl), 0, 0x53564d41 /* PR_SET_VMA: how the C library names its mappings */, 0, 0},
	/* Its own process and threads alone: other workers have the same user. */
	{SCMP_SYS(prlimit64), 0, 0, 0, 0},
	{SCMP_SYS(sched_setaffinity), 0, 0, 0, 0},
	{SCMP_SYS(setpriority), 0, PRIO_PROCESS, 1, 0},
	/* Connected pairs: nothing is sent through them to anybody else. */
	{SCMP_SYS(socketpair), 0, AF_UNIX, 0, 0},
};

static const struct choice network_choices[] = {
	{SCMP_SYS(socket), 0, AF_UNIX, 0, 0},
	{SCMP_SYS(socket), 0, AF_INET, 0, 0},
	{SCMP_SYS(socket), 0, AF_INET6, 0, 0},
	{SCMP_SYS(setsockopt), 1, SOL_SOCKET, 2, SO_REUSEADDR},
	{SCMP_SYS(setsockopt), 1, SOL_SOCKET, 2, SO_SNDBUF},
	{SCMP_SYS(setsockopt), 1, SOL_SOCKET, 2, SO_RCVBUF},
	{SCMP_SYS(setsockopt), 1, SOL_SOCKET, 2, SO_KEEPALIVE},
	{SCMP_SYS(setsockopt), 1, SOL_SOCKET, 2, SO_RCVTIMEO},
	{SCMP_SYS(setsockopt), 1, SOL_SOCKET, 2, SO_SNDTIMEO},
	{SCMP_SYS(setsockopt), 1, IPPROTO_TCP, 2, TCP_NODELAY},
	{SCMP_SYS(setsockopt), 1, IPPROTO_TCP, 2, TCP_CORK},
	{SCMP_SYS(setsockopt), 1, IPPROTO_TCP, 2, TCP_KEEPIDLE},
	{SCMP_SYS(setsockopt), 1, IPPROTO_TCP, 2, TCP_KEEPINTVL},
	{SCMP_SYS(setsockopt), 1, IPPROTO_TCP, 2, TCP_KEEPCNT},
	{SCMP_SYS(setsockopt), 1, IPPROTO_TCP, 2, TCP_USER_TIMEOUT},
	{SCMP_SYS(setsockopt), 1, IPPROTO_TCP, 2, TCP_FASTOPEN},
	{SCMP_SYS(setsockopt), 1, IPPROTO_IPV6, 2, IPV6_V6ONLY},
	{SCMP_SYS(setsockopt), 1, IPPROTO_IPV6, 2, IPV6_RECVERR}, /* the resolver */
	{SCMP_SYS(setsockopt), 1, IPPROTO_IP, 2, IP_RECVERR},
};

static int allow(scmp_filter_ctx ctx, const int *calls, size_t n)
{
	int r = 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
	return r;
}

/* The kernel reads these arguments as int: the upper halves may hold anything. */
#define LOW(n, value) SCMP_CMP64((n), SCMP_CMP_MASKED_EQ, UINT32_MAX, (value))
#define BITS(n, mask, value) SCMP_CMP64((n), SCMP_CMP_MASKED_EQ, (mask), (value))

static int allow_choices(scmp_filter_ctx ctx, const struct choice *c, size_t n)
{
	int r = 0;
	for (size_t i = 0; i < n && r == 0; i++) {
		const struct scmp_arg_cmp args[] = {LOW(c[i].first, c[i].value), LOW(c[i].second, c[i].with)};
		r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, c[i].call, c[i].second ? 2 : 1, args);
	}
	return r;
}

static int add_memory(scmp_filter_ctx ctx, const struct confine_needs *needs)
{
	int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, BITS(2, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, BITS(2, PROT_EXEC, 0));
	if (r == 0 && needs->network) /* modules of the name service are loaded when a name is looked up */
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, BITS(2, PROT_EXEC | PROT_WRITE, PROT_EXEC), BITS(3, MAP_ANONYMOUS, 0));
	return r;
}

static int add_threads(scmp_filter_ctx ctx, const struct confine_needs *needs)
{
	const unsigned long thread = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND;
	const unsigned long apart = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
	/* Its flags lie in memory, where no filter sees them; the C library falls back to clone(2). */
	int r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (r == 0 && (needs->threads || needs->listen || HAVE_SANITIZER))
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, BITS(0, thread | apart, thread));
	/* A signal to oneself: abort(3). */
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, LOW(0, (unsigned)getpid()));
	return r;
}

static int add_network(scmp_filter_ctx ctx, const struct confine_needs *needs)
{
	int r = 0;
	if (needs->network) {
		r = allow(ctx, network, ARRAY_SIZE(network));
		if (r == 0)
			r = allow_choices(ctx, network_choices, ARRAY_SIZE(network_choices));
		/* getaddrinfo(3) asks the kernel for this machine's addresses, and does without: nothing to be logged. */
		if (r == 0)
			r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, LOW(0, AF_NETLINK));
	}
	if (r == 0 && needs->listen)
		r = allow(ctx, listening, ARRAY_SIZE(listening));
	return r;
}

static int build(scmp_filter_ctx ctx, const struct confine_needs *needs)
{
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = allow(ctx, always, ARRAY_SIZE(always));
	if (r == 0)
		r = allow_choices(ctx, choices, ARRAY_SIZE(choices));
	if (r == 0)
		r = add_memory(ctx, needs);
	if (r == 0)
		r = add_threads(ctx, needs);
	if (r == 0)
		r = add_network(ctx, needs);
	for (size_t i = 0; i < ARRAY_SIZE(deadly) && r == 0 && !HAVE_SANITIZER; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
	return r;
}

/* ---- what is refused ---- */
static void fail_call(ucontext_t *context)
{
#if defined(__x86_64__)
	context->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
#else
	context->uc_mcontext.regs[0] = (unsigned long long)-ENOSYS;
#endif
}

/* Runs in place of the call, so in no signal-unsafe place but inside of a C library's function that made it: log_write() takes none
 * of its locks and allocates nothing. */
static void on_refused(int sig, siginfo_t *info, void *context)
{
	static atomic_bool seen[CALLS_SEEN];
	(void)sig;
	int call = info->si_syscall;
	if (call >= 0 && call < CALLS_SEEN && !atomic_exchange(&seen[call], true))
		log_write(LOG_WARN_, "worker: its own seccomp filter does not know system call %d: ENOSYS, ignoring", call);
	fail_call(context);
}

int confine_calls(const struct confine_needs *needs, struct err *err)
{
	struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO | SA_NODEFER};
	sigset_t refused;
	(void)sigemptyset(&action.sa_mask);
	(void)sigemptyset(&refused);
	(void)sigaddset(&refused, SIGSYS);
	/* Blocked, it would kill. */
	if (sigaction(SIGSYS, &action, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &refused, NULL) < 0)
		return err_set(err, errno, "take SIGSYS");
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	if (!ctx)
		return err_set(err, ENOMEM, "make the worker's seccomp filter");
	int r = build(ctx, needs);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r < 0 ? err_set(err, r, "install the worker's seccomp filter") : 0;
}
