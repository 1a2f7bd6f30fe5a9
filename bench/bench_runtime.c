/*
 * petri-bench-runtime: what a warm runtime saves. From "job given" until its exit is known, `python3 main.py` that says hello, with the
 * image host's runtime python3 waiting in each slot, as a ratio to posix_spawn + wait of `python3 -c pass` in the same run; and the same
 * job started cold. Figures, not verdicts.
 *
 *   petri-bench-runtime [--runs 200] [--slots 4] [--json]
 */
#include <errno.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/sys.h"
#include "bench/bench_stats.h"
#include "bench/idle.h"
#include "executor/engine.h"
#include "executor/supervisor.h"

#define PYTHON "/usr/bin/python3"
#define SETTLE_US 60000 /* until the next interpreter waits, and nothing of it is measured */
#define HELLO "print(\"hello\")\n"

struct bench {
	unsigned runs, slots, done;
	char dir[64], state[96];
	struct loop *loop;
	struct engine *engine;
	struct loop_timer next;
	struct samples spawn, warm, cold;
	struct engine_job ej;
	uint64_t t0, charged;
	bool cold_turn, failed, json;
};

static uint64_t spawn_once(void)
{
	char *argv[] = {(char *)"python3", (char *)"-c", (char *)"pass", NULL};
	pid_t pid;
	int status;
	uint64_t t0 = now_ns();
	if (posix_spawn(&pid, PYTHON, NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) != pid || status != 0)
		return 0;
	return now_ns() - t0;
}

static void fill_job(struct bench *b)
{
	struct job *job = &b->ej.job;
	job_init(job);
	job->argv = calloc(3, sizeof(char *));
	job->files = calloc(1, sizeof(*job->files));
	if (!job->argv || !job->files)
		abort();
	job->argv[0] = strdup("python3");
	job->argv[1] = strdup("main.py");
	job->files[0] = (struct job_file){.path = strdup("/work/main.py"), .mode = 0644, .source = {.kind = JOB_SOURCE_DATA, .data = strdup(HELLO), .len = strlen(HELLO)}};
	job->nfiles = 1;
	if (b->cold_turn)
		job->limits.open_files--; /* not the usual: no runtime serves it */
	b->ej.stdin_fd = -1;
	b->ej.user = b;
}

static void on_ended(struct engine_job *ej)
{
	struct bench *b = ej->user;
	samples_add(b->cold_turn ? &b->cold : &b->warm, now_ns() - b->t0);
}

static void on_done(struct engine_job *ej)
{
	struct bench *b = ej->user;
	const struct result *r = &ej->result;
	b->failed = r->status != STATUS_EXITED || r->exit_code != 0 || r->out.len != strlen("hello\n");
	if (b->failed)
		log_error("a job ended as %s: %s %s", job_status_name(r->status), r->message, r->errout.data ? r->errout.data : "");
	result_clear(&ej->result);
	job_clear(&ej->job);
	memset(ej, 0, sizeof(*ej));
	b->done++;
	if (b->failed || b->done == 2 * b->runs)
		loop_stop(b->loop);
	else
		loop_timer_set(b->loop, &b->next, now_us() + SETTLE_US);
}

/* All that are warm first: a cold job would have its slot be a plain one for the next. */
static void on_next(struct loop_timer *timer)
{
	struct bench *b = timer->data;
	b->cold_turn = b->done >= b->runs;
	if (engine_ready_slots(b->engine) < b->slots) {
		loop_timer_set(b->loop, timer, now_us() + SETTLE_US);
		return;
	}
	for (unsigned i = 0; b->done == 0 && i < b->slots; i++)
		b->charged = MAX(b->charged, idle_bytes(engine_slot_number(b->engine, i)));
	uint64_t ns = spawn_once();
	if (ns)
		samples_add(&b->spawn, ns);
	fill_job(b);
	b->ej.ended = on_ended;
	b->ej.done = on_done;
	b->t0 = now_ns();
	engine_start(b->engine, &b->ej);
}

