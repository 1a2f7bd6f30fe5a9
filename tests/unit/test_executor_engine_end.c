/* An engine that has lost its nursery: what the ring still brings afterwards. The test plays the nursery, and its zygote. */
#include "test_layers_util.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "executor/engine_internal.h"

static struct fixture f;
static struct loop *loop;
static struct engine *engine;
static int nursery;

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
	struct engine_config config = {.loop = loop, .store = f.store, .nursery = pair[0], .supervisor = -1, .name = "test"};
	cr_assert_eq(engine_new(&config, &engine, &err), 0, "%s", err_msg(&err));
}

static void tear_down(void)
{
	loop_free(loop);
	close(nursery);
	fixture_close(&f);
}

TestSuite(engine_end, .init = set_up, .fini = tear_down, .timeout = 60);

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

static void make_zygote(struct seat *seat)
{
	const struct wire_plan plan = {.nlayers = 0};
	struct wire_msg stamp;
	struct zygote_msg hello = {.type = ZYGOTE_HELLO};
	int control[FD_PASS_MAX], in[2], out[2], errs[2];
	size_t n = 0;
	seat_stamp(seat, &plan, NULL);
	for (;;) { /* a policy comes first */
		cr_assert_eq(fd_recv(nursery, &stamp, sizeof(stamp), control, &n, 0), (ssize_t)sizeof(stamp));
		if (stamp.type == WIRE_STAMP)
			break;
		fd_close_many(control, n);
	}
	cr_assert_eq(n, 1);
	cr_assert(pipe(in) == 0 && pipe(out) == 0 && pipe(errs) == 0);
	int fds[7] = {sys_pidfd_open(getpid(), 0), open("/", O_PATH | O_CLOEXEC), open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), make_page(), in[1], out[0], errs[0]};
	tell(control[0], &hello, sizeof(hello), fds, 7);
	cr_assert_eq(seat->state, SEAT_READY);
}

/*
 * The leaf is closed with the engine, and the number of its eventfd may be another file's by the time that an event is told which came before. With
 * the number kept: "it read from another file".
 */
Test(engine_end, an_oom_event_that_came_before)
{
	struct seat *seat = make_seat();
	int other[2];
	uint64_t bytes = 1;
	make_zygote(seat);
	cr_assert(seat->oom_op.armed);
	int number = seat->oom_fd;
	engine_end(engine);
	cr_assert_eq(pipe2(other, O_NONBLOCK), 0);
	cr_assert_eq(write(other[1], &bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
	if (other[0] != number)
		cr_assert_eq(dup2(other[0], number), number);
	struct pollfd p = {.fd = number, .events = POLLIN};
	while (seat->oom_op.armed && poll(&p, 1, 0) == 1)
		step();
	if (!seat->oom_op.armed)
		seat->oom_op.fn(&seat->oom_op, POLLIN);
	bool kept = poll(&p, 1, 0) == 1, waits = seat->oom_op.armed;
	close(number);
	close(other[0]);
	close(other[1]);
	loop_cancel(loop, &seat->oom_op);
	cr_assert(kept, "it read from another file");
	cr_assert_not(waits, "it waits for another file");
}
