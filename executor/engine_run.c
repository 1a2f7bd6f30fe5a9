/*
 * One job's run: hand it over, watch its deadlines, and when its leaf is empty decide what became of it. Deadlines are
 * timers set to the earliest moment at which a limit can be exhausted, never polls at a fixed pace.
 */
#include "executor/engine_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "pool/steps.h"

#define END_PATIENCE_US 5000000 /* from the first sign of the end until the slot is retired */
#define RESTAMPS_MAX 3
#define DOUBT_US 200000
#define LEAVING_LOOK_US 200
#define CPU_RECHECK_MIN_US 1000
#define UNBORN_MAX 3
#define CHARGED_TRIES 30	 /* some milliseconds each */
#define IDLE_PAGES_MAX 1024	 /* of a zygote that waits: a tenth of it, and what page cache is left for the next job */
#define LAUNCH_GRACE_US 10000000 /* unpacking files and the like, before the program starts */
#define LAUNCH_RECHECK_US 3000	 /* while a launch takes longer than its job may run: a limit is acted on within 10 ms */

void run_internal_error(struct run *run, const char *fmt, ...)
{
	struct result *result = &run->ej->result;
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(result->message, sizeof(result->message), fmt, ap);
	va_end(ap);
	result->status = STATUS_INTERNAL_ERROR;
	log_error("job=%s internal error: %s", run->ej->job.id, result->message);
}

/* ---- deadlines ---- */
/* From the first sign of a job's end its leaf has five seconds to empty and its streams to close. */
static void watch_end(struct run *run)
{
	if (run->end_us)
		return;
	run->end_us = now_us();
	loop_timer_set(run->engine->loop, &run->empty, run->end_us + END_PATIENCE_US);
}

void run_kill(struct run *run, enum job_status cause)
{
	if (run->cause == STATUS_MAX && !run->exit_seen)
		run->cause = cause;
	if (run->stage != RUN_STARTED || !run->seat || run->gone)
		return;
	if (!run->killed_us)
		run->killed_us = now_us();
	int r = leaf_kill(&run->seat->leaf);
	if (r < 0)
		log_error("job=%s cannot kill its leaf: %s", run->ej->job.id, strerror(-r));
	streams_close_stdin(run->seat->zygote);
	watch_end(run);
}

/* When the program started, 0: not yet. A runtime's exec was long before its job came. */
static uint64_t run_started_ns(const struct run *run)
{
	return run->warm ? run->ej->dispatched_ns : run->seat->zygote->page->exec_ns;
}

static void on_wall(struct loop_timer *timer)
{
	struct run *run = timer->data;
	uint64_t limit_us = run->ej->job.limits.wall_ms * 1000, now = now_us();
	uint64_t exec_us = run_started_ns(run) / 1000;
	/* The clock starts at exec. A launch that hangs is bounded too, and so is what its page may claim; nobody tells when one that is slow has
	 * come to its exec. */
	uint64_t latest_us = run->ej->dispatched_ns / 1000 + LAUNCH_GRACE_US;
	uint64_t due = (exec_us ? MIN(exec_us, latest_us) : latest_us) + limit_us;
	if (now < due)
		loop_timer_set(run->engine->loop, timer, exec_us ? due : MIN(due, now + MIN(limit_us, (uint64_t)LAUNCH_RECHECK_US)));
	else
		run_kill(run, STATUS_WALL_LIMIT);
}

/* The leaf cannot use more than `rate` CPUs over a while, nor more than all of them at any moment. */
static uint64_t earliest_exhaustion(const struct run *run, uint64_t remaining_us)
{
	uint64_t milli = run->limits.cpus_milli, all = run->engine->ncpus;
	uint64_t burst_us = milli * 200; /* two quota periods' worth */
	if (milli > 0 && remaining_us > 2 * burst_us)
		return (remaining_us - burst_us) * 1000 / milli;
	return MAX(remaining_us / all, (uint64_t)CPU_RECHECK_MIN_US);
}

