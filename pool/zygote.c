/*
 * The zygote's init and child. The init is cloned into its namespaces and its leaf by the nursery, sets up what only
 * the inside can (mounts, hostname, filters), forks the child, hands the worker its fds, and then only waits. The two
 * share one fd table until the policy's filter is on, because the listener that the child's filter creates can only be
 * sent by somebody whom that filter does not bind.
 *
 *   nursery ──clone3──▶ init ──clone(CLONE_FILES)──▶ child: pipes, filter ─sync─▶ init: HELLO to the worker
 *                                                    child: recvmsg … execve       init: waitpid … EXIT
 *
 * Failures are a step code on the control socket. Only async-signal-safe calls.
 */
#include "pool/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/sys.h"
#include "pool/steps.h"

struct zygote {
	const struct zygote_spec *spec;
	int root, usr, go, filter_fd;
	const struct sock_filter *filter;
	int sync[2];
	int page_fd;
	struct zygote_page *page;
	int child_pidfd;
	pid_t child;
};

static void report(unsigned type, unsigned step, int error, int index, const int *fds, size_t nfds)
{
	struct zygote_msg msg = {.type = type, .step = step, .error = error, .index = index};
	(void)fd_send(ZYGOTE_CONTROL_FD, &msg, sizeof(msg), fds, nfds);
}

static void die(unsigned step, int error)
{
	report(ZYGOTE_FAILED, step, error, 0, NULL, 0);
	_exit(1);
}

/* Close everything of the nursery's but what this zygote was given, which moves to fixed numbers. */
static void take_fds(struct zygote *z)
{
	int given[5] = {z->spec->control, z->spec->go, z->spec->root, z->spec->filter, z->spec->usr};
	static const int target[5] = {ZYGOTE_CONTROL_FD, 4, 5, 6, 7};
	for (size_t i = 0; i < ARRAY_SIZE(given); i++)
		if (given[i] >= 0)
			given[i] = fcntl(given[i], F_DUPFD_CLOEXEC, 16);
	for (size_t i = 0; i < ARRAY_SIZE(given); i++) {
		if (given[i] >= 0)
			(void)dup3(given[i], target[i], O_CLOEXEC);
		else
			(void)close(target[i]);
	}
	(void)sys_close_range(8, ~0u, 0);
	/* The nursery's stdin is /dev/null. */
	(void)dup2(0, 1);
	(void)dup2(0, 2);
	z->go = 4;
	z->root = 5;
	z->filter_fd = 6;
	z->usr = z->spec->usr >= 0 ? 7 : -1;
}

static void wait_for_nursery(struct zygote *z)
{
	char byte;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (fd_read_all(z->go, &byte, 1) != 1)
		_exit(0); /* the nursery gave up, or died */
	cleanup_close(&z->go);
}

/* Limits of the slot's own user namespace, so only processes in the sandbox feel them. */
static int forbid_namespaces(int sysctl)
{
	static const char *const kinds[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"};
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		char name[64];
		(void)snprintf(name, sizeof(name), "max_%s_namespaces", kinds[i]);
		int r = fd_put(sysctl, name, "0");
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

static int loopback_up(void)
{
	_cleanup_close_ int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq req = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &req) < 0)
		return -errno;
	return 0;
}

static void become_root(void)
{
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || sethostname("petri", 5) < 0)
		die(STEP_SETUP_IDS, -errno);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* cleared by every change of ids, prctl(2) */
	(void)umask(022);
}

static void set_up(struct zygote *z)
{
	unsigned step = 0;
	int r = sys_keyctl_join_session();
	if (r < 0 && r != -ENOSYS)
		die(STEP_SETUP_KEYRING, r);
	/* Not at clone: there the new namespace's root would still be the nursery's group, and its path would show. */
	if (unshare(CLONE_NEWCGROUP) < 0)
		die(STEP_SETUP_SYSCTL, -errno);
	int sysctl = open("/proc/sys/user", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sysctl < 0)
		die(STEP_SETUP_SYSCTL, -errno);
	r = zygote_setup_mounts(z->root, z->usr, &step);
	if (r < 0)
		die(step, r);
	/* After the mounts: from Linux 6.18 on a mount that is not attached yet counts as a namespace too. */
	r = forbid_namespaces(sysctl);
	if (r < 0)
		die(STEP_SETUP_SYSCTL, r);
	(void)close(sysctl);
	cleanup_close(&z->root);
	cleanup_close(&z->usr);
	if (z->spec->network == POOL_NET_LOOPBACK) {
		r = loopback_up();
		if (r < 0)
			die(STEP_SETUP_NET, r);
	}
	r = sys_drop_bounding_set();
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	if (r < 0)
		die(STEP_SETUP_CAPS, r);
	r = floor_install(z->spec->network != POOL_NET_SHARED, z->spec->listener);
	if (r < 0)
		die(STEP_SETUP_FLOOR, r);
}

static void share_page(struct zygote *z)
{
	size_t filter_size = (size_t)z->spec->filter_len * sizeof(struct sock_filter);
	void *filter = mmap(NULL, filter_size, PROT_READ, MAP_PRIVATE, z->filter_fd, 0);
	if (filter == MAP_FAILED)
		die(STEP_SETUP_PAGE, -errno);
	z->filter = filter;
	cleanup_close(&z->filter_fd);
	z->page_fd = memfd_create("petri-zygote", MFD_CLOEXEC);
	if (z->page_fd < 0 || ftruncate(z->page_fd, 4096) < 0)
		die(STEP_SETUP_PAGE, -errno);
	z->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, z->page_fd, 0);
	if (z->page == MAP_FAILED || pipe2(z->sync, O_CLOEXEC) < 0)
		die(STEP_SETUP_PAGE, -errno);
	z->page->fd_listener = -1;
}

