/*
 * The job's streams: stdout and stderr are read into the result up to the cap, stdin is fed from memory, a blob or the
 * caller's own stdin; and the seccomp listener's notifications. A job that reads or writes slowly, or never, costs
 * nothing but its buffers.
 */
#include "executor/engine_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "policies/policy.h"

#define BLOB_CHUNK (1u << 20) /* fs.pipe-max-size, pipe(7) */
#define BLOB_TURNS 8

static void on_output(struct loop_op *op, int res);

static void post_read(struct zygote_ref *z, struct loop_op *op)
{
	bool is_out = op == &z->out_op;
	loop_read(z->loop, op, is_out ? z->out : z->errs, is_out ? z->out_buf : z->err_buf, STREAM_CHUNK);
}

/* Return: false once the cap is passed. Exactly the cap is allowed. */
static bool keep(struct run *run, struct result_stream *stream, const char *data, size_t len)
{
	uint64_t cap = run->ej->job.limits.output_bytes;
	size_t room = cap > stream->len ? (size_t)(cap - stream->len) : 0;
	size_t take = MIN(len, room);
	if (take > 0) {
		char *bigger = realloc(stream->data, stream->len + take + 1);
		if (!bigger) {
			run_internal_error(run, "no memory for the job's output");
			run->cause = STATUS_INTERNAL_ERROR;
			return false;
		}
		stream->data = bigger;
		memcpy(stream->data + stream->len, data, take);
		stream->len += take;
		stream->data[stream->len] = '\0';
	}
	return take == len;
}

static void on_output(struct loop_op *op, int res)
{
	struct zygote_ref *z = op->data;
	struct run *run = z->seat->run;
	bool is_out = op == &z->out_op;
	if (!run || z->seat->state != SEAT_RUNNING) {
		if (z->seat->runtime_ran) /* before its job it has nothing to say, and none of it may be the job's */
			runtime_failed(z->seat, res > 0 ? "it wrote to stdout or stderr" : "it ended, or closed its stdout or stderr");
		/* The child of an idle zygote is gone, and the init will follow: not a zygote to give a job to. */
		else if (res <= 0 && (z->seat->state == SEAT_READY || z->seat->state == SEAT_RESIZING))
			seat_stamp(z->seat, run ? &run->plan : &z->seat->plan, NULL);
		return;
	}
	struct result_stream *stream = is_out ? &run->ej->result.out : &run->ej->result.errout;
	bool *eof = is_out ? &run->out_eof : &run->err_eof;
	if (res == -EAGAIN || res == -EINTR) {
		post_read(z, op);
		return;
	}
	if (res > 0 && keep(run, stream, is_out ? z->out_buf : z->err_buf, (size_t)res)) {
		if (run->ej->output)
			run->ej->output(run->ej);
		post_read(z, op);
		return;
	}
	*eof = true;
	if (res > 0) {
		if (run->ej->output)
			run->ej->output(run->ej);
		if (run->cause == STATUS_MAX) /* even after a natural end: what was cut must show */
			run->cause = STATUS_OUTPUT_LIMIT;
		run_kill(run, STATUS_OUTPUT_LIMIT);
		stream->truncated = run->cause == STATUS_OUTPUT_LIMIT;
	}
	run_maybe_finish(run);
}

static void on_notify(struct loop_op *op, int res)
{
	struct zygote_ref *z = op->data;
	struct run *run = z->seat->run;
	if (res < 0 || !(res & POLLIN))
		return; /* hung up: no task with this filter is left */
	if (z->seat->runtime_ran) {
		runtime_failed(z->seat, "it made a call that the policy forbids");
		return;
	}
	if (!run || z->seat->state != SEAT_RUNNING)
		return;
	struct seccomp_notif notif;
	memset(&notif, 0, sizeof(notif));
	/* -ENOENT: the caller was killed meanwhile. The notification is never answered: the job dies of its leaf's kill, and
	 * an answer could only be a chance to race. */
	if (ioctl(z->listener, SECCOMP_IOCTL_NOTIF_RECV, &notif) == 0) {
		struct result *result = &run->ej->result;
		if (!result->violation[0] && run->cause == STATUS_MAX && !run->exit_seen) {
			char name[sizeof(result->violation)];
			(void)snprintf(result->violation, sizeof(result->violation), "%s",
				policy_syscall_name(notif.data.nr, name, sizeof(name)));
		}
		run_kill(run, STATUS_VIOLATION);
		return;
	}
	/* What is no listener at all, and always readable, must not keep the loop busy. */
	if (errno == ENOENT || errno == EINTR)
		loop_poll(z->loop, op, z->listener, POLLIN);
}

void streams_read(struct zygote_ref *z)
{
	if (!z->out_buf) {
		z->out_buf = malloc(STREAM_CHUNK);
		z->err_buf = malloc(STREAM_CHUNK);
		z->out_op = (struct loop_op){.fn = on_output, .data = z};
		z->err_op = (struct loop_op){.fn = on_output, .data = z};
		if (!z->out_buf || !z->err_buf)
			return;
		(void)fcntl(z->in, F_SETFL, O_NONBLOCK);
		post_read(z, &z->out_op);
		post_read(z, &z->err_op);
	}
	if (z->listener >= 0 && !z->listener_op.armed) {
		z->listener_op = (struct loop_op){.fn = on_notify, .data = z};
		loop_poll(z->loop, &z->listener_op, z->listener, POLLIN);
	}
}

/* ---- stdin ---- */
void streams_close_stdin(struct zygote_ref *z)
{
	if (!z)
		return;
	loop_cancel(z->loop, &z->in_op);
	loop_cancel(z->loop, &z->source_op);
	cleanup_close(&z->in);
}