static void on_cpu(struct loop_timer *timer)
{
	struct run *run = timer->data;
	uint64_t limit_us = run->ej->job.limits.cpu_ms * 1000, used = leaf_cpu_us(&run->seat->leaf);
	if (used >= limit_us)
		run_kill(run, STATUS_CPU_LIMIT);
	else
		loop_timer_set(run->engine->loop, timer, now_us() + earliest_exhaustion(run, limit_us - used));
}

static void on_end_watch(struct loop_timer *timer);

static void init_timers(struct run *run)
{
	run->wall = (struct loop_timer){.fn = on_wall, .data = run};
	run->cpu = (struct loop_timer){.fn = on_cpu, .data = run};
	run->empty = (struct loop_timer){.fn = on_end_watch, .data = run};
}

static void set_timers(struct run *run)
{
	uint64_t now = now_us();
	loop_timer_set(run->engine->loop, &run->wall, now + run->ej->job.limits.wall_ms * 1000);
	loop_timer_set(run->engine->loop, &run->cpu, now + earliest_exhaustion(run, run->ej->job.limits.cpu_ms * 1000));
}

static void clear_timers(struct run *run)
{
	loop_timer_clear(run->engine->loop, &run->wall);
	loop_timer_clear(run->engine->loop, &run->cpu);
	loop_timer_clear(run->engine->loop, &run->empty);
}

/* ---- dispatch ---- */
static int send_job(struct run *run, struct err *err)
{
	static char datagram[sizeof(struct dispatch) + DISPATCH_INLINE_MAX]; /* one loop, one thread */
	const struct job_limits *limits = &run->ej->job.limits;
	struct dispatch head = {.magic = DISPATCH_MAGIC, .argc = run->command.argc, .envc = run->command.envc, .strings_len = (uint32_t)run->command.len, .npacks = (uint32_t)run->npacks, .open_files = limits->open_files, .stack_bytes = limits->stack_bytes, .file_bytes = UINT64_MAX};
	int fds[FD_PASS_MAX];
	size_t nfds = 0, len = sizeof(head);
	_cleanup_close_ int memfd = -1;
	if (run->command.len > DISPATCH_INLINE_MAX) {
		memfd = fd_sealed_memfd("petri-args", run->command.text, run->command.len);
		if (memfd < 0)
			return err_set(err, memfd, "make a memfd for argv");
		head.flags |= DISPATCH_ARGS_MEMFD;
		fds[nfds++] = memfd;
	} else {
		memcpy(datagram + len, run->command.text, run->command.len);
		len += run->command.len;
	}
	memcpy(datagram, &head, sizeof(head));
	for (size_t i = 0; i < run->npacks; i++)
		fds[nfds++] = run->packs[i];
	for (size_t i = 0; i < run->nblobs; i++)
		fds[nfds++] = run->blobs[i];
	run->ej->dispatched_ns = now_ns();
	int r = fd_send(run->seat->zygote->control, datagram, len, fds, nfds);
	return r < 0 ? err_set(err, r, "send the job to its zygote") : 0;
}

static void give_up(struct run *run, const struct err *err)
{
	run_internal_error(run, "%s", err_msg(err));
	run_finish(run); /* which releases the seat, before another job may get it */
}

/* A zygote that died before it had the job: another one, a few times. */
static void again(struct run *run, const struct err *err)
{
	if (++run->restamps > RESTAMPS_MAX) {
		give_up(run, err);
		return;
	}
	run->stage = RUN_WAITING;
	seat_stamp(run->seat, &run->plan, NULL);
}

static void dispatch_now(struct run *run)
{
	struct err err = ERR_INIT;
	struct seat *seat = run->seat;
	uint64_t start = now_us();
	(void)leaf_begin(&seat->leaf, &err);
	seat->oom_count = 0;
	seat->state = SEAT_RUNNING;
	run->stage = RUN_STARTED;
	init_timers(run);
	if (seat->runtime) {
		runtime_give(run);
	} else if (send_job(run, &err) < 0) {
		/* The zygote died under our hands; the job never ran: it gets another. */
		again(run, &err);
		return;
	}
	set_timers(run);
	streams_start(run);
	run->ej->result.timing.dispatch_us = now_us() - start;
	if (run->cause != STATUS_MAX) /* cancelled while it waited for its slot */
		run_kill(run, run->cause);
	if (run->ej->started)
		run->ej->started(run->ej);
}

