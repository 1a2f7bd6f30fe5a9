/*
 * petri-bench: what a warm dispatch costs, as a ratio to posix_spawn + wait of the same static program in the same run;
 * what an idle slot weighs; how soon slots are ready; how many jobs a second go through. It starts a nursery of its own
 * in a temporary state directory and leaves nothing behind. Figures, not verdicts: no test depends on them.
 *
 *   petri-bench [--runs 2000] [--slots 64] [--inflight 4] [--json]
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/sys.h"
#include "bench/bench_stats.h"
#include "executor/engine.h"
#include "executor/supervisor.h"

#define IMAGE "bench"
#define SETTLE_US 2000 /* between one dispatch and the next, so that no background clean-up is measured with it */

enum phase {
	PHASE_START,
	PHASE_LATENCY,
	PHASE_THROUGHPUT,
	PHASE_END,
};

struct bench {
	unsigned runs, slots, inflight;
	bool json;
	char dir[64], state[96]; /* a temporary directory, and the store in it */
	uint64_t started_us;
	/* in the worker */
	struct loop *loop;
	struct engine *engine;
	struct loop_timer next;
	enum phase phase;
	struct samples spawn, dispatch, handed;
	struct engine_job ej;
	uint64_t t0;
	unsigned done, submitted;
	uint64_t flood_started_us;
	double ready_ms, jobs_per_s, spawns_per_s, idle_kib;
	bool failed;
};

/* ---- the yardstick ---- */
static uint64_t spawn_once(void)
{
	char *argv[] = {(char *)"true", NULL}, *envp[] = {NULL};
	pid_t pid;
	int status;
	uint64_t t0 = now_ns();
	if (posix_spawn(&pid, BENCH_TRUE, NULL, NULL, argv, envp) != 0 || waitpid(pid, &status, 0) != pid || status != 0)
		return 0;
	return now_ns() - t0;
}

/* ---- latency ---- */
static void new_job(struct bench *b, struct engine_job *ej)
{
	job_init(&ej->job);
	free(ej->job.image);
	ej->job.image = strdup(IMAGE);
	ej->job.argv = calloc(2, sizeof(char *));
	if (ej->job.argv)
		ej->job.argv[0] = strdup("/true");
	ej->stdin_fd = -1;
	ej->user = b;
}

static void clear_job(struct bench *b, struct engine_job *ej)
{
	const struct result *r = &ej->result;
	if (r->status != STATUS_EXITED || r->exit_code != 0) {
		log_error("a job ended as %s: %s", job_status_name(r->status), r->message);
		b->failed = true;
		loop_stop(b->loop);
	}
	result_clear(&ej->result);
	job_clear(&ej->job);
	memset(ej, 0, sizeof(*ej));
}

static void start_throughput(struct bench *b);

static void on_latency_ended(struct engine_job *ej)
{
	struct bench *b = ej->user;
	uint64_t now = now_ns();
	samples_add(&b->dispatch, now - b->t0);
	samples_add(&b->handed, now - ej->dispatched_ns);
}

static void on_latency_done(struct engine_job *ej)
{
	struct bench *b = ej->user;
	clear_job(b, ej);
	if (b->failed)
		return;
	if (++b->done == b->runs)
		start_throughput(b);
	else
		loop_timer_set(b->loop, &b->next, now_us() + SETTLE_US);
}

static void on_next(struct loop_timer *timer)
{
	struct bench *b = timer->data;
	if (engine_ready_slots(b->engine) < engine_nslots(b->engine)) {
		loop_timer_set(b->loop, timer, now_us() + 500);
		return;
	}
	/* One of each in turn: whatever else the machine does, it does to both. */
	uint64_t ns = spawn_once();
	if (ns)
		samples_add(&b->spawn, ns);
	new_job(b, &b->ej);
	b->ej.ended = on_latency_ended;
	b->ej.done = on_latency_done;
	b->t0 = now_ns();
	engine_start(b->engine, &b->ej);
}

/* ---- throughput ---- */
static void on_flood_done(struct engine_job *ej);

static void submit_one(struct bench *b)
{
	struct engine_job *ej = calloc(1, sizeof(*ej));
	if (!ej)
		abort();
	new_job(b, ej);
	ej->done = on_flood_done;
	b->submitted++;
	engine_start(b->engine, ej);
}

