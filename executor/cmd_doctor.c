/*
 * petri doctor: what this host can enforce, and by which driver. It looks by doing: a nursery is started, one slot made
 * and one zygote stamped, so that what it says is what a worker would find.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/cli.h"
#include "executor/core_sched.h"
#include "executor/doctor_host.h"
#include "executor/enforcement.h"
#include "executor/engine.h"
#include "executor/supervisor.h"
#include "pool/leaf.h"

#define PATIENCE_US 20000000

struct doctor {
	struct loop *loop;
	struct engine *engine;
	struct loop_timer patience;
	bool json, ready;
	struct weaknesses weak; /* of the host */
	int core_sched;		/* core_sched_probe() */
	int landlock;		/* landlock_version() */
	struct err why;
};

static void on_capacity(void *ctx)
{
	struct doctor *d = ctx;
	d->ready = engine_ready_slots(d->engine) > 0;
	if (d->ready)
		loop_stop(d->loop);
}

static void on_fatal(void *ctx, const struct err *err)
{
	struct doctor *d = ctx;
	d->why = *err;
	loop_stop(d->loop);
}

static void on_patience(struct loop_timer *timer)
{
	struct doctor *d = timer->data;
	(void)err_say(&d->why, 110, "no slot became ready; PETRI_LOG=debug says more");
	loop_stop(d->loop);
}

static void print_weaknesses(const struct weaknesses *ws)
{
	(void)printf("\n%s\n", ws->n ? "weaknesses of this host" : "no weakness of this host was found");
	for (size_t i = 0; i < ws->n; i++) {
		const struct weakness *w = &ws->items[i];
		(void)printf("  %s%s: %s\n    %s.\n    To do: %s\n", w->name, w->unknown ? " (unknown)" : "", w->found, w->means, w->todo);
	}
}

static json_t *weaknesses_json(const struct weaknesses *ws)
{
	json_t *list = json_array();
	for (size_t i = 0; i < ws->n; i++) {
		const struct weakness *w = &ws->items[i];
		(void)json_array_append_new(list, json_pack("{s:s, s:b, s:s, s:s, s:s}", "name", w->name, "unknown", (int)w->unknown, "found", w->found, "means", w->means, "do", w->todo));
	}
	return list;
}

static void print_text(const struct doctor *d, const struct wire_host *host)
{
	struct utsname u;
	(void)uname(&u);
	(void)printf("kernel         %s\n", u.release);
	(void)printf("cgroup driver  %s\n", pool_driver_name(host->driver));
	(void)printf("scratch        %s\n", pool_scratch_name(host->scratch));
	(void)printf("layers         %s\n", host->layers_idmapped ? "idmapped: owners are shown as in the image" : "not idmapped here: owners are shown as nobody");
	(void)printf("/usr (host)    %s\n", host->usr_idmapped ? "idmapped" : "not idmapped here: owners are shown as nobody");
	(void)printf("block devices ");
	for (uint32_t i = 0; i < host->ndevices; i++)
		(void)printf(" %u:%u", host->devices[i].major, host->devices[i].minor);
	(void)printf("%s\n\n", host->ndevices ? "" : " none: io limits are refused");
	for (size_t i = 0; i < enforcement_count(); i++) {
		struct enforcement e = enforcement_at(host, i);
		(void)printf("%-14s %s%s\n", e.limit, e.enforced ? "" : "not enforced here: needs ", e.by);
	}
	(void)printf("%-14s pipes, RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_CORE\n", "output, files");
	(void)printf("%-14s %s\n", "worker", d->landlock >= 2 ? "seccomp, restricted ring, Landlock" : "seccomp, restricted ring; no Landlock in this kernel: paths are bounded by their owners and modes alone");
	(void)printf("%-14s %s\n", "core-sched", d->core_sched == 0 ? "is there" : core_sched_why(d->core_sched));
	print_weaknesses(&d->weak);
	(void)printf("\n%s\n", d->ready ? "A slot was made and is ready: this host can run jobs." : err_msg(&d->why));
}

