/* petri queue: what waits, who has what, what was given up; and setting it right by hand. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "executor/cli.h"
#include "executor/queue_admin.h"
#include "executor/queue_show.h"
#include "executor/redis_options.h"

struct options {
	struct redis_options redis;
	const char *stream;
	bool json, yes, all;
	char **words;
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

static const struct action *find_action(const struct options *o)
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
	(void)verb_complain(&queue_verb, "these words and options do not go together");
	return NULL;
}

#define QUEUE(member) OPTION_AT(struct options, member)

static const struct option queue_options[] = {
	{.name = "json", .kind = OPTION_SWITCH, QUEUE(json), .help = "print JSON"},
	{.name = "stream", .arg = "KEY", .kind = OPTION_WORD, QUEUE(stream), .help = "with requeue and purge: of this stream alone"},
	{.name = "all", .kind = OPTION_SWITCH, QUEUE(all), .help = "with dead requeue: all of them"},
	{.name = "yes", .kind = OPTION_SWITCH, QUEUE(yes), .help = "with purge: that is meant"},
	REDIS_OPTIONS(struct options, redis),
	{0},
};

static const struct exit_code codes[] = {
	{"0", "done"},
	{"1", "not found, refused, or Redis failed"},
	{"125", "the command line is wrong"},
	{0},
};

const struct verb queue_verb = {
	.name = "queue",
	.summary = "what waits, and setting it right by hand",
	.fn = cmd_queue,
	.forms = (const char *const[]){"[--json]", "requeue ENTRY [--stream KEY]", "purge --yes [--stream KEY]", "dead list [--json]", "dead show ID",
		"dead requeue ID|--all", "dead purge --yes", NULL},
	.about = "Alone: what waits, who has what, what was given up.\n\nrequeue: take a pending entry from whoever has it; the next worker "
		 "runs it. purge: give every job that waits a cancelled result, and empty the streams.\n\ndead: the jobs that were given up; ID is "
		 "a job's or an entry's. dead requeue: put them back, without the result that said so. dead purge: forget them.",
	.options = queue_options,
	.max_words = 3,
	.words = "requeue purge dead",
	.codes = codes,
};

int cmd_queue(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct options o = {0};
	struct redis_url url;
	struct queue_admin *admin = NULL;
	int code;
	if (!verb_parse(&queue_verb, &o, argc, argv, &o.words, &code))
		return code;
	while (o.words[o.nwords])
		o.nwords++;
	const struct action *action = find_action(&o);
	if (!action)
		return EXIT_USAGE;
	int r = redis_options_ready(&o.redis, &url, &err);
	r = r < 0 ? r : queue_admin_open(&url, o.redis.prefix, &admin, &err);
	code = r < 0 ? complain(&err) : action->fn(admin, &o);
	queue_admin_free(admin);
	return r == -EINVAL ? EXIT_USAGE : code;
}
