/*
 * Outputs: the job's files by way of a helper that has the job's own credentials, into the result or the blob store, and
 * a committed directory by way of the supervisor. Only after the leaf is empty: nothing can change under our hands.
 */
#include "executor/engine_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"

#define INLINE_BYTES 65536u	     /* of an inline output without max_bytes */
#define BLOB_HERE_BYTES (256u << 10) /* hashed in under a millisecond, which a process of its own costs as well */
#define ANSWER_US 30000000u	     /* to open one output: what is large in it is read by others. Of those, supervisor_commits.h */
#define ANSWER_AGAIN_US 1000000u     /* where the ring could not even take the cancellation */

static void next(struct run *run);

static void complain(struct run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void complain(struct run *run, const char *fmt, ...)
{
	char *message = run->ej->result.message;
	size_t len = strlen(message), cap = sizeof(run->ej->result.message);
	if (len > 0 && len + 2 < cap)
		len += (size_t)snprintf(message + len, cap - len, "; ");
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(message + len, cap - len, fmt, ap);
	va_end(ap);
}

static bool is_hosts(int error)
{
	return engine_hosts_need(error) || error == -ENOSPC || error == -EDQUOT || error == -EPIPE || error == -EPROTO || error == -ETIMEDOUT;
}

/* What the job did, or its limits, is noted and no more. What the host could not do must not pass for a job that ended well without its
 * outputs; a cause that ended the job otherwise stays. */
static void judge(struct run *run, int error)
{
	struct result *result = &run->ej->result;
	if (!is_hosts(error) || result->status != STATUS_EXITED)
		return;
	result->status = STATUS_INTERNAL_ERROR;
	log_error("job=%s internal error: %s", run->ej->job.id, result->message);
}

static void finish(struct run *run)
{
	struct engine *engine = run->engine;
	loop_timer_clear(engine->loop, &run->answer);
	if (run->open_sock >= 0) {
		loop_cancel(engine->loop, &run->open_op);
		cleanup_close(&run->open_sock);
	}
	if (run->collect_started_us)
		run->ej->result.timing.collect_us = now_us() - run->collect_started_us;
	run_finish(run);
}

/* ---- one output ---- */
static int take_inline(struct run *run, const struct job_collect *want, int fd, struct result_file *file)
{
	uint64_t max = want->max_bytes ? want->max_bytes : INLINE_BYTES;
	max = MIN(max, run->ej->job.limits.disk_bytes);
	file->data = malloc(max + 1);
	if (!file->data)
		return -ENOMEM;
	/* One byte more than allowed tells "exactly" from "too much", whatever fstat said. */
	ssize_t n = fd_read_all(fd, file->data, max + 1);
	if (n < 0)
		return (int)n;
	if ((uint64_t)n > max)
		return -EFBIG;
	file->as_inline = true;
	file->len = file->bytes = (size_t)n;
	return 0;
}

/* Together no more than the disk held: hard links to one large hole must not keep anybody busy. */
static uint64_t blob_max(const struct run *run, const struct job_collect *want)
{
	uint64_t all = run->ej->job.limits.disk_bytes;
	uint64_t max = all > run->collected_bytes ? all - run->collected_bytes : 0;
	return want->max_bytes ? MIN(max, want->max_bytes) : max;
}

static int took_blob(struct run *run, const struct job_collect *want, int r, uint64_t bytes, const char *message)
{
	run->collected_bytes += r == 0 ? bytes : r == -EFBIG ? blob_max(run, want)
							     : 0;
	if (r < 0 && r != -EFBIG)
		log_warn("job=%s cannot store %s: %s", run->ej->job.id, want->path, message);
	/* It could be opened, so all else is the host's: also an error that of an open would have been the job's. */
	return r < 0 && r != -EFBIG && !is_hosts(r) ? -EIO : r;
}

static int take_blob(struct run *run, const struct job_collect *want, int fd, struct result_file *file)
{
	struct err err = ERR_INIT;
	int r = blob_put_fd(run->engine->config.store, fd, blob_max(run, want), STORE_JOB, file->blob, &file->bytes, &err);
	return took_blob(run, want, r, file->bytes, err_msg(&err));
}

/* @file: what was taken, when r is 0; this call's to keep or free. */
static void add_output(struct run *run, const struct job_collect *want, int r, struct result_file *file)
{
	struct result *result = &run->ej->result;
	file->path = r == 0 ? strdup(want->path) : NULL;
	if (r == 0 && file->path) {
		struct result_file *bigger = realloc(result->files, (result->nfiles + 1) * sizeof(*bigger));
		if (bigger) {
			result->files = bigger;
			result->files[result->nfiles++] = *file;
			return;
		}
		r = -ENOMEM;
	}
	complain(run, "collect %.200s: %s", want->path, r == -EFBIG ? "larger than it may be" : strerror(r < 0 ? -r : ENOMEM));
	judge(run, r);
	free(file->path);
	free(file->data);
}

/* Hashing a large file would stop the loop, and with it every other job, for as long as that takes: the supervisor has it done.
 * Return: whether it is on its way. */
static bool store_elsewhere(struct run *run, const struct job_collect *want, int fd, uint64_t size)
{
	static struct commit_request request;
	if (want->as_inline || size <= BLOB_HERE_BYTES || run->engine->config.supervisor < 0)
		return false;
	request = (struct commit_request){.seq = ++run->engine->next_commit, .kind = COMMIT_BLOB, .max_bytes = blob_max(run, want)};
	if (fd_send(run->engine->config.supervisor, &request, sizeof(request), &fd, 1) < 0)
		return false;
	run->commit_seq = request.seq;
	run->stage = RUN_STORING;
	return true;
}

static void stored(struct run *run, const struct commit_reply *reply)
{
	const struct job_collect *want = &run->ej->job.collect[run->collect_at - 1];
	struct result_file file = {.bytes = reply->bytes};
	memcpy(file.blob, reply->id, sizeof(reply->id));
	run->stage = RUN_COLLECTING;
	add_output(run, want, took_blob(run, want, reply->error, reply->bytes, reply->message), &file);
	next(run);
}

/* Return: false when the output is still on its way. */
static bool take_output(struct run *run, const struct job_collect *want, int fd, uint64_t size)
{
	struct result_file file = {0};
	if (store_elsewhere(run, want, fd, size))
		return false;
	int r = want->as_inline ? take_inline(run, want, fd, &file) : take_blob(run, want, fd, &file);
	add_output(run, want, r, &file);
	return true;
}

/* ---- commit ---- */
static void send_commit(struct run *run, int dir)
{
	static struct commit_request request; /* large, and one loop */
	const struct job *job = &run->ej->job;
	request = (struct commit_request){.seq = ++run->engine->next_commit, .uid_base = run->seat->uid_base, .max_bytes = job->limits.disk_bytes, .max_entries = job->limits.disk_inodes};
	(void)snprintf(request.prefix, sizeof(request.prefix), "%s", job->commit);
	run->commit_seq = request.seq;
	run->stage = RUN_COMMITTING;
	int r = fd_send(run->engine->config.supervisor, &request, sizeof(request), &dir, 1);
	if (r < 0) {
		complain(run, "commit: %s", strerror(-r));
		judge(run, -EIO);
		finish(run);
	}
}

void collect_commit_reply(struct engine *engine, const struct commit_reply *reply)
{
	for (unsigned i = 0; i < engine->nseats; i++) {
		struct run *run = engine->seats[i].run;
		if (!run || (run->stage != RUN_COMMITTING && run->stage != RUN_STORING) || run->commit_seq != reply->seq)
			continue;
		/* Whoever stands still may hold the job's files for ever. */
		engine->seats[i].fresh_room |= reply->error == -ETIMEDOUT;
		if (run->stage == RUN_STORING) {
			stored(run, reply);
			return;
		}
		if (reply->error < 0) {
			complain(run, "commit %.200s: %.250s", run->ej->job.commit, reply->message);
			judge(run, reply->error);
		} else {
			memcpy(run->ej->result.layer, reply->id, 16);
			run->ej->result.has_layer = true;
		}
		finish(run);
		return;
	}
}

/* ---- the helper ---- */
static void helper_gone(struct run *run, int error)
{
	if (error == -ETIMEDOUT)
		complain(run, "collect: the helper has not answered for %u s", ANSWER_US / 1000000);
	else
		complain(run, "collect: the helper ended");
	judge(run, error);
	finish(run);
}

/* It is stopped, or waits for a filesystem that does not answer; or the nursery does not start it. The nursery ends it before it makes the slot's next
 * zygote (slot_stamp()), and that in another room: what the helper has open of this job's must not be part of it. */
static void on_no_answer(struct loop_timer *timer)
{
	struct run *run = timer->data;
	run->unanswered = true;
	run->seat->fresh_room = true;
	loop_cancel(run->engine->loop, &run->open_op); /* on_reply() goes on, once the ring has let go */
	loop_timer_set(run->engine->loop, timer, now_us() + ANSWER_AGAIN_US);
}

void collect_abandon(struct run *run)
{
	run->ej->result.status = STATUS_CANCELLED;
	if (run->stage == RUN_COLLECTING)
		loop_cancel(run->engine->loop, &run->open_op);
	else
		finish(run); /* an answer that comes yet finds nobody who waits for it */
}

/* The helper has looked already; but reading from a pipe that it gave instead would keep this process waiting for ever. */
static void check_reply(struct open_reply *reply, int fd, mode_t kind)
{
	struct stat st;
	if (reply->error != 0) {
		reply->error = told_error(reply->error);
	} else if (fstat(fd, &st) < 0 || (st.st_mode & S_IFMT) != kind) {
		reply->error = -EINVAL;
		reply->not_regular = 1;
	}
}

static void on_reply(struct loop_op *op, int res)
{
	struct run *run = op->data;
	struct open_reply reply;
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	const struct job *job = &run->ej->job;
	ssize_t n = res < 0 ? res : fd_recv(run->open_sock, &reply, sizeof(reply), fds, &nfds, MSG_DONTWAIT);
	if (fd_try_later(n) && !run->unanswered) {
		loop_poll(run->engine->loop, op, run->open_sock, POLLIN);
		return;
	}
	loop_timer_clear(run->engine->loop, &run->answer);
	if (n != sizeof(reply) || (reply.error == 0 && nfds == 0)) {
		fd_close_many(fds, nfds);
		helper_gone(run, run->unanswered ? -ETIMEDOUT : -EIO);
		return;
	}
	run->unanswered = false; /* it came in the last moment */
	size_t at = run->collect_at++;
	check_reply(&reply, nfds > 0 ? fds[0] : -1, at < job->ncollect ? S_IFREG : S_IFDIR);
	if (at < job->ncollect) {
		const struct job_collect *want = &job->collect[at];
		if (reply.error == 0 && !take_output(run, want, fds[0], reply.size)) {
			fd_close_many(fds, nfds);
			return;
		}
		if (reply.error != 0 && !(want->optional && (reply.error == -ENOENT || reply.error == -ENOTDIR))) {
			complain(run, "collect %.200s: %s", want->path,
				reply.not_regular ? "not a regular file" : reply.error == -ELOOP ? "a symbolic link"
												 : strerror(-reply.error));
			judge(run, reply.error);
		}
	} else if (reply.error == 0) {
		send_commit(run, fds[0]);
		fd_close_many(fds, nfds);
		return;
	} else {
		complain(run, "commit %.200s: %s", job->commit, strerror(-reply.error));
		judge(run, reply.error);
	}
	fd_close_many(fds, nfds);
	next(run);
}

static void ask(struct run *run, const char *path, bool directory)
{
	static struct open_request request;
	request = (struct open_request){.directory = directory};
	(void)snprintf(request.path, sizeof(request.path), "%s", path);
	if (fd_send(run->open_sock, &request, sizeof(request), NULL, 0) < 0) {
		helper_gone(run, -EIO);
		return;
	}
	run->open_op = (struct loop_op){.fn = on_reply, .data = run};
	loop_poll(run->engine->loop, &run->open_op, run->open_sock, POLLIN);
	loop_timer_set(run->engine->loop, &run->answer, now_us() + ANSWER_US);
}

/* A failed program's directory is no layer: a compiler's half-written output is never run. */
static bool wants_commit(const struct run *run)
{
	const struct result *result = &run->ej->result;
	return run->ej->job.commit && result->status == STATUS_EXITED && result->exit_code == 0;
}

static void next(struct run *run)
{
	const struct job *job = &run->ej->job;
	if (run->collect_at < job->ncollect)
		ask(run, job->collect[run->collect_at].path, false);
	else if (run->collect_at == job->ncollect && wants_commit(run))
		ask(run, job->commit, true);
	else
		finish(run);
}

void collect_start(struct run *run)
{
	const struct job *job = &run->ej->job;
	enum job_status status = run->ej->result.status;
	bool ran = status != STATUS_REJECTED && status != STATUS_EXEC_FAILED && status != STATUS_INTERNAL_ERROR;
	int pair[2];
	if (!ran || (job->ncollect == 0 && !wants_commit(run))) {
		finish(run);
		return;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		complain(run, "collect: %s", strerror(errno));
		judge(run, -EIO);
		finish(run);
		return;
	}
	run->open_sock = pair[0];
	struct wire_msg msg = {.type = WIRE_OPEN, .slot = run->seat->index, .seq = run->seat->seq};
	const int fds[2] = {pair[1], run->seat->zygote->root};
	int r = fd_send(run->engine->config.nursery, &msg, sizeof(msg), fds, 2);
	(void)close(pair[1]);
	if (r < 0) {
		helper_gone(run, -EIO);
		return;
	}
	run->answer = (struct loop_timer){.fn = on_no_answer, .data = run};
	next(run);
}
