/* The engine in a worker; see the header. All but driver_run() runs in the worker, without privileges. */
#include "bench/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "bench/cpu.h"
#include "bench/idle.h"
#include "executor/supervisor.h"

#define READY_PATIENCE_S 60

uint64_t driver_cpu_us(pid_t except)
{
	return cpu_tree_us(getppid(), except); /* the supervisor */
}

/* ---- jobs ---- */
static void add_file(const struct driver *d, struct job *job)
{
	job->files = calloc(1, sizeof(*job->files));
	char *data = malloc(d->file_len);
	if (!job->files || !data)
		abort();
	memcpy(data, d->file_data, d->file_len);
	job->files[0] = (struct job_file){.path = strdup(d->file), .mode = 0755, .source = {.kind = JOB_SOURCE_DATA, .data = data, .len = d->file_len}};
	job->nfiles = 1;
}

void driver_job(const struct driver *d, struct engine_job *ej, char *const *argv)
{
	size_t n = 0;
	memset(ej, 0, sizeof(*ej));
	job_init(&ej->job);
	free(ej->job.image);
	ej->job.image = strdup(options_image(d->options));
	while (argv[n])
		n++;
	ej->job.argv = calloc(n + 1, sizeof(char *));
	for (size_t i = 0; ej->job.argv && i < n; i++)
		ej->job.argv[i] = strdup(argv[i]);
	if (d->file)
		add_file(d, &ej->job);
	ej->stdin_fd = -1;
}

static void complain(struct driver *d, const struct result *r)
{
	const char *said = r->errout.len ? r->errout.data : r->message;
	driver_fail(d, "a job ended as %s, exit code %d: %.200s", job_status_name(r->status), r->exit_code, said);
}

void driver_job_clear(struct driver *d, struct engine_job *ej, enum job_status expected)
{
	const struct result *r = &ej->result;
	if (!d->failed && (r->status != expected || (expected == STATUS_EXITED && r->exit_code != 0)))
		complain(d, r);
	result_clear(&ej->result);
	job_clear(&ej->job);
	memset(ej, 0, sizeof(*ej));
}

/* ---- life ---- */
void driver_finish(struct driver *d)
{
	d->finished = true;
	loop_stop(d->loop);
}

void driver_fail(struct driver *d, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_error("%s", text);
	d->failed = true;
	loop_stop(d->loop);
}

static void on_patience(struct loop_timer *timer)
{
	struct driver *d = timer->data;
	if (!d->begun)
		driver_fail(d, "after %d s %u of %u slots are ready", READY_PATIENCE_S, engine_ready_slots(d->engine), d->options->slots);
}

static void on_capacity(void *ctx)
{
	struct driver *d = ctx;
	if (d->begun || engine_nslots(d->engine) == 0 || engine_ready_slots(d->engine) < d->options->slots)
		return;
	d->begun = true;
	d->ready_ms = (double)(now_us() - d->started_us) / 1e3;
	for (unsigned i = 0; i < d->options->slots; i++)
		d->idle_kib = MAX(d->idle_kib, (double)idle_bytes(engine_slot_number(d->engine, i)) / 1024);
	d->ready(d);
}

static void on_fatal(void *ctx, const struct err *err)
{
	driver_fail(ctx, "%s", err_msg(err));
}

static int in_worker(const struct worker_fds *fds, void *ctx)
{
	struct driver *d = ctx;
	struct err err = ERR_INIT;
	bench_default_signals();
	d->loop = fds->loop;
	struct engine_config config = {.loop = d->loop, .store = fds->store, .nursery = fds->nursery, .supervisor = fds->supervisor, .name = "bench", .warm_image = options_image(d->options), .capacity = on_capacity, .fatal = on_fatal, .ctx = d};
	d->patience = (struct loop_timer){.fn = on_patience, .data = d};
	loop_timer_set(d->loop, &d->patience, now_us() + READY_PATIENCE_S * 1000000ull);
	int r = engine_new(&config, &d->engine, &err);
	if (r == 0)
		r = loop_run(d->loop, &err);
	if (r < 0)
		log_error("%s", err_msg(&err));
	if (r < 0 || d->failed || !d->finished)
		return 1;
	d->print(d);
	return 0;
}

int driver_run(struct driver *d)
{
	struct err err = ERR_INIT;
	if (d->options->file && workspace_file(d->options, &d->file, &d->file_data, &d->file_len, &err) < 0) {
		log_error("%s", err_msg(&err));
		return 1;
	}
	d->started_us = now_us();
	struct supervisor_config config = {.state = d->workspace->state, .nslots = d->options->slots, .needs = {.dirs = {"/proc"}}, .worker = in_worker, .ctx = d};
	return supervise(&config);
}
