/* petri-bench command: posix_spawn + wait of a command line, in turn with posix_spawn + wait of a static true. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "bench/commands.h"
#include "bench/outside.h"

#define SAID_MAX 1500

static int once(struct outside *o, struct spawn_cost *ret)
{
	return spawn_once(o->user, ret);
}

static int many(struct outside *o, unsigned runs, unsigned inflight, double seconds, struct spawn_rate *ret)
{
	return spawn_rate(o->user, runs, inflight, seconds, ret);
}

/* What the failed run, the last one, wrote to stderr. */
static void show_log(int fd)
{
	char text[SAID_MAX + 1];
	off_t size = lseek(fd, 0, SEEK_END);
	ssize_t n = pread(fd, text, SAID_MAX, MAX(size - SAID_MAX, (off_t)0));
	text[MAX(n, (ssize_t)0)] = '\0';
	(void)fprintf(stderr, "petri-bench command: it failed: %s\n", text);
}

int bench_command(int argc, char **argv)
{
	static struct outside o = {.options = {.verb = "command", .runs = 500, .inflight = {1, 2, 4, 8}, .ninflight = 4}, .kind = "command", .once = once, .many = many};
	struct err err = ERR_INIT;
	int code = options_parse(&o.options, OPT_RUNS | OPT_INFLIGHT | OPT_SECONDS | OPT_JSON | OPT_PROGRAM, argc, argv);
	if (code != 0)
		return MAX(code, 0);
	if (!o.options.argv) {
		(void)fprintf(stderr, "petri-bench command: no command line\n");
		return 125;
	}
	bench_catch_signals();
	spawn_adopt();
	_cleanup_close_ int log_fd = memfd_create("bench-log", MFD_CLOEXEC);
	static struct program program;
	program = (struct program){.argv = o.options.argv, .foreign = true, .log_fd = log_fd};
	o.user = &program;
	code = 1;
	if (log_fd < 0 || workspace_make(&o.workspace, &err) < 0) {
		log_error("%s", err_msg(&err));
	} else if (outside_measure(&o) < 0) {
		show_log(log_fd);
	} else {
		outside_print(&o);
		code = 0;
	}
	spawn_release();
	workspace_remove(&o.workspace);
	return code;
}
