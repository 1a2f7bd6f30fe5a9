/*
 * petri-bench stamp: what it takes to stamp a root, as the nursery does it: a fresh scratch on tmpfs, the layers attached, the overlay
 * mounted, and all of it taken down again. With one lower layer and with many, in turn with posix_spawn + wait of a static true. In a
 * child with a mount namespace of its own, which ends with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "bench/bench_stats.h"
#include "bench/commands.h"
#include "bench/workspace.h"
#include "bench/yardstick.h"
#include "layers/stamp.h"
#include "layers/store.h"
#include "pool/wire.h"

#define LOWERS_MANY 32
#define WARM_UP 20
#define DISK_BYTES (64u << 20)
#define DISK_INODES 10000

enum shape {
	ONE,
	MANY,
	SHAPES
};

static const unsigned lowers[SHAPES] = {1, LOWERS_MANY};

struct stamp_bench {
	struct options options;
	struct workspace workspace;
	struct yardstick yardstick;
	struct image image;
	struct stamp_env env;
	struct stamp_slot slot;
	struct samples native, make[SHAPES], down[SHAPES];
};

static int once(struct stamp_bench *b, enum shape shape, bool keep, struct err *err)
{
	const struct stamp_plan plan = {.layers = b->image.layers, .nlayers = lowers[shape], .disk_bytes = DISK_BYTES, .disk_inodes = DISK_INODES};
	int step;
	uint64_t begin = now_ns();
	int r = stamp_make(&b->env, &b->slot, &plan, &step, err);
	uint64_t made = now_ns();
	if (r < 0)
		return r;
	stamp_detach(&b->env, &b->slot);
	if (keep) {
		samples_add(&b->make[shape], made - begin);
		samples_add(&b->down[shape], now_ns() - made);
	}
	return 0;
}

static int measure(struct stamp_bench *b, struct err *err)
{
	uint64_t deadline = b->options.seconds > 0 ? now_us() + (uint64_t)(b->options.seconds * 1e6) : UINT64_MAX;
	int r = 0;
	for (unsigned i = 0; r == 0 && i < b->options.runs + WARM_UP && now_us() < deadline && !bench_interrupted; i++) {
		struct spawn_cost cost;
		if (yardstick_once(&b->yardstick, 0, &cost) < 0)
			return err_say(err, EIO, "posix_spawn of the static true failed");
		if (i >= WARM_UP)
			samples_add(&b->native, cost.ns);
		for (enum shape s = 0; r == 0 && s < SHAPES; s++)
			r = once(b, s, i >= WARM_UP, err);
	}
	if (r == 0 && b->native.n == 0)
		r = err_say(err, EINTR, "nothing was measured");
	return r;
}

static void print_json(struct stamp_bench *b)
{
	double native = samples_quantile_us(&b->native, 0.5);
	json_t *points = json_array(), *root;
	for (enum shape s = 0; s < SHAPES; s++)
		(void)json_array_append_new(points, json_pack("{s:i, s:f, s:o, s:o}", "lowers", lowers[s], "ratio_p50", samples_quantile_us(&b->make[s], 0.5) / native, "make", samples_json(&b->make[s]), "take_down", samples_json(&b->down[s])));
	root = json_pack("{s:s, s:o, s:o}", "kind", "stamp", "native", samples_json(&b->native), "points", points);
	_cleanup_free_ char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
	(void)puts(text ? text : "{}");
	json_decref(root);
}

static void row(const char *what, struct samples *s, double native)
{
	(void)printf("%-48s %8.0f %8.0f %8.0f %7.2f\n", what, samples_quantile_us(s, 0.5), samples_quantile_us(s, 0.9), samples_quantile_us(s, 0.99),
		samples_quantile_us(s, 0.5) / native);
}

static void print_table(struct stamp_bench *b)
{
	double native = samples_quantile_us(&b->native, 0.5);
	char what[64];
	(void)printf("%-48s %8s %8s %8s %7s\n", "in turn; us", "p50", "p90", "p99", "ratio");
	row("posix_spawn + wait of a static true", &b->native, native);
	for (enum shape s = 0; s < SHAPES; s++) {
		(void)snprintf(what, sizeof(what), "a root stamped of %u layer%s", lowers[s], lowers[s] > 1 ? "s" : "");
		row(what, &b->make[s], native);
		row("  and taken down", &b->down[s], native);
	}
}

/* In a child: it enters a mount namespace and a small root, and cannot come back. */
static int in_namespace(struct stamp_bench *b)
{
	struct err err = ERR_INIT;
	_cleanup_close_ int state = open(b->workspace.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = state < 0 ? err_set(&err, errno, "open %s", b->workspace.state) : 0;
	if (r == 0)
		r = stamp_env_enter(&b->env, state, STORE_UID_BASE, true, NULL, &err);
	/* The number is the nursery's own in a namespace and a store of its own: nothing that the machine shares is named after it here. */
	if (r == 0)
		r = stamp_slot_init(&b->env, &b->slot, 0, POOL_UID_BASE, POOL_JOB_UID, &err);
	if (r == 0)
		r = measure(b, &err);
	if (r < 0) {
		log_error("%s", err_msg(&err));
		return 1;
	}
	if (b->options.json)
		print_json(b);
	else
		print_table(b);
	return fflush(stdout) == 0 ? 0 : 1;
}

static int run_child(struct stamp_bench *b)
{
	pid_t parent = getpid(), pid = fork();
	int status = 0;
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		_exit(getppid() == parent ? in_namespace(b) : 1);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		if (bench_interrupted)
			(void)kill(pid, SIGTERM);
	return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int prepare(struct stamp_bench *b, struct err *err)
{
	struct store *store = NULL;
	int r = workspace_image(&b->workspace, &b->options, err);
	if (r == 0)
		r = store_open(b->workspace.state, &store, err);
	if (r == 0)
		r = image_load(store, BENCH_IMAGE, &b->image, err);
	store_free(store);
	return r == 0 && b->image.nlayers < LOWERS_MANY ? err_say(err, EINVAL, "the image has too few layers") : r;
}

int bench_stamp(int argc, char **argv)
{
	static struct stamp_bench b = {.options = {.verb = "stamp", .runs = 500}};
	static char *floor[] = {NULL, NULL};
	struct err err = ERR_INIT;
	int code = options_parse(&b.options, OPT_RUNS | OPT_SECONDS | OPT_JSON, argc, argv);
	if (code != 0)
		return MAX(code, 0);
	b.options.layers = LOWERS_MANY;
	bench_catch_signals();
	int r = workspace_make(&b.workspace, &err);
	floor[0] = b.workspace.floor;
	const struct program program = {.argv = floor, .log_fd = STDERR_FILENO};
	r = r < 0 ? r : prepare(&b, &err);
	r = r < 0 ? r : yardstick_start(&b.yardstick, &program, 1, &err);
	if (r < 0)
		log_error("%s", err_msg(&err));
	code = r < 0 ? 1 : run_child(&b);
	yardstick_stop(&b.yardstick);
	workspace_remove(&b.workspace);
	image_clear(&b.image);
	return code;
}