/* The kernel frees a job's System V memory some time after its namespace has ended, and until then the leaf pays for it: it would count as
 * the next job's, and leave that less than its limit. */
static bool is_charged(const struct seat *seat)
{
	/* In pages, as the kernel counts: each CPU takes 64 of them ahead for a group (MEMCG_CHARGE_BATCH, mm/memcontrol.c), and one may have 64 KiB. */
	uint64_t now = 0, most = IDLE_PAGES_MAX * (uint64_t)sysconf(_SC_PAGESIZE);
	return !seat->runtime && fd_pread_u64(seat->leaf.fd[KNOB_MEMORY_NOW], &now) == 0 && now > most;
}

/* With --pin: the slots go round the CPUs that petri may use. */
static unsigned pinned_to(const struct seat *seat)
{
	const struct engine *engine = seat->engine;
	int usable = CPU_COUNT(&engine->config.cpus);
	unsigned left = usable > 0 ? seat->index % (unsigned)usable : 0;
	for (unsigned cpu = 0; usable > 0 && cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &engine->config.cpus) && left-- == 0)
			return cpu;
	return seat->index % engine->ncpus;
}

void run_dispatch(struct run *run)
{
	struct err err = ERR_INIT;
	struct seat *seat = run->seat;
	if (seat->runtime && !runtime_fits(seat, run)) {
		seat_stamp(seat, &run->plan, NULL);
		return;
	}
	if (run->engine->config.pin && !run->limits.cpuset[0] && seat->leaf.fd[KNOB_CPUSET] >= 0)
		(void)snprintf(run->limits.cpuset, sizeof(run->limits.cpuset), "%u", pinned_to(seat));
	bool charged = is_charged(seat) && run->charged_tries < CHARGED_TRIES;
	int r = charged ? -EBUSY : leaf_apply(&seat->leaf, &run->engine->host, &run->limits, &err);
	if (charged || (r < 0 && !run->fresh_leaf_tried)) {
		/* The leaf holds something that cannot be set back: replace it, once, or until what it holds is gone. */
		struct wire_plan plan = run->plan;
		plan.fresh_leaf = 1;
		run->charged_tries += charged;
		run->fresh_leaf_tried |= !charged;
		seat_stamp(seat, &plan, NULL);
		return;
	}
	if (r < 0) {
		give_up(run, &err);
		return;
	}
	if (seat->plan.disk_bytes == run->plan.disk_bytes && seat->plan.disk_inodes == run->plan.disk_inodes) {
		dispatch_now(run);
		return;
	}
	seat->state = SEAT_RESIZING;
	struct wire_msg msg = {.type = WIRE_RESIZE, .slot = seat->index, .seq = seat->seq, .plan = run->plan};
	r = fd_send(run->engine->config.nursery, &msg, sizeof(msg), NULL, 0);
	if (r < 0) {
		(void)err_set(&err, r, "send to petri-nursery");
		engine_die(run->engine, &err);
	}
}

void run_resized(struct run *run, int error)
{
	struct seat *seat = run->seat;
	if (error < 0) {
		struct err err = ERR_INIT;
		(void)err_set(&err, error, "set the disk limit");
		if (error == -ESTALE)
			again(run, &err);
		else
			give_up(run, &err);
		return;
	}
	seat->plan.disk_bytes = run->plan.disk_bytes;
	seat->plan.disk_inodes = run->plan.disk_inodes;
	dispatch_now(run);
}

/* ---- the end ---- */
static void measure(struct run *run);
static void decide(struct run *run, bool full);

void run_exit_message(struct run *run)
{
	run->exit_seen = true;
	run->ej->ended_ns = now_ns();
	/* What the first process leaves running dies with it; not at the pace of its quota. */
	if (run->limits.cpus_milli > 0 && leaf_was_throttled(&run->seat->leaf))
		leaf_lift_quota(&run->seat->leaf);
	watch_end(run);
	loop_timer_clear(run->engine->loop, &run->wall);
	loop_timer_clear(run->engine->loop, &run->cpu);
	if (run->ej->ended)
		run->ej->ended(run->ej);
}