static void print_json(const struct doctor *d, const struct wire_host *host)
{
	json_t *limits = json_object();
	for (size_t i = 0; host && i < enforcement_count(); i++) {
		struct enforcement e = enforcement_at(host, i);
		(void)json_object_set_new(limits, e.limit,
			json_pack("{s:b, s:s}", "enforced", (int)e.enforced, e.enforced ? "by" : "needs", e.by));
	}
	json_t *o = json_pack("{s:b, s:s, s:s, s:b, s:b, s:o, s:o, s:i, s:{s:b, s:s}, s:s}", "ok", d->ready, "cgroup",
		host ? pool_driver_name(host->driver) : "none", "scratch", host ? pool_scratch_name(host->scratch) : "none",
		"layers_idmapped", host ? (int)host->layers_idmapped : 0, "usr_idmapped", host ? (int)host->usr_idmapped : 0,
		"limits", limits, "weaknesses", weaknesses_json(&d->weak), "landlock", d->landlock, "core_sched", "available", d->core_sched == 0, "message", core_sched_why(d->core_sched), "message", d->ready ? "" : err_msg(&d->why));
	_cleanup_free_ char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
	(void)puts(text ? text : "{}");
	json_decref(o);
}

static int doctor_in_worker(const struct worker_fds *fds, void *ctx)
{
	struct doctor *d = ctx;
	d->loop = fds->loop;
	struct engine_config config = {.loop = fds->loop, .store = fds->store, .nursery = fds->nursery, .supervisor = fds->supervisor, .name = "doctor", .capacity = on_capacity, .fatal = on_fatal, .ctx = d};
	struct err err = ERR_INIT;
	if (engine_new(&config, &d->engine, &err) < 0) {
		log_error("%s", err_msg(&err));
		return 1;
	}
	d->patience = (struct loop_timer){.fn = on_patience, .data = d};
	loop_timer_set(d->loop, &d->patience, now_us() + PATIENCE_US);
	if (loop_run(d->loop, &d->why) < 0)
		d->ready = false;
	const struct wire_host *host = engine_host(d->engine);
	if (d->json)
		print_json(d, host);
	else if (host)
		print_text(d, host);
	else
		(void)printf("this host cannot run jobs: %s\n", err_msg(&d->why));
	return d->ready ? 0 : 1;
}

struct doctor_options {
	bool json;
	const char *state;
};

static const struct option options[] = {
	{.name = "json", .kind = OPTION_SWITCH, OPTION_AT(struct doctor_options, json), .help = "print a JSON object"},
	STATE_OPTION(struct doctor_options, state),
	{0},
};

static const struct exit_code codes[] = {
	{"0", "this host can run jobs"},
	{"1", "it cannot"},
	{"125", "not started as root, or the command line is wrong"},
	{0},
};

const struct verb doctor_verb = {
	.name = "doctor",
	.summary = "what this host can enforce, and how",
	.fn = cmd_doctor,
	.forms = (const char *const[]){"[--json] [--state DIR]", NULL},
	.about = "Starts a nursery, makes one slot and one waiting process, and prints which limits this host can enforce and by what, and what of the "
		 "host weakens the sandbox beyond what petri can do about it. That is advice: the exit code says only whether jobs can be run.",
	.options = options,
	.codes = codes,
};

/* Here, with the caller's rights: the worker could not read it all. */
static void look_at_host(struct doctor *doctor, const char *path)
{
	struct utsname u;
	_cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), state = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)uname(&u);
	weaknesses_find(root, u.release, state, &doctor->weak);
	doctor->core_sched = core_sched_probe();
	doctor->landlock = landlock_version();
}

int cmd_doctor(int argc, char **argv)
{
	static struct doctor d;
	struct doctor_options o = {0};
	char **words;
	int code;
	if (!verb_parse(&doctor_verb, &o, argc, argv, &words, &code))
		return code;
	d.json = o.json;
	look_at_host(&d, state_dir(o.state));
	struct supervisor_config config = {.state = state_dir(o.state), .nslots = 1, .worker = doctor_in_worker, .ctx = &d};
	return supervise(&config);
}
