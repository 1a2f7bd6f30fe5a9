/*
 * A job's init and child. The init is cloned by the room into namespaces of its own and the job's leaf, mounts what every job gets
 * anew, makes the child, and then only waits.
 *
 *   room ──clone3──▶ init: mounts ──clone3──▶ child: ids, pipes, HELLO to the worker, recvmsg … execve
 *                    init: waits … EXIT to the worker
 *
 * Where the policy does not let a waiting child live under its filter, the child installs it itself, last of all; the two then
 * share their fds until that is done, because a listener can only be sent by somebody whom the filter does not bind.
 */
#include "pool/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/sys.h"
#include "pool/gate.h"
#include "pool/steps.h"

int zygote_report(unsigned type, unsigned step, int error, int index, const int *fds, size_t nfds)
{
	struct zygote_msg msg = {.type = type, .step = step, .error = error, .index = index};
	struct iovec iov = {.iov_base = &msg, .iov_len = sizeof(msg)};
	struct fd_space space;
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	fd_attach(&header, &space, fds, nfds);
	long r = gate3(SYS_sendmsg, ZYGOTE_CONTROL_FD, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	return r < 0 ? (int)r : 0;
}

static void die(unsigned step, int error)
{
	(void)zygote_report(ZYGOTE_FAILED, step, error, 0, NULL, 0);
	_exit(1);
}

static int drop_caps(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	struct __user_cap_data_struct none[2] = {{0}, {0}};
	return (int)gate2(SYS_capset, &header, none);
}

static int become_job(void)
{
	long r = gate3(SYS_setresgid, POOL_JOB_UID, POOL_JOB_UID, POOL_JOB_UID);
	if (r == 0)
		r = gate3(SYS_setresuid, POOL_JOB_UID, POOL_JOB_UID, POOL_JOB_UID);
	if (r == 0)
		r = drop_caps();
	if (r == 0) /* the memory is the room's and the init's too, and a change of ids sets fs.suid_dumpable */
		r = gate5(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	return (int)r;
}

/* ---- the child ---- */
static int lock(void *ctx)
{
	struct zygote *z = ctx;
	struct sock_fprog program = {.len = z->spec->filter_len, .filter = (struct sock_filter *)z->filter};
	unsigned flags = z->spec->listener ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
	int r = sys_seccomp(SECCOMP_SET_MODE_FILTER, flags, &program);
	if (r < 0)
		return r;
	if (z->spec->listener) {
		z->late_listener = r;
		if (write(z->sync[1], "l", 1) != 1)
			return -EPIPE;
	}
	return 0;
}

/* Made under the job's own uid: pipe buffers are counted per user, and /dev/stdout must be its own to reopen. */
static int make_pipes(struct zygote *z, int inside[3])
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, errs[2] = {-1, -1};
	long r = gate2(SYS_pipe2, in, O_CLOEXEC);
	if (r == 0)
		r = gate2(SYS_pipe2, out, O_CLOEXEC);
	if (r == 0)
		r = gate2(SYS_pipe2, errs, O_CLOEXEC);
	if (r < 0)
		return (int)r;
	inside[0] = in[0];
	inside[1] = out[1];
	inside[2] = errs[1];
	z->outer[0] = in[1];
	z->outer[1] = out[0];
	z->outer[2] = errs[0];
	return 0;
}

static void hello(const struct zygote *z)
{
	int fds[8] = {z->pidfd, z->root, z->ns, ROOM_PAGE_FD, z->outer[0], z->outer[1], z->outer[2], ROOM_LISTENER_FD};
	/* Unheard it would be waited for without end; its death is noticed. */
	if (zygote_report(ZYGOTE_HELLO, 0, 0, z->spec->number, fds, z->listener ? 8 : 7) < 0)
		_exit(1);
}

/* All but the standard streams and the control socket. */
static void drop_fds(void)
{
	(void)sys_close_range(3, ZYGOTE_CONTROL_FD - 1, 0);
	(void)sys_close_range(ZYGOTE_CONTROL_FD + 1, ~0u, 0);
}

static void child_main(void *arg)
{
	struct zygote *z = arg;
	struct zygote_page *page = z->page;
	int inside[3] = {-1, -1, -1};
	bool shared = z->sync[1] >= 0; /* the fds, with the init */
	page->step = STEP_SETUP_CAPS;
	int r = become_job();
	if (r == 0) {
		r = (int)gate0(SYS_setsid);
		r = r < 0 ? r : 0;
	}
	if (r == 0) {
		page->step = STEP_SETUP_PIPES;
		r = make_pipes(z, inside);
	}
	if (r < 0)
		die(page->step, r);
	page->step = STEP_NONE;
	if (!shared)
		hello(z);
	else if (write(z->sync[1], "h", 1) != 1)
		_exit(1);
	/* Shared until the listener is made where the init can see it; else the table is the child's own from here on. */
	bool keep = shared && z->spec->listener;
	if (shared && !keep)
		(void)sys_close_range(~0u, ~0u, CLOSE_RANGE_UNSHARE);
	for (int i = 0; i < 3; i++)
		if (dup2(inside[i], i) < 0)
			_exit(1);
	if (!keep)
		drop_fds();
	launch_job(page, z->filter ? lock : NULL, z);
	_exit(127);
}

/* ---- the init ---- */
static void make_child(struct zygote *z)
{
	bool late = z->filter != NULL;
	struct clone_args args = {
		.flags = CLONE_VM | (late ? CLONE_FILES | CLONE_PIDFD : 0),
		.pidfd = (uint64_t)(uintptr_t)&z->child_pidfd,
		.exit_signal = SIGCHLD,
		.stack = (uint64_t)(uintptr_t)(z->child_stack - ZYGOTE_STACK),
		.stack_size = ZYGOTE_STACK,
	};
	z->sync[0] = z->sync[1] = -1;
	if (late && gate2(SYS_pipe2, z->sync, O_CLOEXEC) < 0)
		die(STEP_SETUP_FORK, -EMFILE);
	long pid = gate_clone(&args, child_main, z);
	if (pid < 0)
		die(STEP_SETUP_FORK, (int)pid);
	z->child = (pid_t)pid;
}

/* Wait for the child's next byte. Return: false when it died instead. Only the fixed filter is on here, which lets both calls pass. */
static bool wait_sync(struct zygote *z)
{
	struct pollfd p[2] = {{.fd = z->sync[0], .events = POLLIN}, {.fd = z->child_pidfd, .events = POLLIN}};
	char byte;
	while (gate5(SYS_ppoll, p, 2, NULL, NULL, 0) == -EINTR)
		;
	return (p[0].revents & POLLIN) && gate3(SYS_read, z->sync[0], &byte, 1) == 1;
}

static void say_hello_for_it(struct zygote *z)
{
	if (!wait_sync(z))
		die(STEP_SETUP_WAIT, -ECHILD); /* it said why itself */
	hello(z);
	if (z->spec->listener && wait_sync(z) && zygote_report(ZYGOTE_LISTENER, 0, 0, 0, &z->late_listener, 1) < 0)
		_exit(1);
}

static int loopback_up(void)
{
	struct ifreq req = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int s = (int)gate3(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	long r = s < 0 ? s : gate3(SYS_ioctl, s, SIOCSIFFLAGS, &req);
	if (s >= 0)
		(void)close(s);
	return (int)r;
}

/* The child inherits it, and all that the job makes: a cookie that no other job has. Made with the zygote, not when the job comes. */
static void make_cookie(const struct zygote *z)
{
	long r = z->spec->cookie ? gate5(SYS_prctl, PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_THREAD_GROUP, 0) : 0;
	if (r < 0 && z->spec->cookie_required)
		die(STEP_SETUP_CORE, (int)r);
}

static void set_up(struct zygote *z)
{
	unsigned step = STEP_SETUP_SYSCTL;
	/* What is the room's is nobody else's: the child may have to follow the job's paths while it still shares this table. */
	(void)sys_close_range(ROOM_LEAF_FD, ~0u, 0);
	(void)close(ROOM_REQUESTS_FD);
	/* Not at clone: there the new namespace's root would still be the room's group, and its path would show. */
	long r = gate1(SYS_unshare, CLONE_NEWCGROUP);
	if (r == 0)
		r = zygote_setup_mounts(z, &step);
	if (r < 0)
		die(step, (int)r);
	if (z->network == POOL_NET_LOOPBACK) {
		r = loopback_up();
		if (r < 0)
			die(STEP_SETUP_NET, (int)r);
	}
	make_cookie(z);
	z->ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	z->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	z->pidfd = (int)gate2(SYS_pidfd_open, 1, 0);
	if (z->root < 0 || z->pidfd < 0 || z->ns < 0)
		die(STEP_SETUP_PAGE, -EMFILE);
}

static void wait_for_end(struct zygote *z)
{
	int status = 0;
	for (;;) {
		long pid = gate4(SYS_wait4, -1, &status, __WALL, NULL);
		if (pid < 0 && pid != -EINTR)
			_exit(1);
		if (pid == z->child)
			break;
	}
	z->page->wait_status = status;
	z->page->exit_ns = now_ns();
	(void)zygote_report(ZYGOTE_EXIT, 0, 0, status, NULL, 0);
	_exit(0); /* the kernel ends whatever the job left running: pid_namespaces(7) */
}

static void init_main(void *arg)
{
	struct zygote *z = arg;
	(void)umask(022);
	set_up(z);
	make_child(z);
	int r = drop_caps(); /* still the slot's root by name, which is not the job's user, and nobody outside */
	if (r < 0)
		die(STEP_SETUP_CAPS, r);
	if (z->filter) {
		say_hello_for_it(z);
		(void)sys_close_range(~0u, ~0u, CLOSE_RANGE_UNSHARE);
	}
	drop_fds();
	wait_for_end(z);
}

pid_t zygote_start(struct zygote *z)
{
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = ROOM_LEAF_FD,
	};
	if (z->network != POOL_NET_SHARED)
		args.flags |= CLONE_NEWNET;
	if (z->spec->apart) {
		long pid = gate2(SYS_clone3, &args, sizeof(args));
		if (pid == 0)
			init_main(z);
		return (pid_t)pid;
	}
	args.flags |= CLONE_VM;
	args.stack = (uint64_t)(uintptr_t)(z->init_stack - ZYGOTE_STACK);
	args.stack_size = ZYGOTE_STACK;
	return (pid_t)gate_clone(&args, init_main, z);
}