static void on_flood_done(struct engine_job *ej)
{
	struct bench *b = ej->user;
	clear_job(b, ej);
	free(ej);
	if (b->failed)
		return;
	b->done++;
	if (b->submitted < b->runs)
		submit_one(b);
	if (b->done < b->runs)
		return;
	b->jobs_per_s = b->runs * 1e6 / (double)(now_us() - b->flood_started_us);
	b->phase = PHASE_END;
	loop_stop(b->loop);
}

static void measure_spawn_rate(struct bench *b)
{
	char *argv[] = {(char *)"true", NULL}, *envp[] = {NULL};
	uint64_t t0 = now_us();
	unsigned started = 0, ended = 0;
	while (ended < b->runs) {
		pid_t pid;
		while (started < b->runs && started - ended < b->inflight)
			started += posix_spawn(&pid, BENCH_TRUE, NULL, NULL, argv, envp) == 0;
		ended += waitpid(-1, NULL, 0) > 0;
	}
	b->spawns_per_s = b->runs * 1e6 / (double)(now_us() - t0);
}

static void start_throughput(struct bench *b)
{
	measure_spawn_rate(b);
	b->phase = PHASE_THROUGHPUT;
	b->done = b->submitted = 0;
	b->flood_started_us = now_us();
	for (unsigned i = 0; i < b->inflight && b->submitted < b->runs; i++)
		submit_one(b);
}

/* ---- start ---- */
static void on_capacity(void *ctx)
{
	struct bench *b = ctx;
	if (b->phase != PHASE_START || engine_nslots(b->engine) == 0 || engine_ready_slots(b->engine) < b->slots)
		return;
	b->phase = PHASE_LATENCY;
	b->ready_ms = (double)(now_us() - b->started_us) / 1e3;
	for (unsigned i = 0; i < b->slots; i++)
		b->idle_kib = MAX(b->idle_kib, (double)engine_slot_memory(b->engine, i) / 1024);
	for (int i = 0; i < 20; i++)
		(void)spawn_once(); /* caches */
	loop_timer_set(b->loop, &b->next, now_us() + SETTLE_US);
}

static void on_fatal(void *ctx, const struct err *err)
{
	struct bench *b = ctx;
	log_error("%s", err_msg(err));
	b->failed = true;
	loop_stop(b->loop);
}

static void print(struct bench *b)
{
	double spawn50 = samples_quantile_us(&b->spawn, 0.5), spawn99 = samples_quantile_us(&b->spawn, 0.99);
	double dispatch50 = samples_quantile_us(&b->dispatch, 0.5), dispatch99 = samples_quantile_us(&b->dispatch, 0.99);
	double handed50 = samples_quantile_us(&b->handed, 0.5);
	if (b->json) {
		json_t *o = json_pack("{s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "runs", b->runs, "slots",
			b->slots, "inflight", b->inflight, "spawn_p50_us", spawn50, "spawn_p99_us", spawn99, "dispatch_p50_us",
			dispatch50, "dispatch_p99_us", dispatch99, "message_to_exit_p50_us", handed50, "dispatch_ratio_p50",
			dispatch50 / spawn50, "idle_slot_kib", b->idle_kib, "slots_ready_ms", b->ready_ms, "jobs_per_s",
			b->jobs_per_s, "spawns_per_s", b->spawns_per_s);
		_cleanup_free_ char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
		(void)puts(text ? text : "{}");
		json_decref(o);
		return;
	}
	(void)printf("%-52s %10s %10s\n", "", "p50", "p99");
	(void)printf("%-52s %7.0f us %7.0f us\n", "posix_spawn + wait of a static true", spawn50, spawn99);
	(void)printf("%-52s %7.0f us %7.0f us\n", "warm dispatch: job given until its exit is known", dispatch50, dispatch99);
	(void)printf("%-52s %7.0f us\n", "  of which from the message to the zygote on", handed50);
	(void)printf("%-52s %7.2f x\n", "ratio at p50 (goal: at most 1.3)", dispatch50 / spawn50);
	(void)printf("%-52s %7.0f KiB\n", "largest idle slot, all charged to its leaf (goal: 1024)", b->idle_kib);
	(void)printf("%u %-49s %7.0f ms\n", b->slots, "slots ready after start (goal for 64: 2000)", b->ready_ms);
	(void)printf("%-52s %7.0f /s\n", "posix_spawn, in flight as below", b->spawns_per_s);
	(void)printf("jobs through the pool, %u in flight %17s %8.0f /s\n", b->inflight, "", b->jobs_per_s);
}