static void feed(struct run *run);

/* What the host could not do must not look like a shorter input. That the job closed its end (EPIPE) is no error of anybody's. */
static void stdin_failed(struct run *run, const char *what, int error)
{
	streams_close_stdin(run->seat->zygote);
	if (error == EPIPE || run->exit_seen) /* nor does one that has ended want the rest */
		return;
	run_internal_error(run, "cannot %s stdin: %s", what, strerror(error));
	run->cause = STATUS_INTERNAL_ERROR;
	run_kill(run, STATUS_INTERNAL_ERROR);
}

static void on_writable(struct loop_op *op, int res)
{
	struct zygote_ref *z = op->data;
	struct run *run = z->seat->run;
	if (!run || z->in < 0)
		return;
	if (res < 0) /* nobody would look again, and the job wait for the rest */
		stdin_failed(run, "wait for", -res);
	else
		feed(run);
}

/* Empty, then: what nohup(1) makes of a terminal (not to be read at all), and the terminal of another session (EIO, setsid(1)). */
static bool is_nobodys(int fd, int error)
{
	struct stat st;
	return error == -EBADF || (error == -EIO && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode));
}

static void on_source(struct loop_op *op, int res)
{
	struct zygote_ref *z = op->data;
	struct run *run = z->seat->run;
	if (!run || z->in < 0)
		return;
	if (res == -EAGAIN || res == -EINTR) {
		z->in_op = (struct loop_op){.fn = on_writable, .data = z};
		loop_poll(z->loop, &z->in_op, run->ej->stdin_fd, POLLIN);
		return;
	}
	if (res < 0 && !is_nobodys(run->ej->stdin_fd, res)) { /* a connection that is lost, a server of files that is away */
		stdin_failed(run, "read", -res);
		return;
	}
	run->in_at = 0;
	run->in_len = res > 0 ? (size_t)res : 0;
	run->in_source_eof = res <= 0;
	feed(run);
}

/* A pipe takes what it can; on a full one the loop waits until there is room. */
static bool push(struct run *run, const char *data, size_t len)
{
	struct zygote_ref *z = run->seat->zygote;
	while (run->in_at < len) {
		ssize_t n = write(z->in, data + run->in_at, len - run->in_at);
		if (n >= 0) {
			run->in_at += (size_t)n;
			continue;
		}
		if (errno == EAGAIN) {
			z->in_op = (struct loop_op){.fn = on_writable, .data = z};
			loop_poll(z->loop, &z->in_op, z->in, POLLOUT);
			return false;
		}
		if (errno == EINTR)
			continue;
		stdin_failed(run, "write", errno);
		return false;
	}
	return true;
}

/*
 * The kernel moves a blob into the pipe: no byte of it comes through this process. A turn is bounded, since a job that reads as quickly as
 * this writes would keep the loop from all else.
 */
static void push_blob(struct run *run)
{
	struct zygote_ref *z = run->seat->zygote;
	for (int turns = 0; z->in >= 0;) {
		ssize_t n = turns < BLOB_TURNS ? splice(run->stdin_blob, NULL, z->in, NULL, BLOB_CHUNK, SPLICE_F_NONBLOCK) : -1;
		int error = turns < BLOB_TURNS ? errno : EAGAIN;
		turns++;
		if (n > 0 || (n < 0 && error == EINTR))
			continue;
		if (n < 0 && error == EAGAIN) {
			z->in_op = (struct loop_op){.fn = on_writable, .data = z};
			loop_poll(z->loop, &z->in_op, z->in, POLLOUT);
			return;
		}
		if (n < 0)
			stdin_failed(run, "read the blob for", error);
		else
			streams_close_stdin(z);
		return;
	}
}

/* A larger pipe means fewer turns, for the job as well; where the kernel refuses, the usual one does. */
static void enlarge_stdin(const struct run *run)
{
	struct stat st;
	if (fstat(run->stdin_blob, &st) == 0 && st.st_size > STREAM_CHUNK)
		(void)fcntl(run->seat->zygote->in, F_SETPIPE_SZ, (int)MIN(st.st_size, (off_t)BLOB_CHUNK));
}

static void feed(struct run *run)
{
	struct zygote_ref *z = run->seat->zygote;
	const struct job_source *source = &run->ej->job.stdin_source;
	switch (source->kind) {
	case JOB_SOURCE_DATA:
		if (push(run, source->data, source->len))
			streams_close_stdin(z);
		return;
	case JOB_SOURCE_BLOB:
		push_blob(run);
		return;
	case JOB_SOURCE_STREAM:
		if (!push(run, z->in_buf, run->in_len))
			return;
		if (run->in_source_eof) {
			streams_close_stdin(z);
			return;
		}
		z->source_op = (struct loop_op){.fn = on_source, .data = z};
		loop_read(z->loop, &z->source_op, run->ej->stdin_fd, z->in_buf, STREAM_CHUNK);
		return;
	default:
		streams_close_stdin(z);
	}
}

void streams_start(struct run *run)
{
	struct zygote_ref *z = run->seat->zygote;
	enum job_source_kind kind = run->ej->job.stdin_source.kind;
	run->in_at = run->in_len = 0;
	if (kind == JOB_SOURCE_BLOB)
		enlarge_stdin(run);
	if (kind == JOB_SOURCE_STREAM) {
		z->in_buf = malloc(STREAM_CHUNK);
		if (!z->in_buf) {
			stdin_failed(run, "read", ENOMEM);
			return;
		}
	}
	feed(run);
}