/* Another user for each of the two, no capability left in either. */
static int become(uid_t id)
{
	if (setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0)
		return -errno;
	int r = sys_drop_caps();
	if (r < 0)
		return r;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return 0;
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
		z->page->fd_listener = r;
		if (!z->spec->early && write(z->sync[1], "l", 1) != 1)
			return -EPIPE;
	}
	return 0;
}

/* Made under the job's own uid: pipe buffers are counted per user, and /dev/stdout must be its own to reopen. */
static int make_pipes(struct zygote *z, int inside[3])
{
	int in[2], out[2], errs[2];
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(errs, O_CLOEXEC) < 0)
		return -errno;
	inside[0] = in[0];
	inside[1] = out[1];
	inside[2] = errs[1];
	z->page->fd_stdin = in[1];
	z->page->fd_stdout = out[0];
	z->page->fd_stderr = errs[0];
	return 0;
}

static void child_main(struct zygote *z)
{
	struct zygote_page *page = z->page;
	int inside[3] = {-1, -1, -1};
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (int s = 1; s < NSIG; s++) /* ignored signals stay ignored across exec, and petri ignores some */
		(void)signal(s, SIG_DFL);
	int r = become(POOL_JOB_UID);
	if (r == 0 && setsid() < 0)
		r = -errno;
	page->step = STEP_SETUP_CAPS;
	if (r == 0) {
		page->step = STEP_SETUP_PIPES;
		r = make_pipes(z, inside);
	}
	if (r == 0 && z->spec->early) {
		page->step = STEP_FILTER;
		r = lock(z);
	}
	page->error = r < 0 ? -r : 0;
	if (r < 0)
		_exit(1);
	page->step = 0;
	if (write(z->sync[1], "h", 1) != 1)
		_exit(1);
	/* From here on the table is the child's own, unless the listener is still to be made where init can see it. */
	if (z->spec->early || !z->spec->listener)
		(void)sys_close_range(~0u, ~0u, CLOSE_RANGE_UNSHARE);
	for (int i = 0; i < 3; i++)
		if (dup2(inside[i], i) < 0)
			_exit(1);
	if (z->spec->early || !z->spec->listener)
		(void)sys_close_range(ZYGOTE_CONTROL_FD + 1, ~0u, 0);
	launch_job(page, z->spec->early ? NULL : lock, z);
	_exit(127);
}

/* ---- the init ---- */
static void fork_child(struct zygote *z)
{
	/* Not clone3: the fixed filter has it already. Argument order of clone(2) for x86-64 and aarch64 alike up to here. */
	long pid = syscall(SYS_clone, CLONE_FILES | CLONE_PIDFD | SIGCHLD, NULL, &z->child_pidfd, NULL, NULL);
	if (pid < 0)
		die(STEP_SETUP_FORK, -errno);
	if (pid == 0)
		child_main(z);
	z->child = (pid_t)pid;
}

/* Wait for the child's next byte. Return: false when it died instead. */
static bool wait_sync(struct zygote *z)
{
	struct pollfd p[2] = {{.fd = z->sync[0], .events = POLLIN}, {.fd = z->child_pidfd, .events = POLLIN}};
	char byte;
	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	if (p[0].revents & POLLIN)
		return read(z->sync[0], &byte, 1) == 1;
	return false;
}

static void say_hello(struct zygote *z)
{
	if (!wait_sync(z))
		die(z->page->step, -z->page->error);
	int fds[5] = {z->page_fd, z->page->fd_stdin, z->page->fd_stdout, z->page->fd_stderr, z->page->fd_listener};
	report(ZYGOTE_HELLO, 0, 0, 0, fds, fds[4] >= 0 ? 5 : 4);
	if (!z->spec->early && z->spec->listener && wait_sync(z))
		report(ZYGOTE_LISTENER, 0, 0, 0, &z->page->fd_listener, 1);
	(void)sys_close_range(ZYGOTE_CONTROL_FD + 1, ~0u, CLOSE_RANGE_UNSHARE);
}

static void wait_for_end(struct zygote *z)
{
	int status;
	for (;;) {
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0 && errno != EINTR)
			_exit(1);
		if (pid == z->child)
			break;
	}
	z->page->wait_status = status;
	z->page->exit_ns = now_ns();
	report(ZYGOTE_EXIT, 0, 0, status, NULL, 0);
	_exit(0); /* the kernel ends whatever the job left running: pid_namespaces(7) */
}

static void init_main(struct zygote *z)
{
	take_fds(z);
	wait_for_nursery(z);
	become_root();
	set_up(z);
	share_page(z);
	fork_child(z);
	int r = become(POOL_INIT_UID);
	if (r < 0)
		die(STEP_SETUP_CAPS, r);
	say_hello(z);
	wait_for_end(z);
}

pid_t zygote_clone(const struct zygote_spec *spec, int *ret_pidfd)
{
	struct zygote z = {.spec = spec, .child_pidfd = -1, .filter_fd = -1};
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	if (spec->leaf >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)spec->leaf;
	}
	if (spec->sibling) { /* the exit signal is then the caller's own */
		args.flags |= CLONE_PARENT;
		args.exit_signal = 0;
	}
	if (spec->network != POOL_NET_SHARED)
		args.flags |= CLONE_NEWNET;
	pid_t pid = sys_clone3(&args);
	if (pid == 0)
		init_main(&z);
	if (pid > 0)
		*ret_pidfd = pidfd;
	return pid;
}