static void retire(struct run *run)
{
	struct seat *seat = run->seat;
	struct engine *engine = run->engine;
	log_error("job=%s slot=%u would not empty and is retired", run->ej->job.id, seat->index);
	measure(run);
	decide(run, false);
	struct wire_msg msg = {.type = WIRE_RETIRE, .slot = seat->index};
	(void)fd_send(engine->config.nursery, &msg, sizeof(msg), NULL, 0);
	seat->state = SEAT_RETIRED;
	engine->retired++;
	run->seat = NULL;
	seat->run = NULL;
	run_finish(run);
	engine_check_seats(engine);
}

/* Every so often until the leaf is empty; past the bound the slot is given up, and the result goes out without outputs. */
static void on_end_watch(struct loop_timer *timer)
{
	struct run *run = timer->data;
	if (now_us() >= run->end_us + END_PATIENCE_US)
		retire(run);
	else
		run_maybe_finish(run);
}

void run_gone(struct run *run)
{
	run->gone = true;
	watch_end(run);
	loop_timer_clear(run->engine->loop, &run->wall);
	loop_timer_clear(run->engine->loop, &run->cpu);
	run_maybe_finish(run);
}

/*
 * Within a block or an inode of the scratch's limit, as statfs(2) on the job's own root shows it. Under a project quota a
 * write is refused whole when it does not fit whole (XFS reserves all of it first), so that a program that writes in large
 * pieces stops short of the limit by up to a piece: there "a block" is 64 KiB, or a 64th of the limit.
 */
static bool disk_full(const struct run *run, uint64_t *ret_used, uint64_t *ret_inodes)
{
	struct statfs st;
	*ret_used = *ret_inodes = 0;
	if (fstatfs(run->seat->zygote->root, &st) < 0)
		return false;
	uint64_t used = (uint64_t)(st.f_blocks - st.f_bfree) * (uint64_t)st.f_bsize;
	*ret_used = used > run->seat->disk_base ? used - run->seat->disk_base : 0;
	uint64_t inodes = st.f_files - st.f_ffree;
	*ret_inodes = inodes > run->seat->inode_base ? inodes - run->seat->inode_base : 0;
	uint64_t block = (uint64_t)st.f_bsize;
	if (run->engine->host.scratch == POOL_SCRATCH_QUOTA)
		block = MAX(MAX(block, (uint64_t)65536), run->ej->job.limits.disk_bytes / 64);
	return (uint64_t)st.f_bfree * (uint64_t)st.f_bsize <= block || st.f_ffree <= 1;
}

bool engine_hosts_need(int error)
{
	error = abs(error);
	return error == ENOMEM || error == EMFILE || error == ENFILE || error == EAGAIN || error == EINTR || error == EIO;
}

/* Why the program never ran: the step that failed in the zygote's child. */
static void launch_failed(struct run *run, const struct zygote_page *page)
{
	struct result *result = &run->ej->result;
	const struct job *job = &run->ej->job;
	const char *why = strerror(page->error), *program = run->command.text;
	unsigned step = engine_hosts_need(page->error) && page->step != STEP_EXEC ? STEP_NONE : page->step;
	switch (step) {
	case STEP_EXEC:
		result->status = STATUS_EXEC_FAILED;
		result->exit_code = page->error == ENOENT || page->error == ENOTDIR ? 127 : 126;
		(void)snprintf(result->message, sizeof(result->message), "cannot execute '%.200s': %s", program,
			page->error == ENOENT ? "not found (or its interpreter is not)" : why);
		break;
	case STEP_CWD:
		result->status = STATUS_REJECTED;
		(void)reject_set(&result->reject, "cwd", page->error == ENOENT ? REJECT_MISSING : REJECT_INVALID,
			"cannot enter '%.150s': %s", job->cwd ? job->cwd : "the image's directory", why);
		break;
	case STEP_FILE:
		result->status = STATUS_REJECTED;
		(void)reject_set(&result->reject, job->nfiles ? "files" : "layers",
			page->error == ENOSPC || page->error == EDQUOT ? REJECT_TOO_LARGE : REJECT_INVALID,
			"cannot write a file into the sandbox: %s", why);
		break;
	case STEP_RLIMIT:
		result->status = STATUS_REJECTED;
		(void)reject_set(&result->reject, page->index == RLIMIT_STACK ? "limits.stack_bytes" : "limits.open_files",
			REJECT_UNSUPPORTED, "this host's own limit is lower: %s", why);
		break;
	default:
		run_internal_error(run, "cannot %s: %s", pool_step_name(page->step), why);
		return;
	}
	if (result->status == STATUS_REJECTED)
		(void)snprintf(result->message, sizeof(result->message), "%s", result->reject.message);
}

