/*
 * The worker's engine against hostile neighbours: the input is what a zygote, the room's shared page, the open helper, the supervisor and
 * the nursery say, in which order, with which descriptors beside it, and when operations complete and timers fire. Jobs are sent in
 * between. No crash, no call that blocks, no descriptor lost; each job ends exactly once, within its wall limit and what petri adds to
 * it, with a result that can be written. Sockets and descriptors are real, loop and clock are not. Needs root, for the store.
 *
 * Defences taken out once, and what the inputs in regressions/fuzz_engine then led to: page_stays(): SIGBUS in run_maybe_finish()
 * (page_cut_short); the bound of exec_ns in on_wall(): a deadline in the far future (exec_in_the_future); check_reply(): no end of
 * a read (helper_gives_a_pipe); told_error(): overflow in collect's on_reply() (helper_fails_oddly).
 */
#include <fcntl.h>
#include <jansson.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fuzz_input.h"
#include "fuzz_loop.h"

#include "base/fd.h"
#include "base/log.h"
#include "executor/engine_internal.h"
#include "layers/tree.h"
#include "policies/policy.h"
#include "pool/steps.h"

#define JOBS 3
#define SLOTS_MAX 3
#define OP_BUDGET 200

static struct store *store;
static char state[64], policies[80];
static int null_fd = -1, root_fd = -1;

struct zygote { /* as a slot's last STAMP made it */
	int control, page, pidfd, out, errs, in, events;
};

struct scene {
	struct loop *loop;
	struct engine *engine;
	int nursery, supervisor, helper;
	uint32_t seq;
	bool ending; /* the nursery does what it is for: it answers */
	struct zygote zygotes[SLOTS_MAX];
	struct engine_job jobs[JOBS];
	bool begun[JOBS], done[JOBS];
	uint64_t begun_us[JOBS];
};

static struct scene scene;

/* The compiler takes a tenth of a second under the sanitizers, and has a target of its own. */
int __wrap_policy_compile(const struct policy *policy, struct policy_program *ret, struct err *err);
int __wrap_policy_compile(const struct policy *policy, struct policy_program *ret, struct err *err)
{
	static const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	*ret = (struct policy_program){.insns = malloc(sizeof(allow)), .len = 1, .allows_launch = true, .notifies = true};
	CHECK(ret->insns);
	memcpy(ret->insns, &allow, sizeof(allow));
	return 0;
}

/* ---- once ---- */
static void put_file(const char *dir, const char *name, const char *text)
{
	char path[160];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	CHECK(fd >= 0 && fd_write_all(fd, text, strlen(text)) == 0);
	close(fd);
}

static void clean_up(void)
{
	store_free(store);
	(void)tree_remove(AT_FDCWD, state, NULL);
}

static void set_up(void)
{
	struct err err = ERR_INIT;
	char images[80];
	log_set_level(LOG_LEVEL_MAX);
	(void)signal(SIGPIPE, SIG_IGN); /* as petri has it */
	fuzz_tmp(state, sizeof(state), "engine");
	(void)snprintf(policies, sizeof(policies), "%s/p", state);
	(void)snprintf(images, sizeof(images), "%s/s", state);
	CHECK(store_open(images, &store, &err) == 0);
	(void)snprintf(images, sizeof(images), "%s/s/images", state);
	CHECK(mkdir(policies, 0755) == 0);
	put_file(policies, "open.json", "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}");
#define IMAGE(name, runtime) "{\"name\":\"" name "\",\"host_usr\":false,\"layers\":[],\"env\":null,\"entrypoint\":null,\"cmd\":[\"prog\"],\"cwd\":null,\"user\":null,\"stamp\":null,\"runtime\":" runtime "}"
	put_file(images, "a.json", IMAGE("a", "null"));
	put_file(images, "b.json", IMAGE("b", "{\"argv\":[\"/rt\"],\"serves\":[\"prog\"]}"));
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	root_fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(null_fd >= 0 && root_fd >= 0);
	(void)atexit(clean_up);
}

/* ---- jobs ---- */
static const char *const documents[] = {
	"{\"id\":\"a\",\"image\":\"a\",\"policy\":\"open\",\"argv\":[\"prog\"],\"stdin\":{\"data\":\"in\"},"
	"\"collect\":[\"/work/x\",{\"path\":\"/work/y\",\"as\":\"inline\",\"optional\":true}],\"commit\":\"/work\"}",
	"{\"id\":\"b\",\"image\":\"b\",\"policy\":\"open\",\"argv\":[\"prog\"],\"limits\":{\"output_bytes\":8,\"disk_bytes\":8192}}",
	"{\"id\":\"c\",\"image\":\"a\",\"policy\":\"open\",\"argv\":[\"prog\"],\"files\":{\"/work/f\":{\"data\":\"x\"}},"
	"\"collect\":[{\"path\":\"/work/z\",\"as\":\"inline\"}],\"network\":\"loopback\"}",
};

