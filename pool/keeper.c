/* Keepers; see the header. petri-nursery; the keeper itself only waits on its socket and clones. */
#include "pool/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/sys.h"

#define KEEPER_FD 3
#define SETTLE_MS 10000 /* slots are opened once: rather late than not at all */
#define CLONE_MS 1000
#define ERRNO_MAX 4095

struct reply {		/* + the pidfd */
	int32_t result; /* a pid, 0 in the first one, or -errno */
};

/* The fds of a spec that go with it, in this order; those that are -1 do not. */
#define SPEC_FDS 7
static void list_fds(struct room_spec *spec, int *ret[SPEC_FDS])
{
	int *const all[SPEC_FDS] = {&spec->requests, &spec->go, &spec->root, &spec->scratch, &spec->filter, &spec->group, &spec->usr};
	for (size_t i = 0; i < SPEC_FDS; i++)
		ret[i] = all[i];
}

/* ---- the keeper ---- */
static void answer(int result, int pidfd)
{
	const struct reply reply = {.result = result};
	if (fd_send(KEEPER_FD, &reply, sizeof(reply), &pidfd, pidfd >= 0 ? 1 : 0) < 0)
		_exit(0); /* the nursery is gone */
}

static void serve_one(void)
{
	struct room_spec spec;
	int fds[FD_PASS_MAX], *places[SPEC_FDS], pidfd = -1;
	size_t nfds = 0, at = 0;
	if (fd_recv(KEEPER_FD, &spec, sizeof(spec), fds, &nfds, 0) != sizeof(spec))
		_exit(0);
	list_fds(&spec, places);
	for (size_t i = 0; i < SPEC_FDS; i++)
		if (*places[i] >= 0)
			*places[i] = at < nfds ? fds[at++] : -1;
	pid_t pid = room_clone(&spec, &pidfd);
	/* First of all: what is the room's must be its alone. */
	fd_close_many(fds, nfds);
	answer(pid, pidfd);
	cleanup_close(&pidfd);
}

/* Until the call that unshares it this is the nursery's own table, in which nothing may be changed; what that call copies ends below
 * its first argument, so that the size of the table does not matter. */
_Noreturn static void keep(pid_t parent, int reserved)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent || sys_close_range((unsigned)reserved + 1, ~0u, CLOSE_RANGE_UNSHARE) < 0)
		_exit(1);
	if ((reserved != KEEPER_FD && dup3(reserved, KEEPER_FD, O_CLOEXEC) < 0) || sys_close_range(KEEPER_FD + 1, ~0u, 0) < 0)
		_exit(1);
	(void)prctl(PR_SET_NAME, "petri-keeper", 0, 0, 0);
	int r = unshare(CLONE_NEWNET) < 0 ? -errno : 0;
	/* To have a room born in a group whose cgroup.procs is the room's own, and hosts may ask for the first to make user namespaces; the last so that
	 * the slot's root makes it. */
	if (r == 0)
		r = sys_keep_caps(SYS_CAP(SYS_ADMIN) | SYS_CAP(DAC_OVERRIDE) | SYS_CAP(SETUID));
	answer(r, -1);
	for (;;)
		serve_one();
}

/* ---- the nursery ---- */
int keeper_start(struct keeper *keeper, int reserved)
{
	int pair[2];
	*keeper = KEEPER_NONE;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	_cleanup_close_ int ours = pair[0], theirs = pair[1];
	if (dup3(theirs, reserved, O_CLOEXEC) < 0)
		return -errno;
	/* exit_signal: what the zygotes' will be too, clone(2) on CLONE_PARENT. */
	struct clone_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
	pid_t parent = getpid(), pid = sys_clone3(&args);
	if (pid == 0)
		keep(parent, reserved);
	if (pid < 0)
		return pid;
	keeper->pid = pid;
	keeper->sock = TAKE_FD(ours);
	return 0;
}

/* Return: the reply's result, or -errno. */
static int await(struct keeper *keeper, int patience_ms, int *ret_pidfd)
{
	_cleanup_close_ int life = sys_pidfd_open(keeper->pid, 0); /* until it has settled, the socket's end of file would not tell */
	struct pollfd p[2] = {{.fd = keeper->sock, .events = POLLIN}, {.fd = life, .events = POLLIN}};
	struct reply reply;
	int fds[FD_PASS_MAX], n;
	size_t nfds = 0;
	while ((n = poll(p, 2, patience_ms)) < 0 && errno == EINTR)
		;
	if (n <= 0)
		return -ETIMEDOUT; /* starved: the slot gets another keeper */
	/* What is no answer to the question, a pid with its pidfd or 0, is as good as its death. */
	ssize_t len = fd_recv(keeper->sock, &reply, sizeof(reply), fds, &nfds, MSG_DONTWAIT);
	size_t want = len == sizeof(reply) && reply.result >= 0 && ret_pidfd ? 1 : 0;
	bool good = len == sizeof(reply) && nfds == want && (reply.result < 0 ? reply.result >= -ERRNO_MAX : (reply.result > 0) == (ret_pidfd != NULL));
	if (good && want)
		*ret_pidfd = TAKE_FD(fds[0]);
	fd_close_many(fds, nfds);
	return good ? reply.result : -ESRCH;
}

int keeper_settle(struct keeper *keeper, int reserved)
{
	int r = await(keeper, SETTLE_MS, NULL);
	if (r < 0)
		keeper_stop(keeper);
	/* The number stays taken, but its end of the socket is the keeper's alone from here on. */
	if (dup3(STDIN_FILENO, reserved, O_CLOEXEC) < 0 && r == 0)
		r = -errno;
	keeper->settled = r == 0;
	return r;
}

pid_t keeper_clone(struct keeper *keeper, const struct room_spec *spec, int *ret_pidfd)
{
	struct room_spec theirs = *spec;
	int fds[SPEC_FDS], *places[SPEC_FDS];
	size_t nfds = 0;
	theirs.sibling = true;
	list_fds(&theirs, places);
	for (size_t i = 0; i < SPEC_FDS; i++)
		if (*places[i] >= 0)
			fds[nfds++] = *places[i];
	int r = keeper->pid > 0 ? fd_send(keeper->sock, &theirs, sizeof(theirs), fds, nfds) : -ESRCH;
	return r < 0 ? r : await(keeper, CLONE_MS, ret_pidfd);
}

void keeper_stop(struct keeper *keeper)
{
	if (keeper->pid > 0) {
		(void)kill(keeper->pid, SIGKILL);
		(void)waitpid(keeper->pid, NULL, 0);
	}
	cleanup_close(&keeper->sock);
	*keeper = KEEPER_NONE;
}