static int bench_in_worker(const struct worker_fds *fds, void *ctx)
{
	struct bench *b = ctx;
	struct err err = ERR_INIT;
	b->loop = fds->loop;
	b->next = (struct loop_timer){.fn = on_next, .data = b};
	struct engine_config config = {.loop = b->loop, .store = fds->store, .nursery = fds->nursery, .supervisor = fds->supervisor, .name = "bench", .warm_image = IMAGE, .capacity = on_capacity, .fatal = on_fatal, .ctx = b};
	int r = engine_new(&config, &b->engine, &err);
	if (r == 0)
		r = loop_run(b->loop, &err);
	if (r < 0)
		log_error("%s", err_msg(&err));
	if (r < 0 || b->failed || b->phase != PHASE_END)
		return 1;
	print(b);
	return 0;
}

/* ---- the state directory ---- */
static int prepare(struct bench *b, struct err *err)
{
	struct store *store = NULL;
	struct image image = {0};
	char root[128], target[160];
	(void)snprintf(b->dir, sizeof(b->dir), "/var/tmp/petri-bench-XXXXXX");
	if (!mkdtemp(b->dir))
		return err_set(err, errno, "make %s", b->dir);
	(void)snprintf(b->state, sizeof(b->state), "%s/store", b->dir);
	(void)snprintf(root, sizeof(root), "%s/image", b->dir);
	(void)snprintf(target, sizeof(target), "%s/true", root);
	_cleanup_close_ int from = open(BENCH_TRUE, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (from < 0 || fstat(from, &st) < 0 || mkdir(root, 0755) < 0)
		return err_set(err, errno, "read %s", BENCH_TRUE);
	_cleanup_close_ int to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (to < 0 || copy_file_range(from, NULL, to, NULL, (size_t)st.st_size, 0) != st.st_size)
		return err_set(err, errno, "copy %s", BENCH_TRUE);
	int r = store_open(b->state, &store, err);
	if (r == 0)
		r = image_import(store, IMAGE, root, &image, err);
	image_clear(&image);
	store_free(store);
	return r;
}

static void remove_state(const struct bench *b)
{
	char *argv[] = {(char *)"rm", (char *)"-rf", (char *)"--one-file-system", (char *)b->dir, NULL};
	pid_t pid;
	if (posix_spawnp(&pid, "rm", NULL, NULL, argv, environ) == 0)
		(void)waitpid(pid, NULL, 0);
}

/* 0, which main() refuses, for what is no number. */
static unsigned count(const char *text)
{
	uint64_t v = 0;
	return parse_u64(text, &v, NULL) < 0 || v > 1000000 ? 0 : (unsigned)v;
}

int main(int argc, char **argv)
{
	static struct bench b = {.runs = 2000, .slots = 64, .inflight = 4};
	struct err err = ERR_INIT;
	log_init();
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			b.json = true;
		else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
			b.runs = count(argv[++i]);
		else if (strcmp(argv[i], "--slots") == 0 && i + 1 < argc)
			b.slots = count(argv[++i]);
		else if (strcmp(argv[i], "--inflight") == 0 && i + 1 < argc)
			b.inflight = count(argv[++i]);
		else {
			(void)fprintf(stderr, "petri-bench [--runs 2000] [--slots 64] [--inflight 4] [--json]\n");
			return 125;
		}
	}
	if (b.runs == 0 || b.slots == 0 || b.inflight == 0) {
		(void)fprintf(stderr, "petri-bench: runs, slots and inflight must be positive\n");
		return 125;
	}
	int r = prepare(&b, &err);
	int code = 1;
	if (r < 0) {
		log_error("%s", err_msg(&err));
	} else {
		b.started_us = now_us();
		struct supervisor_config config = {.state = b.state, .nslots = b.slots, .worker = bench_in_worker, .ctx = &b};
		code = supervise(&config);
	}
	if (b.dir[0])
		remove_state(&b);
	return code;
}
