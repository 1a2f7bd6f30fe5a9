/*
 * Slots from the worker's side: the nursery's messages, zygotes coming and going, and which waiting job gets which
 * slot. See the header.
 */
#include "executor/engine_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/limits.h"
#include "pool/steps.h"

#define RETRY_FIRST_MS 20u
#define RETRY_MAX_MS 2000u
#define OOM_LOOK_US 200
#define LATE_US 50000		   /* a zygote takes a millisecond or few */
#define STAMP_PATIENCE_US 15000000 /* an answer that does not come was lost, or an init was killed before its first word: ask again */
#define OOM_LOOKS_QUICK 50
#define OOM_LOOK_LATER_US 5000u
#define OOM_LOOKS_MAX 1000 /* some seconds */
#define FAILURES_MAX 8	   /* in a row, before the jobs that wait for the slot are told */

void engine_die(struct engine *engine, const struct err *err)
{
	if (engine->dead)
		return;
	engine->dead = true;
	/* Without its nursery nothing may run on: kill what is there through the leaves. */
	for (unsigned i = 0; i < engine->nseats; i++)
		if (engine->seats[i].leaf.fd[KNOB_KILL] >= 0)
			(void)leaf_kill(&engine->seats[i].leaf);
	/* Should it be alive, this ends it, and it takes its slots down with it. */
	loop_cancel(engine->loop, &engine->nursery_op);
	cleanup_close(&engine->config.nursery);
	if (engine->config.fatal)
		engine->config.fatal(engine->config.ctx, err);
}

static int tell_nursery(struct engine *engine, const struct wire_msg *msg, const int *fds, size_t nfds)
{
	int r = fd_send(engine->config.nursery, msg, sizeof(*msg), fds, nfds);
	if (r < 0) {
		struct err err = ERR_INIT;
		(void)err_set(&err, r, "send to petri-nursery");
		engine_die(engine, &err);
	}
	return r;
}

static void on_control(struct loop_op *op, int res);
static void on_pidfd(struct loop_op *op, int res);