static void on_done(struct engine_job *ej)
{
	size_t i = (size_t)(ej - scene.jobs);
	CHECK(i < JOBS && scene.begun[i] && !scene.done[i] && !ej->run);
	scene.done[i] = true;
	CHECK((unsigned)ej->result.status < STATUS_MAX);
	char *json = result_json(&ej->result);
	json_t *parsed = json ? json_loads(json, 0, NULL) : NULL;
	CHECK(parsed);
	json_t *code = json_object_get(parsed, "exit_code"), *sig = json_object_get(parsed, "signal");
	CHECK(json_is_null(code) == (ej->result.status != STATUS_EXITED) && json_is_null(sig) == (ej->result.status != STATUS_SIGNALED));
	CHECK(ej->result.status != STATUS_EXITED || (json_integer_value(code) >= 0 && json_integer_value(code) <= 255));
	CHECK(ej->result.out.len <= ej->job.limits.output_bytes && ej->result.errout.len <= ej->job.limits.output_bytes);
	json_decref(parsed);
	free(json);
}

static void start_job(size_t i)
{
	struct reject why;
	struct engine_job *ej = &scene.jobs[i];
	if (scene.begun[i])
		return;
	*ej = (struct engine_job){.stdin_fd = -1, .done = on_done};
	CHECK(job_parse(documents[i], strlen(documents[i]), NULL, &ej->job, &why) == 0);
	scene.begun[i] = true;
	scene.begun_us[i] = fuzz_clock_us;
	engine_start(scene.engine, ej);
}

/* ---- descriptors ---- */
static int memfd_of(const char *text, size_t size, bool sealed)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	if (text)
		CHECK(pwrite(fd, text, strlen(text), 0) >= 0);
	if (sealed)
		CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	return fd;
}

/* Any kind that one end of a socket can be given. */
static int any_fd(unsigned kind)
{
	int pair[2];
	switch (kind % 11) {
	case 0:
		return memfd_of("populated 0\n", 4096, true);
	case 1:
		return memfd_of("1\n", 64, false);
	case 2:
		return memfd_of(NULL, 0, false);
	case 3: /* readable, but never ending */
	case 4:
		CHECK(pipe2(pair, O_CLOEXEC) == 0);
		close(pair[kind % 11 == 3 ? 1 : 0]);
		return pair[kind % 11 == 3 ? 0 : 1];
	case 5: /* neither readable nor at its end: somebody else has the other end */
		CHECK(pipe2(pair, O_CLOEXEC) == 0);
		if (scene.zygotes[0].out >= 0)
			close(scene.zygotes[0].out);
		scene.zygotes[0].out = pair[1];
		return pair[0];
	case 6:
		return dup(root_fd);
	case 7:
		return eventfd(kind > 127, EFD_CLOEXEC);
	case 8:
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
		close(pair[1]);
		return pair[0];
	case 9:
		return open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	default:
		return dup(null_fd);
	}
}

static void send_fds(int sock, const void *data, size_t len, int *fds, size_t nfds)
{
	if (sock >= 0 && len > 0)
		(void)fd_send_now(sock, data, len, fds, nfds);
	fd_close_many(fds, nfds);
}

/* The next bytes as a message to the engine: how many descriptors, of which kinds, and what. */
static void send_raw(int sock, struct input *in, size_t usual)
{
	static char message[8192];
	int fds[FD_PASS_MAX];
	size_t nfds = take_byte(in) % 12, len = usual;
	for (size_t i = 0; i < nfds; i++)
		fds[i] = any_fd(take_byte(in));
	if (take_byte(in) % 8 == 0)
		len = take_byte(in) * 8;
	memset(message, 0, sizeof(message));
	take_bytes(in, message, MIN(len, (size_t)48));
	send_fds(sock, message, len, fds, nfds);
}

/* ---- the nursery ---- */
static void zygote_close(struct zygote *z)
{
	int *const fds[] = {&z->control, &z->page, &z->pidfd, &z->out, &z->errs, &z->in, &z->events};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		cleanup_close(fds[i]);
}

static void answer(const struct wire_msg *to, unsigned type, unsigned step, int error)
{
	const struct wire_msg msg = {.type = type, .slot = to->slot, .seq = to->seq, .step = step, .error = error};
	(void)fd_send_now(scene.nursery, &msg, sizeof(msg), NULL, 0);
}

