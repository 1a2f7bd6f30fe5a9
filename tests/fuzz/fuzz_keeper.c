/*
 * Between the nursery and a keeper, either of them hostile: replies of any length, with any pid and any descriptors, to a nursery that
 * starts keepers, waits for them and has them clone; or requests of that kind to a keeper, which runs here until its socket ends. A
 * pid comes with its pidfd or not at all; what is cloned gets descriptors of its request and no others; none is lost or kept.
 *
 * Taken out once: the comparison of the number of descriptors in await(); a pid without a pidfd is then believed (corpus: pid_alone).
 * Before a reply was looked at as a whole, a short one kept its descriptors (corpus: short_reply), and 0 was a room (corpus: no_pid).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/socket.h>

#include "fuzz_input.h"

#include "base/fd.h"
#include "base/sys.h"
#include "pool/keeper.h"

#define KEEPER_FD 3 /* as in keeper.c */
#define PID 4242
#define OPS_MAX 24
#define SPEC_FDS 7

static struct {
	struct input *in;
	bool is_keeper; /* else the nursery is played by the rest of pool/keeper.c */
	int pair[2], theirs;
	unsigned sent, cloned;
	jmp_buf end;
} scene;
static int null_fd = -1, silent_fd = -1;

/* ---- what keeper.c calls ---- */
pid_t __wrap_sys_clone3(struct clone_args *args);
int __wrap_sys_close_range(unsigned first, unsigned last, unsigned flags);
int __wrap_sys_pidfd_open(pid_t pid, unsigned flags);
int __wrap_sys_keep_caps(uint64_t caps);
int __wrap_socketpair(int domain, int type, int protocol, int pair[2]);
int __real_socketpair(int domain, int type, int protocol, int pair[2]);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
pid_t __wrap_getppid(void);
int __wrap_prctl(int op, ...);
int __wrap_unshare(int flags);
int __wrap_kill(pid_t pid, int sig);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
_Noreturn void __wrap__exit(int status);
_Noreturn void __real__exit(int status);

static void send_some(int sock, struct input *in);

int __wrap_socketpair(int domain, int type, int protocol, int pair[2])
{
	int r = __real_socketpair(domain, type, protocol, scene.pair);
	memcpy(pair, scene.pair, sizeof(scene.pair));
	return r;
}

pid_t __wrap_sys_clone3(struct clone_args *args)
{
	if (!scene.is_keeper) {
		scene.theirs = dup(scene.pair[1]);
		return PID;
	}
	while (scene.in->left > 0 && scene.sent < OPS_MAX) {
		send_some(scene.pair[0], scene.in);
		scene.sent++;
	}
	CHECK(shutdown(scene.pair[0], SHUT_WR) == 0);
	return 0;
}

int __wrap_sys_close_range(unsigned first, unsigned last, unsigned flags)
{
	return 0;
}

int __wrap_sys_pidfd_open(pid_t pid, unsigned flags)
{
	CHECK(pid == PID);
	return dup(silent_fd);
}

int __wrap_sys_keep_caps(uint64_t caps)
{
	return 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return __real_poll(fds, n, 0);
}

pid_t __wrap_getppid(void)
{
	return getpid();
}

int __wrap_prctl(int op, ...)
{
	return 0;
}

int __wrap_unshare(int flags)
{
	return 0;
}

int __wrap_kill(pid_t pid, int sig)
{
	CHECK(pid == PID && sig == SIGKILL);
	return 0;
}

pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
	CHECK(pid == PID);
	return pid;
}

_Noreturn void __wrap__exit(int status)
{
	if (scene.is_keeper)
		longjmp(scene.end, 1);
	__real__exit(status);
}

/* In the keeper: the room has what came with the request. */
pid_t room_clone(const struct room_spec *spec, int *ret_pidfd)
{
	const int fds[SPEC_FDS] = {spec->requests, spec->go, spec->root, spec->scratch, spec->filter, spec->group, spec->usr};
	scene.cloned++;
	for (size_t i = 0; i < SPEC_FDS; i++) {
		CHECK(fds[i] < 0 || fcntl(fds[i], F_GETFD) == FD_CLOEXEC);
		for (size_t k = 0; k < i; k++)
			CHECK(fds[i] < 0 || fds[i] != fds[k]);
		CHECK(fds[i] < 0 || (fds[i] != null_fd && fds[i] != silent_fd && fds[i] != scene.pair[0] && fds[i] != scene.pair[1] && fds[i] > KEEPER_FD));
	}
	if (spec->number & 1)
		return -EAGAIN;
	*ret_pidfd = dup(null_fd);
	return PID;
}

