/*
 * petri-bench serve: a process that for every line "run" on its stdin runs the program once and answers "ok CODE", in any order;
 * docs/bench.md has the contract. CPU is that of the process and its descendants.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "bench/child.h"
#include "bench/commands.h"
#include "bench/cpu.h"
#include "bench/outside.h"

#define ANSWER_MS 30000

struct server {
	struct child child;
	char buf[4096]; /* what was read and not yet understood */
	size_t len;
};

static int ask(struct server *s)
{
	return fd_write_all(s->child.in, "run\n", 4);
}

/* One answer. Return: 0 for "ok 0", or -1 after a message. */
static int answer(struct server *s)
{
	char *end;
	while (!(end = memchr(s->buf, '\n', s->len))) {
		struct pollfd p = {.fd = s->child.out, .events = POLLIN};
		int r = poll(&p, 1, ANSWER_MS);
		ssize_t n = r > 0 && s->len < sizeof(s->buf) ? read(s->child.out, s->buf + s->len, sizeof(s->buf) - s->len) : 0;
		if (n <= 0) {
			(void)fprintf(stderr, "petri-bench serve: %s\n", bench_interrupted ? "interrupted" : r == 0 ? "no answer within 30 s"
														    : "the process ended");
			return -1;
		}
		s->len += (size_t)n;
	}
	*end = '\0';
	bool good = strcmp(s->buf, "ok 0") == 0;
	if (!good)
		(void)fprintf(stderr, "petri-bench serve: it answered: %.400s\n", s->buf);
	s->len -= (size_t)(end + 1 - s->buf);
	memmove(s->buf, end + 1, s->len);
	return good ? 0 : -1;
}

static int once(struct outside *o, struct spawn_cost *ret)
{
	struct server *s = o->user;
	uint64_t t0 = now_ns();
	if (ask(s) < 0 || answer(s) < 0)
		return -1;
	*ret = (struct spawn_cost){.ns = now_ns() - t0};
	return 0;
}

static int many(struct outside *o, unsigned runs, unsigned inflight, double seconds, struct spawn_rate *ret)
{
	struct server *s = o->user;
	unsigned asked = 0, answered = 0;
	uint64_t cpu = cpu_tree_us(s->child.pid, 0), t0 = now_us(), until = seconds > 0 ? t0 + (uint64_t)(seconds * 1e6) : UINT64_MAX;
	for (bool more = true; more || answered < asked;) {
		more = asked < runs && now_us() < until;
		if (more && asked - answered < inflight) {
			if (ask(s) < 0)
				return -1;
			asked++;
		} else if (answered < asked) {
			if (answer(s) < 0)
				return -1;
			answered++;
		}
	}
	double elapsed = (double)(now_us() - t0);
	*ret = (struct spawn_rate){.per_s = answered * 1e6 / elapsed, .cpu_us = (double)(cpu_tree_us(s->child.pid, 0) - cpu) / answered, .runs = answered};
	return answered ? 0 : -1;
}

/* CPU one at a time would need a look at the process tree before and after each: the first rate's stands for it. */
static void take_cpu(struct outside *o)
{
	o->cpu_us = o->nrates ? o->rates[0].it.cpu_us : 0;
}

int bench_serve(int argc, char **argv)
{
	static struct outside o = {.options = {.verb = "serve", .runs = 500, .inflight = {1, 2, 4, 8}, .ninflight = 4}, .kind = "serve", .once = once, .many = many};
	static struct server server;
	struct err err = ERR_INIT;
	int code = options_parse(&o.options, OPT_RUNS | OPT_INFLIGHT | OPT_SECONDS | OPT_JSON | OPT_PROGRAM, argc, argv);
	if (code != 0)
		return MAX(code, 0);
	if (!o.options.argv) {
		(void)fprintf(stderr, "petri-bench serve: no command line\n");
		return 125;
	}
	bench_catch_signals();
	(void)signal(SIGPIPE, SIG_IGN);
	o.user = &server;
	code = 1;
	if (workspace_make(&o.workspace, &err) < 0 || child_start(&server.child, o.options.argv, 1, &err) < 0) {
		log_error("%s", err_msg(&err));
	} else if (outside_measure(&o) == 0) {
		take_cpu(&o);
		outside_print(&o);
		code = 0;
	}
	child_stop(&server.child);
	workspace_remove(&o.workspace);
	return code;
}