static void answer_commit(uint32_t seq)
{
	const struct commit_reply reply = {.seq = seq, .error = -EIO};
	(void)fd_send_now(scene.supervisor, &reply, sizeof(reply), NULL, 0);
}

static void read_nursery(void)
{
	struct wire_msg msg;
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	while (fd_recv(scene.nursery, &msg, sizeof(msg), fds, &nfds, MSG_DONTWAIT) == sizeof(msg)) {
		if (msg.type == WIRE_STAMP && nfds > 0 && msg.slot < SLOTS_MAX) {
			cleanup_close(&scene.zygotes[msg.slot].control);
			scene.zygotes[msg.slot].control = TAKE_FD(fds[0]);
			scene.seq = msg.seq;
			if (scene.ending)
				answer(&msg, WIRE_FAILED, STEP_CLONE, -EIO);
			CHECK(msg.plan.nlayers <= POOL_LAYERS_MAX && msg.plan.network < POOL_NET_MAX);
		} else if (msg.type == WIRE_OPEN && nfds > 0) {
			cleanup_close(&scene.helper);
			scene.helper = TAKE_FD(fds[0]);
		} else if (msg.type == WIRE_RESIZE && scene.ending) {
			answer(&msg, WIRE_RESIZED, 0, 0);
		}
		fd_close_many(fds, nfds);
	}
	static struct commit_request request;
	while (fd_recv(scene.supervisor, &request, sizeof(request), fds, &nfds, MSG_DONTWAIT) > 0) {
		fd_close_many(fds, nfds);
		if (scene.ending)
			answer_commit(request.seq);
	}
}

static void say_hello(struct input *in)
{
	unsigned how = take_byte(in);
	struct wire_msg msg = {.type = WIRE_HELLO, .seq = WIRE_VERSION + (how > 250), .host = {.driver = how & 1, .scratch = how >> 1 & 1, .nslots = 1 + (how >> 2) % SLOTS_MAX, .ndevices = 1, .store_io = 1}};
	send_fds(scene.nursery, &msg, sizeof(msg), NULL, 0);
}

static void send_leaf(unsigned slot)
{
	static const enum knob knobs[] = {KNOB_KILL, KNOB_EVENTS, KNOB_MEMORY_MAX, KNOB_MEMORY_PEAK, KNOB_MEMORY_EVENTS, KNOB_OOM_EVENT, KNOB_CPU_MAX, KNOB_CPU_STAT, KNOB_THROTTLE, KNOB_PIDS_MAX, KNOB_PIDS_EVENTS, KNOB_IO_MAX, KNOB_SWAP_MAX, KNOB_MEMORY_NOW};
	struct zygote *z = &scene.zygotes[slot % SLOTS_MAX];
	struct wire_msg msg = {.type = WIRE_LEAF, .slot = slot % SLOTS_MAX, .leaf = {.number = 1, .uid_base = POOL_UID_BASE}};
	int fds[ARRAY_SIZE(knobs)];
	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++) {
		msg.leaf.knobs |= 1u << knobs[i];
		fds[i] = knobs[i] == KNOB_OOM_EVENT ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : memfd_of(knobs[i] == KNOB_EVENTS ? "populated 0\n" : "0\n", 64, false);
		CHECK(fds[i] >= 0);
	}
	cleanup_close(&z->events);
	z->events = dup(fds[1]);
	send_fds(scene.nursery, &msg, sizeof(msg), fds, ARRAY_SIZE(knobs));
}

/* A zygote that behaves, so far. */
static void zygote_hello(struct zygote *z, bool sealed, int room)
{
	int out[2], errs[2], in[2];
	if (z->control < 0)
		return;
	CHECK(pipe2(out, O_CLOEXEC) == 0 && pipe2(errs, O_CLOEXEC) == 0 && pipe2(in, O_CLOEXEC) == 0);
	int *const fds[] = {&z->page, &z->pidfd, &z->out, &z->errs, &z->in};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		cleanup_close(fds[i]);
	z->page = memfd_of(NULL, sizeof(struct zygote_page), sealed);
	z->pidfd = eventfd(0, EFD_CLOEXEC);
	z->out = out[1];
	z->errs = errs[1];
	z->in = in[0];
	int given[] = {dup(z->pidfd), dup(root_fd), dup(root_fd), dup(z->page), in[1], out[0], errs[0]};
	const struct zygote_msg msg = {.type = ZYGOTE_HELLO, .index = room};
	send_fds(z->control, &msg, sizeof(msg), given, ARRAY_SIZE(given));
}

