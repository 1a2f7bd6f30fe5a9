/* petri queue: what waits, who has what, what was given up; and setting it right by hand. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "executor/cli.h"
#include "executor/cli_redis.h"
#include "executor/queue_admin.h"
#include "executor/queue_show.h"

#define WORDS_MAX 3

static const char help[] =
	"petri queue [--json] [--redis URL] [--prefix petri]\n"
	"                                what waits, who has what, what was given up\n"
	"petri queue requeue ENTRY [--stream KEY]\n"
	"                                take a pending entry from whoever has it; the next worker runs it\n"
	"petri queue purge --yes [--stream KEY]\n"
	"                                give every job that waits a cancelled result, and empty the streams\n"
	"petri queue dead list [--json] | show ID\n"
	"                                jobs that were given up; ID is a job's or an entry's\n"
	"petri queue dead requeue ID|--all\n"
	"                                put them back, without the result that said so\n"
	"petri queue dead purge --yes    forget them";

struct options {
	const char *redis, *prefix, *stream;
	bool json, yes, all;
	const char *words[WORDS_MAX];
	unsigned nwords;
};

static int complain(const struct err *err)
{
	log_error("%s", err_msg(err));
	return 1;
}

static void print_json(json_t *value)
{
	/* ASCII: neither control characters nor what a terminal takes for some may come through. */
	_cleanup_free_ char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	(void)puts(text ? text : "null");
}

static int refuse_without_yes(const struct options *o, const char *what)
{
	if (o->yes)
		return 0;
	log_error("this would %s: say --yes if that is meant", what);
	return 1;
}

static int show(struct queue_admin *admin, const struct options *o)
{
	struct err err = ERR_INIT;
	json_t *look = NULL;
	if (queue_admin_look(admin, &look, &err) < 0)
		return complain(&err);
	if (o->json) {
		print_json(look);
	} else {
		queue_show_total(stdout, look);
		(void)putchar('\n');
		queue_show_streams(stdout, look);
		queue_show_pending(stdout, look);
	}
	json_decref(look);
	return 0;
}

static int requeue(struct queue_admin *admin, const struct options *o)
{
	struct err err = ERR_INIT;
	if (queue_admin_requeue(admin, o->words[1], o->stream, &err) < 0)
		return complain(&err);
	(void)puts("requeued");
	return 0;
}

static int purge(struct queue_admin *admin, const struct options *o)
{
	struct err err = ERR_INIT;
	uint64_t n = 0;
	if (refuse_without_yes(o, "cancel every job that waits"))
		return 1;
	int r = queue_admin_purge(admin, o->stream, &n, &err);
	(void)printf("%" PRIu64 " jobs cancelled\n", n);
	return r < 0 ? complain(&err) : 0;
}

static int dead_list(struct queue_admin *admin, const struct options *o)
{
	struct err err = ERR_INIT;
	json_t *dead = NULL;
	if (queue_admin_dead(admin, &dead, &err) < 0)
		return complain(&err);
	if (o->json)
		print_json(dead);
	else
		queue_show_dead(stdout, dead);
	json_decref(dead);
	return 0;
}

static int dead_show(struct queue_admin *admin, const struct options *o)
{
	struct err err = ERR_INIT;
	json_t *one = NULL;
	if (queue_admin_dead_show(admin, o->words[2], &one, &err) < 0)
		return complain(&err);
	print_json(one);
	json_decref(one);
	return 0;
}

static int dead_requeue(struct queue_admin *admin, const struct options *o)
{
	struct err err = ERR_INIT;
	json_t *dead = NULL, *one;
	size_t i, back = 0;
	int code = 0;
	if (!o->all) {
		if (queue_admin_dead_requeue(admin, o->words[2], &err) < 0)
			return complain(&err);
		(void)puts("requeued");
		return 0;
	}
	if (queue_admin_dead(admin, &dead, &err) < 0)
		return complain(&err);
	json_array_foreach(dead, i, one)
	{
		int r = queue_admin_dead_requeue(admin, json_string_value(json_object_get(one, "entry")), &err);
		back += r == 0;
		if (r < 0)
			code = complain(&err);
		if (r == -ECONNRESET)
			break;
	}
	(void)printf("%zu of %zu requeued\n", back, json_array_size(dead));
	json_decref(dead);
	return code;
}

