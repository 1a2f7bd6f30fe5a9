/* Making the worker's ring; see the header. Before the privileges are dropped. */
#include "executor/loop_ring.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

static int set_up(unsigned entries, struct io_uring *ring)
{
	static const unsigned wishes[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
		0,
	};
	int r = -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(wishes) && r == -EINVAL; i++) {
		struct io_uring_params params = {.flags = wishes[i] | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED};
		r = io_uring_queue_init_params(entries, ring, &params);
	}
	return r;
}

/* liburing 2.3 declares functions for these two, and its library in Debian 12 does not have them. */
static int do_register(const struct io_uring *ring, unsigned op, void *arg, unsigned n)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, op, arg, n) < 0 ? -errno : 0;
}

int ring_open(unsigned entries, struct io_uring *ring)
{
	/* What executor/loop.c asks for. No flag of an entry is listed, so none may be set: IOSQE_IO_LINK, fixed files and buffers, …. */
	struct io_uring_restriction allowed[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_POLL_ADD},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_ASYNC_CANCEL},
	};
	int r = set_up(entries, ring);
	if (r < 0)
		return r;
	r = do_register(ring, IORING_REGISTER_RESTRICTIONS, allowed, ARRAY_SIZE(allowed));
	if (r == 0)
		r = do_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (r < 0)
		io_uring_queue_exit(ring);
	return r;
}