static void zygote_end(struct zygote *z, unsigned how)
{
	const struct zygote_msg msg = {.type = ZYGOTE_EXIT};
	if (z->control < 0 || z->pidfd < 0)
		return;
	if (how & 1)
		send_fds(z->control, &msg, sizeof(msg), NULL, 0);
	if (how & 2)
		(void)eventfd_write(z->pidfd, 1);
	if (how & 4) {
		cleanup_close(&z->out);
		cleanup_close(&z->errs);
	}
}

static void scribble(struct zygote *z, struct input *in)
{
	struct zygote_page page = {0};
	if (z->page < 0)
		return;
	unsigned how = take_byte(in);
	take_bytes(in, &page, how % (sizeof(page) + 1));
	if (how & 128)
		(void)ftruncate(z->page, 0);
	else
		(void)pwrite(z->page, &page, sizeof(page), 0);
}

/* ---- one input ---- */
static void nursery_raw(struct input *in)
{
	struct wire_msg msg = {0};
	int fds[FD_PASS_MAX];
	unsigned how = take_byte(in);
	size_t nfds = take_byte(in) % 12;
	for (size_t i = 0; i < nfds; i++)
		fds[i] = any_fd(take_byte(in));
	/* Not what would need a hello that petri-nursery, which is root, cannot mean: thousands of slots. */
	msg = (struct wire_msg){.type = how % 16, .slot = (how >> 4) % (SLOTS_MAX + 1), .seq = scene.seq};
	take_bytes(in, (char *)&msg + offsetof(struct wire_msg, error), 12);
	take_bytes(in, &msg.leaf, 12);
	if (msg.type == WIRE_HELLO)
		msg.host.nslots %= SLOTS_MAX + 1;
	send_fds(scene.nursery, &msg, how == 255 ? 9 : sizeof(msg), fds, nfds);
}

/* Whatever the shared page claims, a job that runs has a deadline, and the timer for it is set. */
static void check_deadlines(void)
{
	for (unsigned i = 0; i < scene.engine->nseats; i++) {
		const struct seat *seat = &scene.engine->seats[i];
		const struct run *run = seat->run;
		if (seat->state != SEAT_RUNNING || !run || run->cause != STATUS_MAX || run->exit_seen || run->gone)
			continue;
		uint64_t latest = run->ej->dispatched_ns / 1000 + run->ej->job.limits.wall_ms * 1000 + 10000000;
		CHECK(run->wall.heap_index && run->wall.deadline_us <= latest && fuzz_clock_us <= latest);
	}
}

static void one_op(struct input *in)
{
	unsigned op = take_byte(in), arg = op / 20;
	struct zygote *z = &scene.zygotes[arg % SLOTS_MAX];
	static char bytes[256];
	struct commit_reply reply = {0};
	switch (op % 20) {
	case 0:
		say_hello(in);
		break;
	case 1:
		send_leaf(arg);
		break;
	case 2:
		zygote_hello(z, true, (int)arg);
		break;
	case 3:
		zygote_hello(z, arg & 4, (int)arg / 8);
		break;
	case 4:
		start_job(arg % JOBS);
		break;
	case 5:
		if (scene.begun[arg % JOBS] && !scene.done[arg % JOBS])
			engine_cancel(scene.engine, &scene.jobs[arg % JOBS]);
		break;
	case 6:
		zygote_end(z, take_byte(in));
		break;
	case 7:
		if (z->out >= 0 && fcntl(z->out, F_SETFL, O_NONBLOCK) == 0)
			(void)!write(arg & 4 ? z->errs : z->out, bytes, take_byte(in));
		break;
	case 8:
		scribble(z, in);
		break;
	case 9:
		if (z->events >= 0)
			(void)pwrite(z->events, arg & 4 ? "populated 1\n" : "populated 0\n", 12, 0);
		break;
	case 10:
		send_raw(z->control, in, sizeof(struct zygote_msg));
		break;
	case 11:
		send_raw(scene.helper, in, sizeof(struct open_reply));
		break;
	case 12:
		reply.seq = scene.engine->next_commit;
		reply.error = arg & 4 ? 0 : -5;
		take_bytes(in, reply.message, sizeof(reply.message) - (arg & 8 ? 0 : 1));
		send_fds(scene.supervisor, &reply, sizeof(reply), NULL, 0);
		break;
	case 13:
		nursery_raw(in);
		break;
	case 14:
		(void)fuzz_complete(scene.loop, take_byte(in));
		break;
	case 15:
		(void)fuzz_fire(scene.loop);
		break;
	case 16:
		cleanup_close(arg & 4 ? &z->control : &z->in);
		break;
	case 17: /* the helper answers: a file */
		if (scene.helper >= 0) {
			int fds[] = {memfd_of("output", 6, false)};
			const struct open_reply good = {.size = 6};
			send_fds(scene.helper, &good, sizeof(good), fds, 1);
		}
		break;
	case 18: {
		const struct wire_msg to = {.slot = arg % SLOTS_MAX, .seq = scene.seq};
		answer(&to, WIRE_RESIZED, 0, arg & 4 ? -ESTALE : arg & 8 ? -EIO
									 : 0);
		break;
	}
	default:
		fuzz_settle(scene.loop);
	}
	read_nursery();
}