static void natural_end(struct run *run, int wait_status, bool full)
{
	struct result *result = &run->ej->result;
	if (WIFSIGNALED(wait_status)) {
		result->status = STATUS_SIGNALED;
		result->term_signal = WTERMSIG(wait_status);
	} else {
		result->status = STATUS_EXITED;
		result->exit_code = WEXITSTATUS(wait_status);
	}
	if (full && (result->status == STATUS_SIGNALED || result->exit_code != 0))
		result->status = STATUS_DISK_LIMIT;
}

static void decide(struct run *run, bool full)
{
	struct result *result = &run->ej->result;
	const struct zygote_page *page = run->seat->zygote->page;
	static const char *const messages[STATUS_MAX] = {
		[STATUS_CPU_LIMIT] = "used up its CPU time",
		[STATUS_WALL_LIMIT] = "ran longer than its wall-clock limit",
		[STATUS_MEMORY_LIMIT] = "ran out of its memory",
		[STATUS_OUTPUT_LIMIT] = "wrote more output than it may",
		[STATUS_DISK_LIMIT] = "ended with its disk full",
		[STATUS_CANCELLED] = "cancelled",
	};
	if (run->cause == STATUS_INTERNAL_ERROR)
		return;
	if (run->cause != STATUS_MAX)
		result->status = run->cause;
	else if (result->usage.oom_kills > 0)
		result->status = STATUS_MEMORY_LIMIT;
	else if (page->step != STEP_NONE && run->exit_seen)
		launch_failed(run, page);
	else if (run->exit_seen)
		natural_end(run, page->wait_status, full);
	else
		run_internal_error(run, "the sandbox's init ended without a report");
	if (!result->message[0] && messages[result->status])
		(void)snprintf(result->message, sizeof(result->message), "%s", messages[result->status]);
	if (result->status == STATUS_VIOLATION)
		(void)snprintf(result->message, sizeof(result->message), "called %s, which its policy forbids", result->violation);
}

static void measure(struct run *run)
{
	struct leaf_usage u;
	struct usage *out = &run->ej->result.usage;
	const struct zygote_page *page = run->seat->zygote->page;
	uint64_t end = page->exit_ns ? page->exit_ns : now_ns();
	(void)leaf_read(&run->seat->leaf, &u, NULL);
	/* The event may come before the counter: an OOM event without a kill yet is looked at again. */
	for (int i = 0; run->seat->oom_count > 0 && u.oom_kills == 0 && i < 100; i++) {
		(void)poll(NULL, 0, 0);
		u.oom_kills = leaf_oom_kills(&run->seat->leaf);
	}
	run->seat->last_usage = u;
	*out = (struct usage){.cpu_user_us = u.cpu_user_us, .cpu_system_us = u.cpu_system_us, .memory_peak_bytes = u.memory_peak_bytes, .pids_peak = u.pids_peak, .pids_limit_hits = u.pids_limit_hits, .io_read_bytes = u.io_read_bytes, .io_write_bytes = u.io_write_bytes, .throttled_us = u.throttled_us, .oom_kills = u.oom_kills};
	uint64_t start = run_started_ns(run);
	if (start && end > start) {
		out->wall_us = (end - start) / 1000;
		run->ej->result.timing.exec_us = (start - MIN(start, run->ej->dispatched_ns)) / 1000;
	}
}

/*
 * A small layer is delivered as files by the job's user, who may lack the right to replace what an image has there. As a
 * stamped layer it covers anything: start over that way, once. What a runtime declined starts over without one, once.
 */