/* The zygote to come: its control socket is made here, so that the nursery need not answer. Return: its end of the socket. */
static int expect_zygote(struct seat *seat)
{
	int control[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
		return -errno;
	struct zygote_ref *z = zygote_ref_new(seat, control[0]);
	if (!z) {
		fd_close_many(control, 2);
		return -ENOMEM;
	}
	seat->zygote = z;
	z->control_op.fn = on_control;
	z->control_op.data = z;
	z->pidfd_op.fn = on_pidfd;
	z->pidfd_op.data = z;
	loop_poll(z->loop, &z->control_op, z->control, POLLIN);
	return control[1];
}

void seat_stamp(struct seat *seat, const struct wire_plan *plan, struct runtime *runtime)
{
	struct engine *engine = seat->engine;
	struct err err = ERR_INIT;
	/* The plan is a run's, a warm one or this seat's own, each of which holds its layers: this only counts. */
	if (held_plan(engine, &seat->held, plan, &err) < 0)
		log_warn("slot=%u its layers may be removed while they are used: %s, ignoring", seat->index, err_msg(&err));
	/* The last zygote's mounts are taken down by whoever lets go of its namespace last: that is to be its room. */
	_cleanup_close_ int last = seat->zygote ? TAKE_FD(seat->zygote->ns) : -1;
	if (seat->zygote)
		zygote_ref_drop(TAKE_PTR(seat->zygote));
	seat->plan = *plan;
	seat->plan_hash = plan_hash(plan);
	seat->runtime = runtime && now_us() >= runtime->retry_us ? runtime : NULL;
	loop_timer_clear(engine->loop, &seat->warm);
	if (seat->runtime_ran && leaf_disturbed(&seat->leaf))
		seat->plan.fresh_leaf = 1;
	seat->runtime_ran = false;
	seat->seq = ++engine->next_seq;
	seat->got_hello = seat->failed_once = false;
	seat->state = SEAT_STAMPING;
	seat->stamped_us = now_us();
	loop_timer_set(engine->loop, &seat->late, seat->stamped_us + LATE_US);
	_cleanup_close_ int theirs = expect_zygote(seat);
	if (theirs < 0) {
		log_warn("slot=%u cannot make a control socket: %s, trying again", seat->index, strerror(-theirs));
		loop_timer_set(engine->loop, &seat->retry, now_us() + RETRY_MAX_MS * 1000ull);
		return;
	}
	loop_timer_set(engine->loop, &seat->retry, now_us() + STAMP_PATIENCE_US);
	struct wire_msg msg = {.type = WIRE_STAMP, .slot = seat->index, .seq = seat->seq, .plan = seat->plan};
	const int fds[2] = {theirs, last};
	(void)tell_nursery(engine, &msg, fds, last >= 0 ? 2 : 1);
}

bool seat_is_late(const struct seat *seat)
{
	return seat->state == SEAT_STAMPING && !seat->got_hello && now_us() >= seat->stamped_us + LATE_US;
}

void seat_release(struct seat *seat)
{
	seat->run = NULL;
	if (seat->state != SEAT_RETIRED && !seat->engine->config.one_job)
		seat_renew(seat);
}

void seat_renew(struct seat *seat)
{
	seat->run = NULL;
	if (seat->engine->dead)
		return;
	struct wire_plan plan;
	struct runtime *runtime = mix_next(seat, &plan);
	leaf_relax(&seat->leaf, &seat->last_usage);
	plan.fresh_leaf = leaf_is_spent(&seat->leaf, &seat->last_usage);
	plan.fresh_room = seat->fresh_room;
	seat->fresh_room = false;
	seat_stamp(seat, &plan, runtime);
}

/* ---- the zygote's control socket ---- */
static void zygote_failed(struct seat *seat, unsigned step, int error)
{
	if (seat->failed_once)
		return;
	log_warn("zygote failed: slot=%u step=\"%s\" error=%d", seat->index, pool_step_name(step), error);
	seat->failures++;
	seat->failed_once = true;
	struct run *run = seat->run;
	if (run && seat->failures >= FAILURES_MAX) {
		seat->run = NULL;
		run->seat = NULL;
		run_internal_error(run, "no zygote: %s: %s", pool_step_name(step), strerror(-error));
		run_finish(run);
	}
	if (seat->state != SEAT_STAMPING)
		return;
	unsigned delay = MIN(RETRY_FIRST_MS << MIN(seat->failures, 7u), RETRY_MAX_MS);
	loop_timer_set(seat->engine->loop, &seat->retry, now_us() + delay * 1000ull);
}

static void seat_maybe_ready(struct seat *seat)
{
	if (!seat->got_hello || seat->state != SEAT_STAMPING)
		return;
	if (seat->runtime)
		runtime_start(seat);
	else
		seat_ready(seat);
}

void seat_ready(struct seat *seat)
{
	struct engine *engine = seat->engine;
	/* Made for a job that has gone elsewhere: with layers, maybe, that only that job had. */
	if (seat->forsaken && !seat->run) {
		struct wire_plan plan;
		seat->forsaken = false;
		struct runtime *runtime = mix_next(seat, &plan);
		if (!wire_plan_equal(&plan, &seat->plan)) {
			seat_stamp(seat, &plan, runtime);
			return;
		}
	}
	seat->forsaken = false;
	seat->state = SEAT_READY;
	loop_timer_clear(engine->loop, &seat->retry);
	loop_timer_clear(engine->loop, &seat->late);
	seat->failures = 0;
	seat->idle_since_us = now_us();
	struct statfs st;
	seat->disk_base = seat->inode_base = 0;
	if (fstatfs(seat->zygote->root, &st) == 0) {
		seat->disk_base = (uint64_t)(st.f_blocks - st.f_bfree) * (uint64_t)st.f_bsize;
		seat->inode_base = st.f_files - st.f_ffree;
	}
	streams_read(seat->zygote);
	if (seat->run)
		run_dispatch(seat->run);
	engine_schedule(engine);
	if (engine->config.capacity)
		engine->config.capacity(engine->config.ctx);
}

static void on_oom(struct loop_op *op, int res);

static void arm_oom(struct seat *seat)
{
	if (seat->oom_fd >= 0 && !seat->oom_op.armed) {
		seat->oom_op.fn = on_oom;
		seat->oom_op.data = seat;
		loop_poll(seat->engine->loop, &seat->oom_op, seat->oom_fd, POLLIN);
	}
}

/* Who could cut it short could end this process, and every other job with it, by SIGBUS. */
static bool page_stays(int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &st) == 0 && st.st_size >= (off_t)sizeof(struct zygote_page);
}