static void on_fatal(void *ctx, const struct err *err)
{
	struct bench *b = ctx;
	log_error("%s", err_msg(err));
	b->failed = true;
	loop_stop(b->loop);
}

static void row(const char *what, struct samples *samples, double base)
{
	double p50 = samples_quantile_us(samples, 0.5), p99 = samples_quantile_us(samples, 0.99);
	(void)printf("%-60s %7.0f us %7.0f us %6.2f x\n", what, p50, p99, p50 / base);
}

static void print(struct bench *b)
{
	double base = samples_quantile_us(&b->spawn, 0.5), warm = samples_quantile_us(&b->warm, 0.5);
	if (b->json) {
		json_t *o = json_pack("{s:f, s:f, s:f, s:f, s:f, s:I}", "spawn_p50_us", base, "warm_p50_us", warm, "warm_p99_us",
			samples_quantile_us(&b->warm, 0.99), "cold_p50_us", samples_quantile_us(&b->cold, 0.5), "ratio_p50", warm / base,
			"slot_kib", (json_int_t)(b->charged / 1024));
		_cleanup_free_ char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
		(void)puts(text ? text : "{}");
		json_decref(o);
		return;
	}
	(void)printf("%-60s %10s %10s\n", "", "p50", "p99");
	row("posix_spawn + wait of python3 -c pass", &b->spawn, base);
	row("python3 main.py, warm: job given until exit known (goal 0.15)", &b->warm, base);
	row("python3 main.py, cold", &b->cold, base);
	(void)printf("%-60s %7llu KiB\n", "largest slot with a waiting python3", (unsigned long long)b->charged / 1024);
}

static int bench_in_worker(const struct worker_fds *fds, void *ctx)
{
	struct bench *b = ctx;
	struct err err = ERR_INIT;
	b->loop = fds->loop;
	b->next = (struct loop_timer){.fn = on_next, .data = b};
	struct engine_config config = {.loop = b->loop, .store = fds->store, .nursery = fds->nursery, .supervisor = fds->supervisor, .name = "bench", .fatal = on_fatal, .ctx = b};
	int r = engine_new(&config, &b->engine, &err);
	loop_timer_set(b->loop, &b->next, now_us() + SETTLE_US);
	if (r == 0)
		r = loop_run(b->loop, &err);
	if (r < 0)
		log_error("%s", err_msg(&err));
	if (r < 0 || b->failed)
		return 1;
	print(b);
	return 0;
}

static int prepare(struct bench *b, struct err *err)
{
	struct store *store = NULL;
	const struct image_runtime runtime = {.shipped = (char *)"python3"};
	(void)snprintf(b->dir, sizeof(b->dir), "/var/tmp/petri-bench-XXXXXX");
	if (!mkdtemp(b->dir))
		return err_set(err, errno, "make %s", b->dir);
	(void)snprintf(b->state, sizeof(b->state), "%s/store", b->dir);
	int r = store_open(b->state, &store, err);
	if (r == 0)
		r = image_set_runtime(store, "host", &runtime, err);
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
	return parse_u64(text, &v, NULL) < 0 || v > 100000 ? 0 : (unsigned)v;
}

int main(int argc, char **argv)
{
	static struct bench b = {.runs = 200, .slots = 4};
	struct err err = ERR_INIT;
	log_init();
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
			b.runs = count(argv[++i]);
		else if (strcmp(argv[i], "--slots") == 0 && i + 1 < argc)
			b.slots = count(argv[++i]);
		else if (strcmp(argv[i], "--json") == 0)
			b.json = true;
		else
			b.runs = 0;
	}
	if (b.runs == 0 || b.slots == 0) {
		(void)fprintf(stderr, "petri-bench-runtime [--runs 200] [--slots 4] [--json]\n");
		return 125;
	}
	int code = 1;
	if (prepare(&b, &err) < 0) {
		log_error("%s", err_msg(&err));
	} else {
		struct supervisor_config config = {.state = b.state, .nslots = b.slots, .worker = bench_in_worker, .ctx = &b};
		code = supervise(&config);
	}
	if (b.dir[0])
		remove_state(&b);
	return code;
}