static bool start_over(struct run *run)
{
	struct engine_job *ej = run->ej;
	const struct zygote_page *page = run->seat->zygote->page;
	size_t layers = run->npacks - (ej->job.nfiles > 0 ? 1 : 0);
	bool stamp = page->step == STEP_FILE && layers > 0 && !ej->stamp_layers;
	bool cold = run->declined && !ej->run_cold && ej->result.out.len == 0 && ej->result.errout.len == 0;
	/* Killed by the kernel for want of memory, or by somebody: nothing of the job has happened yet. */
	bool unborn = !run->exit_seen && run_started_ns(run) == 0 && page->step == STEP_NONE && ej->unborn < UNBORN_MAX;
	if ((!stamp && !cold && !unborn) || run->cause != STATUS_MAX || run->engine->dead)
		return false;
	struct engine *engine = run->engine;
	struct seat *seat = run->seat;
	ej->stamp_layers |= stamp;
	ej->unborn += unborn;
	ej->run_cold |= cold;
	ej->run = NULL;
	struct held held = run->held; /* until it is prepared anew */
	run->held.n = 0;
	run_free(run);
	engine->running--;
	seat_renew(seat);
	engine_enqueue(engine, ej);
	held_clear(engine, &held);
	return true;
}

/* Which of the two it ran out of: the result has a field for the bytes only. */
static void tell_disk(struct run *run, uint64_t bytes, uint64_t inodes)
{
	struct result *result = &run->ej->result;
	const struct job_limits *limits = &run->ej->job.limits;
	size_t len = strlen(result->message);
	if (result->status == STATUS_DISK_LIMIT)
		(void)snprintf(result->message + len, sizeof(result->message) - len, ": %" PRIu64 " of %" PRIu64 " bytes, %" PRIu64 " of %" PRIu64 " inodes",
			bytes, limits->disk_bytes, inodes, limits->disk_inodes);
}

void run_maybe_finish(struct run *run)
{
	struct seat *seat = run->seat;
	if (!run->gone || run->stage != RUN_STARTED)
		return;
	int populated = leaf_populated(&seat->leaf);
	/* A nursery that was asked to end has removed it, which rmdir(2) does to an empty one only. The job has been handed back. */
	if (populated == -ENODEV && run->engine->dead)
		populated = 0;
	if (populated != 0) {
		/* The init is gone, but a task is still leaving: look again soon. */
		(void)leaf_kill(&seat->leaf);
		loop_timer_set(run->engine->loop, &run->empty,
			MIN(now_us() + LEAVING_LOOK_US, run->end_us + END_PATIENCE_US));
		return;
	}
	if (!run->out_eof || !run->err_eof || (run->warm && seat->zygote->ready_op.armed))
		return; /* every writer is gone: the ends of file are on their way */
	/* An exit report may still lie in the socket when the pidfd was quicker. */
	if (!run->exit_seen && seat->zygote->page->exit_ns)
		run->exit_seen = true;
	if (!run->exit_seen && run->cause == STATUS_MAX && !run->doubted && leaf_oom_kills(&seat->leaf) == 0) {
		/* Killed by nobody here: then most likely the nursery died, and the zygote with it. The end of its socket says so in a
		 * moment, and the job is another worker's to run again. */
		run->doubted = true;
		loop_timer_set(run->engine->loop, &run->empty, now_us() + DOUBT_US);
		return;
	}
	seat->state = SEAT_ENDING;
	clear_timers(run);
	if (!run->ej->ended_ns)
		run->ej->ended_ns = now_ns();
	uint64_t used, inodes;
	if (start_over(run))
		return;
	bool full = disk_full(run, &used, &inodes);
	measure(run);
	run->ej->result.usage.disk_bytes = used;
	decide(run, full);
	tell_disk(run, used, inodes);
	run->stage = RUN_COLLECTING;
	run->collect_started_us = now_us();
	collect_start(run);
}

void run_finish(struct run *run)
{
	struct engine *engine = run->engine;
	struct engine_job *ej = run->ej;
	struct seat *seat = run->seat;
	clear_timers(run);
	ej->run = NULL;
	run_free(run);
	engine->running--;
	if (seat)
		seat_release(seat);
	ej->done(ej);
	engine_schedule(engine);
	if (engine->config.capacity)
		engine->config.capacity(engine->config.ctx);
}