/*
 * What is under way ends: it is cancelled, the nursery answers but makes no zygotes any more, the supervisor stores nothing, the processes are gone, as far as they are
 * real. By that each job must come to its end.
 */
static void end_jobs(void)
{
	scene.ending = true;
	for (unsigned i = 0; i < scene.engine->nseats; i++) {
		const struct wire_msg to = {.slot = i, .seq = scene.engine->seats[i].seq};
		if (scene.engine->seats[i].state == SEAT_RESIZING)
			answer(&to, WIRE_RESIZED, 0, 0);
		if (scene.engine->seats[i].run)
			answer_commit(scene.engine->seats[i].run->commit_seq);
	}
	for (size_t i = 0; i < JOBS; i++)
		if (scene.begun[i] && !scene.done[i])
			engine_cancel(scene.engine, &scene.jobs[i]);
	for (int round = 0; round < 400 && !scene.engine->dead; round++) {
		bool all = true;
		fuzz_clock_us += 20000; /* past the patience with a leaf that stays populated */
		for (size_t i = 0; i < JOBS; i++)
			all &= !scene.begun[i] || scene.done[i];
		if (all)
			return;
		cleanup_close(&scene.helper);
		for (size_t i = 0; i < SLOTS_MAX; i++)
			zygote_end(&scene.zygotes[i], 6);
		fuzz_settle(scene.loop);
		read_nursery();
		(void)fuzz_fire(scene.loop);
	}
	CHECK(scene.engine->dead);
}

static void drop_all(void)
{
	struct engine *engine = scene.engine;
	struct seat *seats = engine->seats;
	for (size_t i = 0; i < JOBS; i++) {
		if (!scene.begun[i])
			continue;
		if (scene.jobs[i].run) {
			fuzz_forget(scene.loop, &scene.jobs[i].run->open_op);
			cleanup_close(&scene.jobs[i].run->open_sock);
			run_free(scene.jobs[i].run);
		}
		result_clear(&scene.jobs[i].result);
		job_clear(&scene.jobs[i].job);
	}
	for (unsigned i = 0; i < engine->nseats; i++)
		held_clear(engine, &seats[i].held);
	for (unsigned i = 0; i < engine->nwarm; i++)
		held_clear(engine, &engine->warm[i].held);
	engine_free(engine);
	for (size_t i = 0; i < scene.loop->nops; i++)
		if (scene.loop->ops[i].op->cancelled)
			(void)fuzz_complete(scene.loop, i--);
	free(seats);
	free(engine);
	loop_free(scene.loop);
	for (size_t i = 0; i < SLOTS_MAX; i++)
		zygote_close(&scene.zygotes[i]);
	int *const fds[] = {&scene.nursery, &scene.supervisor, &scene.helper};
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		cleanup_close(fds[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *dirs[2];
	struct input in = {data, size};
	struct err err = ERR_INIT;
	int nursery[2], supervisor[2];
	if (geteuid() != 0)
		return 0;
	if (!store)
		set_up();
	int lowest = lowest_fd();
	dirs[0] = policies;
	memset(&scene, 0, sizeof(scene));
	scene.helper = -1;
	for (size_t i = 0; i < SLOTS_MAX; i++)
		scene.zygotes[i] = (struct zygote){-1, -1, -1, -1, -1, -1, -1};
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, nursery) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, supervisor) == 0);
	scene.nursery = nursery[0];
	scene.supervisor = supervisor[0];
	CHECK(loop_new(0, &scene.loop, &err) == 0);
	const struct engine_config config = {.loop = scene.loop, .store = store, .nursery = nursery[1], .supervisor = supervisor[1], .name = "w", .policy_dirs = dirs, .warm_image = "a", .warm_policy = "open"};
	CHECK(engine_new(&config, &scene.engine, &err) == 0);
	for (int i = 0; i < OP_BUDGET && in.left > 0 && !scene.engine->dead; i++) {
		one_op(&in);
		check_deadlines();
	}
	end_jobs();
	drop_all();
	CHECK(lowest_fd() == lowest);
	return 0;
}