static int dead_purge(struct queue_admin *admin, const struct options *o)
{
	struct err err = ERR_INIT;
	uint64_t n = 0;
	if (refuse_without_yes(o, "forget every job that was given up"))
		return 1;
	if (queue_admin_dead_purge(admin, &n, &err) < 0)
		return complain(&err);
	(void)printf("%" PRIu64 " entries forgotten\n", n);
	return 0;
}

/* What the words mean: how many there must be, and which options go with them. */
static const struct action {
	const char *first, *second;
	unsigned words;
	int (*fn)(struct queue_admin *admin, const struct options *o);
	bool json, yes, stream, all;
} actions[] = {
	{.words = 0, .fn = show, .json = true},
	{.first = "requeue", .words = 2, .fn = requeue, .stream = true},
	{.first = "purge", .words = 1, .fn = purge, .yes = true, .stream = true},
	{.first = "dead", .second = "list", .words = 2, .fn = dead_list, .json = true},
	{.first = "dead", .second = "show", .words = 3, .fn = dead_show, .json = true},
	{.first = "dead", .second = "requeue", .words = 3, .fn = dead_requeue, .all = true},
	{.first = "dead", .second = "purge", .words = 2, .fn = dead_purge, .yes = true},
};

static bool same(const char *wanted, const struct options *o, unsigned i)
{
	return !wanted || (i < o->nwords && strcmp(wanted, o->words[i]) == 0);
}

static const struct action *find_action(struct cli *cli, const struct options *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		const struct action *a = &actions[i];
		bool all = a->all && o->all;
		if (a->words - all != o->nwords || !same(a->first, o, 0) || !same(a->second, o, 1))
			continue;
		if ((o->json && !a->json) || (o->yes && !a->yes) || (o->stream && !a->stream) || (o->all && !a->all))
			break;
		return a;
	}
	cli_error(cli, "these words and options do not go together; see petri queue --help");
	return NULL;
}

static void read_one(struct cli *cli, struct options *o)
{
	const char *v;
	if (cli->argv[cli->at][0] != '-') {
		if (o->nwords == WORDS_MAX)
			cli_error(cli, "unexpected '%s'", cli->argv[cli->at]);
		else
			o->words[o->nwords++] = cli->argv[cli->at++];
	} else if (cli_is(cli, "--json")) {
		o->json = true;
	} else if (cli_is(cli, "--yes")) {
		o->yes = true;
	} else if (cli_is(cli, "--all")) {
		o->all = true;
	} else if (cli_option(cli, "--stream", &v)) {
		o->stream = v;
	} else if (cli_option(cli, "--redis", &v)) {
		o->redis = v;
	} else if (cli_option(cli, "--prefix", &v)) {
		o->prefix = v;
	} else {
		cli_unknown(cli);
	}
}

int cmd_queue(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct cli cli = {.argc = argc, .argv = argv, .at = 1, .verb = "queue"};
	struct options o = {.prefix = "petri"};
	struct redis_url url;
	struct queue_admin *admin = NULL;
	while (!cli.failed && cli.at < argc) {
		if (cli_is(&cli, "--help")) {
			(void)puts(help);
			return 0;
		}
		read_one(&cli, &o);
	}
	const struct action *action = cli.failed ? NULL : find_action(&cli, &o);
	if (!action)
		return EXIT_USAGE;
	int r = cli_redis_url(o.redis, &url, &err);
	r = r < 0 ? r : queue_admin_open(&url, o.prefix, &admin, &err);
	int code = r < 0 ? complain(&err) : action->fn(admin, &o);
	queue_admin_free(admin);
	return r == -EINVAL ? EXIT_USAGE : code;
}
