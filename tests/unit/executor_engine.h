/* An engine without its neighbours: a test plays petri-nursery, its zygotes and the supervisor. */
#pragma once

#pragma GCC diagnostic ignored "-Wunused-function"

#include "test_layers_util.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "executor/engine_internal.h"

static struct fixture f;
static struct loop *loop;
static struct engine *engine;
static int nursery, supervisor;

static void step(void)
{
	struct err err = ERR_INIT;
	cr_assert_eq(loop_step(loop, &err), 0, "%s", err_msg(&err));
}

static void set_up(void)
{
	struct err err = ERR_INIT;
	int pair[2];
	fixture_open(&f, true);
	cr_assert_eq(loop_new(16, &loop, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	nursery = pair[1];
	struct engine_config config = {.loop = loop, .store = f.store, .nursery = pair[0], .name = "test"};
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	supervisor = pair[1];
	config.supervisor = pair[0];
	cr_assert_eq(engine_new(&config, &engine, &err), 0, "%s", err_msg(&err));
}

static void tear_down(void)
{
	loop_free(loop);
	close(nursery);
	close(supervisor);
	fixture_close(&f);
}

static void tell(int sock, const void *msg, size_t len, int *fds, size_t nfds)
{
	cr_assert_eq(fd_send(sock, msg, len, fds, nfds), 0);
	fd_close_many(fds, nfds);
	step();
}

/* A slot with a leaf of the hybrid driver's. */
static struct seat *make_seat(void)
{
	struct wire_msg hello = {.type = WIRE_HELLO, .seq = WIRE_VERSION, .host = {.driver = POOL_DRIVER_HYBRID, .nslots = 1}};
	struct wire_msg leaf = {.type = WIRE_LEAF, .leaf = {.knobs = 1u << KNOB_KILL | 1u << KNOB_OOM_EVENT}};
	int fds[2] = {memfd_create("kill", MFD_CLOEXEC), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	tell(nursery, &hello, sizeof(hello), NULL, 0);
	tell(nursery, &leaf, sizeof(leaf), fds, 2);
	cr_assert_eq(engine->nseats, 1);
	return &engine->seats[0];
}

static int make_page(void)
{
	int page = memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_assert(ftruncate(page, sizeof(struct zygote_page)) == 0 && fcntl(page, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
	return page;
}

/* What the nursery is asked for next, of one kind. */
static size_t asked(unsigned type, struct wire_msg *msg, int *fds)
{
	size_t n = 0;
	for (;;) {
		cr_assert_eq(fd_recv(nursery, msg, sizeof(*msg), fds, &n, 0), (ssize_t)sizeof(*msg));
		if (msg->type == type)
			return n;
		fd_close_many(fds, n);
	}
}

static void make_zygote(struct seat *seat)
{
	const struct wire_plan plan = {.nlayers = 0};
	struct wire_msg stamp;
	struct zygote_msg hello = {.type = ZYGOTE_HELLO};
	int control[FD_PASS_MAX], in[2], out[2], errs[2];
	seat_stamp(seat, &plan, NULL);
	cr_assert_eq(asked(WIRE_STAMP, &stamp, control), 1);
	cr_assert(pipe(in) == 0 && pipe(out) == 0 && pipe(errs) == 0);
	int fds[7] = {sys_pidfd_open(getpid(), 0), open("/", O_PATH | O_CLOEXEC), open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), make_page(), in[1], out[0], errs[0]};
	tell(control[0], &hello, sizeof(hello), fds, 7);
	cr_assert_eq(seat->state, SEAT_READY);
}