/* ---- messages ---- */
static void send_some(int sock, struct input *in)
{
	struct {
		int32_t result;
		uint8_t rest[sizeof(struct room_spec) + 64];
	} message = {0};
	int fds[FD_PASS_MAX];
	unsigned how = take_byte(in), kind = how >> 4;
	size_t nfds = MIN(how & 15u, (unsigned)FD_PASS_MAX), len = sizeof(message.result);
	if (scene.is_keeper) {
		len = sizeof(struct room_spec);
		take_bytes(in, &message, len);
	} else if (kind & 1) {
		take_bytes(in, &message.result, sizeof(message.result));
	} else {
		message.result = kind & 2 ? PID : kind & 4 ? 0
							   : -EPERM;
	}
	if (kind & 8)
		len = take_byte(in) % sizeof(message);
	for (size_t i = 0; i < nfds; i++)
		fds[i] = dup(null_fd);
	(void)fd_send_now(sock, &message, len, fds, nfds);
	fd_close_many(fds, nfds);
}

/* What a keeper was asked for: as many descriptors as the request names. */
static void check_request(int sock, unsigned wanted)
{
	struct room_spec spec;
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	CHECK(fd_recv(sock, &spec, sizeof(spec), fds, &nfds, MSG_DONTWAIT) == sizeof(spec) && nfds == wanted && spec.sibling);
	fd_close_many(fds, nfds);
}

static void clone_one(struct keeper *keeper, struct input *in)
{
	unsigned which = take_byte(in), wanted = 0;
	int pidfd = -1, fds[SPEC_FDS];
	for (size_t i = 0; i < SPEC_FDS; i++) {
		fds[i] = which >> i & 1 ? null_fd : -1;
		wanted += which >> i & 1;
	}
	const struct room_spec spec = {.requests = fds[0], .go = fds[1], .root = fds[2], .scratch = fds[3], .filter = fds[4], .group = fds[5], .usr = fds[6]};
	pid_t pid = keeper_clone(keeper, &spec, &pidfd);
	CHECK(pid != 0 && pid >= -4095 && (pid > 0) == (pidfd >= 0));
	if (scene.theirs >= 0)
		check_request(scene.theirs, wanted);
	cleanup_close(&pidfd);
	if (pid < 0) { /* as slot.c does */
		keeper_stop(keeper);
		CHECK(keeper_clone(keeper, &spec, &pidfd) == -ESRCH && pidfd == -1);
	}
}

static void be_nursery(struct input *in, int reserved)
{
	struct keeper keeper = KEEPER_NONE;
	for (unsigned i = 0; i < OPS_MAX && in->left > 0; i++) {
		unsigned op = take_byte(in);
		if (keeper.pid <= 0) {
			cleanup_close(&scene.theirs);
			CHECK(keeper_start(&keeper, reserved) == 0 && keeper.pid == PID);
			for (unsigned k = op & 3; k > 0; k--)
				send_some(scene.theirs, in);
			int r = keeper_settle(&keeper, reserved);
			CHECK(r <= 0 && keeper.settled == (r == 0) && (r == 0 || keeper.pid == 0));
			continue;
		}
		if (op & 1)
			send_some(scene.theirs, in);
		if (op & 2)
			clone_one(&keeper, in);
		if (op & 4 && op & 8)
			keeper_stop(&keeper);
	}
	keeper_stop(&keeper);
	cleanup_close(&scene.theirs);
}

static void be_keeper(int reserved)
{
	struct keeper keeper = KEEPER_NONE;
	unsigned answers = 0;
	bool open_before[128];
	for (int fd = 0; fd < 128; fd++)
		open_before[fd] = fcntl(fd, F_GETFD) >= 0;
	if (setjmp(scene.end) == 0) {
		(void)keeper_start(&keeper, reserved);
		CHECK(!"the keeper came back");
	}
	for (;;) {
		int32_t result = 0;
		int fds[FD_PASS_MAX];
		size_t nfds = 0;
		if (fd_recv(scene.pair[0], &result, sizeof(result), fds, &nfds, MSG_DONTWAIT) != sizeof(result))
			break;
		CHECK(nfds == (result > 0));
		fd_close_many(fds, nfds);
		answers++;
	}
	CHECK(answers == scene.cloned + 1 && scene.cloned <= scene.sent);
	CHECK(dup3(null_fd, KEEPER_FD, O_CLOEXEC) == KEEPER_FD);
	for (int fd = 0; fd < 128; fd++) /* what it had ends with it */
		if (!open_before[fd])
			(void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	if (null_fd < 0) {
		int pipe_fds[2];
		null_fd = fcntl(open("/dev/null", O_RDWR | O_CLOEXEC), F_DUPFD_CLOEXEC, 16);
		CHECK(null_fd >= 0 && pipe2(pipe_fds, O_CLOEXEC) == 0);
		silent_fd = fcntl(pipe_fds[0], F_DUPFD_CLOEXEC, 16);
		CHECK(fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, 16) >= 0); /* so that it never ends */
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		CHECK(dup3(null_fd, KEEPER_FD, O_CLOEXEC) == KEEPER_FD); /* whatever a parent left there */
	}
	unsigned before = open_fds();
	int reserved = dup(null_fd);
	memset(&scene, 0, sizeof(scene));
	scene.in = &in;
	scene.theirs = -1;
	scene.is_keeper = take_byte(&in) & 1;
	if (scene.is_keeper)
		be_keeper(reserved);
	else
		be_nursery(&in, reserved);
	scene.is_keeper = false;
	close(reserved);
	CHECK(open_fds() == before);
	return 0;
}