/* One page for all zygotes of a room, mapped once. */
static const struct zygote_page *take_page(struct seat *seat, int room, int fd)
{
	if (seat->page && seat->page_of == room)
		return seat->page;
	if (!page_stays(fd))
		return NULL;
	void *page = mmap(NULL, sizeof(struct zygote_page), PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return NULL;
	if (seat->page)
		(void)munmap((void *)seat->page, sizeof(struct zygote_page));
	seat->page = page;
	seat->page_of = room;
	return page;
}

static void drain_nursery(struct engine *engine);

static void take_hello(struct zygote_ref *z, int room, int *fds, size_t nfds)
{
	struct seat *seat = z->seat;
	if (nfds < 7 || z->page)
		return;
	z->page = take_page(seat, room, fds[3]);
	if (!z->page)
		return;
	z->pidfd = TAKE_FD(fds[0]);
	z->root = TAKE_FD(fds[1]);
	z->ns = TAKE_FD(fds[2]);
	z->in = TAKE_FD(fds[4]);
	z->out = TAKE_FD(fds[5]);
	z->errs = TAKE_FD(fds[6]);
	if (nfds > 7)
		z->listener = TAKE_FD(fds[7]);
	loop_poll(z->loop, &z->pidfd_op, z->pidfd, POLLIN);
	/* The nursery may have sent a new leaf before it had this zygote made in it. */
	drain_nursery(seat->engine);
	if (z->seat != seat)
		return;
	arm_oom(seat);
	seat->got_hello = true;
	seat_maybe_ready(seat);
}

static void handle_zygote(struct zygote_ref *z, const struct zygote_msg *msg, int *fds, size_t nfds)
{
	struct seat *seat = z->seat;
	switch (msg->type) {
	case ZYGOTE_HELLO:
		take_hello(z, msg->index, fds, nfds);
		break;
	case ZYGOTE_LISTENER:
		if (nfds > 0 && z->listener < 0) {
			z->listener = TAKE_FD(fds[0]);
			streams_read(z);
		}
		break;
	case ZYGOTE_EXIT:
		if (seat->run && seat->state == SEAT_RUNNING)
			run_exit_message(seat->run);
		else if (seat->runtime_ran)
			runtime_failed(seat, z->page && z->page->step ? pool_step_name(z->page->step) : "it ended");
		else if (seat->state == SEAT_STAMPING && !z->page) /* its child died before it could introduce itself */
			zygote_failed(seat, STEP_SETUP_WAIT, -ECHILD);
		break;
	case ZYGOTE_FAILED:
		if (seat->state == SEAT_STAMPING)
			zygote_failed(seat, msg->step, told_error(msg->error));
		break;
	default:
		log_warn("unknown message from a zygote: slot=%u type=%u, ignoring", seat->index, msg->type);
	}
}

static void on_control(struct loop_op *op, int res)
{
	struct zygote_ref *z = op->data;
	for (;;) {
		struct zygote_msg msg;
		int fds[FD_PASS_MAX];
		size_t nfds = 0;
		ssize_t n = res < 0 ? res : fd_recv(z->control, &msg, sizeof(msg), fds, &nfds, MSG_DONTWAIT);
		if (fd_try_later(n))
			break;
		if (n <= 0)
			return; /* the zygote is gone: its pidfd says so too */
		if (n == sizeof(msg))
			handle_zygote(z, &msg, fds, nfds);
		fd_close_many(fds, nfds);
		if (!z->seat)
			return; /* dropped by what the message led to */
	}
	loop_poll(z->loop, op, z->control, POLLIN);
}

static void on_pidfd(struct loop_op *op, int res)
{
	struct zygote_ref *z = op->data;
	struct seat *seat = z->seat;
	(void)res;
	if (seat->state == SEAT_RUNNING || seat->state == SEAT_ENDING) {
		run_gone(seat->run);
		return;
	}
	if (seat->runtime_ran) {
		runtime_failed(seat, "it ended");
	} else if (seat->state == SEAT_READY || seat->state == SEAT_RESIZING) {
		/* An idle zygote died (somebody killed it, the machine is out of memory): have another one made. */
		log_warn("an idle zygote died: slot=%u, making another", seat->index);
		seat_stamp(seat, &seat->plan, NULL);
	} else if (seat->state == SEAT_STAMPING && !seat->failed_once) {
		zygote_failed(seat, STEP_SETUP_WAIT, -ESRCH);
	}
}

static void on_retry(struct loop_timer *timer)
{
	struct seat *seat = timer->data;
	if (seat->state == SEAT_STAMPING)
		seat_stamp(seat, &seat->plan, seat->runtime);
}

/* ---- the leaf's OOM eventfd (hybrid) ---- */
/* The event fires before the counter moves (cgroup-v1/memory.rst), so the counter is looked at until it does. Only a kill makes
 * the verdict; an event alone (a charge that then succeeded) does not. */
static void look_for_oom(struct loop_timer *timer)
{
	struct seat *seat = timer->data;
	if (!seat->run || seat->state != SEAT_RUNNING)
		return;
	if (leaf_oom_kills(&seat->leaf) > 0)
		run_kill(seat->run, STATUS_MEMORY_LIMIT);
	else if (++seat->oom_looks < OOM_LOOKS_MAX) /* on a busy machine whoever is about to kill may have to wait for a CPU first */
		loop_timer_set(seat->engine->loop, timer, now_us() + (seat->oom_looks < OOM_LOOKS_QUICK ? OOM_LOOK_US : OOM_LOOK_LATER_US));
}

static void on_oom(struct loop_op *op, int res)
{
	struct seat *seat = op->data;
	if (seat->oom_fd < 0)
		return;
	if (res < 0) { /* cancelled: the leaf was replaced, and its zygote's READY may have come first */
		if (res == -ECANCELED && seat->zygote)
			loop_poll(seat->engine->loop, op, seat->oom_fd, POLLIN);
		return;
	}
	uint64_t count;
	while (read(seat->oom_fd, &count, sizeof(count)) == sizeof(count))
		seat->oom_count++;
	seat->oom_looks = 0;
	look_for_oom(&seat->oom_look);
	loop_poll(seat->engine->loop, op, seat->oom_fd, POLLIN);
}

/* ---- the nursery ---- */
static void take_leaf(struct engine *engine, struct seat *seat, const struct wire_leaf *leaf, int *fds, size_t nfds)
{
	if ((size_t)__builtin_popcount(leaf->knobs) != nfds) {
		log_error("a leaf came without its files: slot=%u", seat->index);
		return;
	}
	loop_cancel(engine->loop, &seat->oom_op);
	leaf_take(&seat->leaf, engine->host.driver, leaf->knobs, fds);
	engine->host.knobs = leaf->knobs;
	for (size_t i = 0; i < nfds; i++)
		fds[i] = -1; /* the leaf's now */
	seat->uid_base = leaf->uid_base;
	seat->number = leaf->number;
	seat->oom_fd = seat->leaf.fd[KNOB_OOM_EVENT];
	if (seat->state == SEAT_NONE) {
		const struct warm *warm = mix_first(engine);
		if (warm) {
			seat->image_layers = warm->plan.nlayers;
			seat_stamp(seat, &warm->plan, warm->runtime);
		}
		if (engine->config.capacity)
			engine->config.capacity(engine->config.ctx);
	}
}

static int start_seats(struct engine *engine, const struct wire_host *host)
{
	struct err err = ERR_INIT;
	if (engine->hello || host->nslots == 0 || host->nslots > POOL_SLOTS_MAX)
		return -EPROTO;
	engine->host = *host;
	engine->seats = calloc(host->nslots, sizeof(*engine->seats));
	if (!engine->seats)
		return -ENOMEM;
	engine->nseats = host->nslots;
	for (unsigned i = 0; i < engine->nseats; i++) {
		struct seat *seat = &engine->seats[i];
		seat->engine = engine;
		seat->index = i;
		seat->oom_fd = -1;
		seat->retry.fn = on_retry;
		seat->retry.data = seat;
		seat->late = (struct loop_timer){.fn = engine_late, .data = seat};
		seat->oom_look = (struct loop_timer){.fn = look_for_oom, .data = seat};
		leaf_init(&seat->leaf);
	}
	engine->hello = true;
	if (mix_init(engine, &err) < 0)
		log_info("slots are not warmed ahead: %s", err_msg(&err));
	return 0;
}

static void handle_nursery(struct engine *engine, const struct wire_msg *msg, int *fds, size_t nfds)
{
	if (msg->type == WIRE_HELLO) {
		if (msg->seq != WIRE_VERSION || start_seats(engine, &msg->host) < 0) {
			struct err err = ERR_INIT;
			(void)err_say(&err, EPROTO, "petri-nursery is of another build than petri");
			engine_die(engine, &err);
		}
		return;
	}
	if (msg->type == WIRE_PONG) {
		engine_answered(engine);
		return;
	}
	if (msg->slot >= engine->nseats) {
		if (msg->type == WIRE_FAILED) {
			struct err err = ERR_INIT;
			(void)err_set(&err, told_error(msg->error), "petri-nursery: %s", pool_step_name(msg->step));
			engine_die(engine, &err);
		}
		return;
	}
	struct seat *seat = &engine->seats[msg->slot];
	switch (msg->type) {
	case WIRE_LEAF:
		take_leaf(engine, seat, &msg->leaf, fds, nfds);
		break;
	case WIRE_RESIZED:
		if (msg->seq == seat->seq && seat->state == SEAT_RESIZING)
			run_resized(seat->run, msg->error);
		break;
	case WIRE_FAILED:
		if (msg->step == STEP_HELPER) {
			struct run *run = seat->run;
			seat->state = SEAT_RETIRED;
			engine->retired++;
			seat->run = NULL;
			log_error("slot=%u could not be cleaned and is retired", seat->index);
			if (run) { /* it waited for this slot: let it wait for any */
				run->seat = NULL;
				engine->running--;
				engine_wait(engine, run->ej);
				engine_schedule(engine);
			}
			if (engine->config.capacity)
				engine->config.capacity(engine->config.ctx);
			engine_check_seats(engine);
		} else if (msg->seq == seat->seq && seat->state == SEAT_STAMPING) {
			zygote_failed(seat, msg->step, told_error(msg->error));
		}
		break;
	default:
		log_warn("unknown message %u from petri-nursery, ignoring", msg->type);
	}
}

static void drain_nursery(struct engine *engine)
{
	while (!engine->dead) {
		struct wire_msg msg;
		int fds[FD_PASS_MAX];
		size_t nfds = 0;
		ssize_t n = fd_recv(engine->config.nursery, &msg, sizeof(msg), fds, &nfds, MSG_DONTWAIT);
		if (fd_try_later(n))
			return;
		if (n != (ssize_t)sizeof(msg)) {
			struct err err = ERR_INIT;
			(void)err_say(&err, ECONNRESET, "petri-nursery ended");
			engine_die(engine, &err);
			return;
		}
		handle_nursery(engine, &msg, fds, nfds);
		fd_close_many(fds, nfds);
	}
}

static void on_nursery(struct loop_op *op, int res)
{
	struct engine *engine = op->data;
	(void)res;
	drain_nursery(engine);
	if (!engine->dead)
		loop_poll(engine->loop, op, engine->config.nursery, POLLIN);
}

static void on_supervisor(struct loop_op *op, int res)
{
	struct engine *engine = op->data;
	struct commit_reply reply;
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	ssize_t n = res < 0 ? res : fd_recv(engine->config.supervisor, &reply, sizeof(reply), fds, &nfds, MSG_DONTWAIT);
	if (n == sizeof(reply))
		collect_commit_reply(engine, &reply);
	else if (!fd_try_later(n)) {
		/* Mostly this process is gone with it (PDEATHSIG). */
		struct err err = ERR_INIT;
		(void)err_say(&err, EPIPE, "the supervisor is gone");
		engine_die(engine, &err); /* nothing new, when it is this that is ending */
		return;
	}
	fd_close_many(fds, nfds);
	loop_poll(engine->loop, op, engine->config.supervisor, POLLIN);
}

/* ---- the rest ---- */
void engine_check_seats(struct engine *engine)
{
	struct err err = ERR_INIT;
	for (unsigned i = 0; i < engine->nseats; i++)
		if (engine->seats[i].state != SEAT_RETIRED)
			return;
	(void)err_say(&err, EIO, "every slot had to be retired");
	engine_die(engine, &err); /* the supervisor starts worker and nursery anew */
}

int engine_new(const struct engine_config *config, struct engine **ret, struct err *err)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	if (!engine)
		return err_set(err, ENOMEM, "engine");
	int r = layer_uses_new(config->store, &engine->uses, err);
	if (r < 0) {
		free(engine);
		return r;
	}
	engine->config = *config;
	engine->loop = config->loop;
	engine->usual = job_limits_default;
	if (config->max_limits)
		limits_cap(&engine->usual, config->max_limits);
	engine->waiting_tail = &engine->waiting;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	engine->ncpus = cpus > 0 ? (unsigned)cpus : 1;
	engine->nursery_op = (struct loop_op){.fn = on_nursery, .data = engine};
	engine->supervisor_op = (struct loop_op){.fn = on_supervisor, .data = engine};
	loop_poll(engine->loop, &engine->nursery_op, config->nursery, POLLIN);
	if (config->supervisor >= 0)
		loop_poll(engine->loop, &engine->supervisor_op, config->supervisor, POLLIN);
	*ret = engine;
	return 0;
}
