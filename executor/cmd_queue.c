/* petri submit, status and cancel: the clients of the queue. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "executor/cli.h"
#include "executor/metrics_http.h"
#include "executor/queue.h"
#include "executor/redis_options.h"

#define EXIT_QUEUE_FULL 75

/* ---- the clients ---- */
struct client_options {
	struct redis_options redis;
	bool wait;
	uint64_t timeout_ms, max_depth;
};

static void cleanup_client(struct queue_client **client)
{
	queue_client_free(*client);
}

static int open_client(struct client_options *o, struct queue_client **ret, struct err *err)
{
	struct redis_url url;
	int r = redis_options_ready(&o->redis, &url, err);
	if (r == 0)
		r = queue_client_open(&url, o->redis.prefix, ret, err);
	explicit_bzero(&url, sizeof(url));
	return r;
}

static int complain(const struct err *err, int code)
{
	log_error("%s", err_msg(err));
	return code;
}

static int submit(struct client_options *o, const char *path)
{
	struct err err = ERR_INIT;
	struct reject why = {0};
	struct job job;
	_cleanup_free_ char *text = NULL, *result = NULL;
	_cleanup_(cleanup_client) struct queue_client *client = NULL;
	size_t len = 0;
	char id[JOB_ID_MAX + 1];
	if (cli_document(path, &text, &len, &err) < 0)
		return complain(&err, 1);
	/* Refused here what no worker would take: sooner, and with the same words. */
	int r = job_parse(text, len, NULL, &job, &why);
	if (r != 0) {
		(void)fprintf(stderr, "petri: status=rejected field=%s reason=%s message=\"%s\"\n", why.field,
			reject_reason_name(why.reason), why.message);
		job_clear(&job);
		return EXIT_USAGE;
	}
	r = open_client(o, &client, &err);
	if (r == 0)
		r = queue_client_submit(client, &job, text, len, o->max_depth, id, &err);
	job_clear(&job);
	if (r < 0)
		return complain(&err, r == -EAGAIN ? EXIT_QUEUE_FULL : 1);
	if (!o->wait) {
		(void)puts(id);
		return 0;
	}
	if (queue_client_wait(client, id, o->timeout_ms, &result, &err) < 0)
		return complain(&err, 1);
	(void)puts(result);
	return 0;
}

#define CLIENT(member) OPTION_AT(struct client_options, member)

static const struct option submit_options[] = {
	{.name = "wait", .kind = OPTION_SWITCH, CLIENT(wait), .help = "wait for the result and print it instead of the id"},
	{.name = "timeout", .arg = "DURATION", .kind = OPTION_DURATION, CLIENT(timeout_ms), .standard = "none", .help = "with --wait: give up after so long", .more = "The job is not cancelled by that."},
	{.name = "max-depth", .arg = "N", .kind = OPTION_COUNT, CLIENT(max_depth), .standard = "none", .help = "do not submit when so many jobs wait in the stream", .more = "The workers' --max-queue counts as well; the lesser of the two does."},
	REDIS_OPTIONS(struct client_options, redis),
	{0},
};

static const struct exit_code submit_codes[] = {
	{"0", "accepted; with --wait a result was printed, whatever it says"},
	{"1", "Redis failed, or the wait timed out"},
	{"75", "the queue is full (--max-depth, or the workers' --max-queue)"},
	{"125", "the job was refused before it was sent, or the command line is wrong"},
	{0},
};

const struct verb submit_verb = {
	.name = "submit",
	.summary = "put a job into the queue; --wait for its result",
	.fn = cmd_submit,
	.forms = (const char *const[]){"[OPTIONS] JOB.json|-", NULL},
	.about = "Checks a job document and puts it into the queue. Prints the id under which its result will be.",
	.options = submit_options,
	.min_words = 1,
	.max_words = 1,
	.complete = COMPLETE_FILE,
	.codes = submit_codes,
};

static const struct option client_options[] = {
	REDIS_OPTIONS(struct client_options, redis),
	{0},
};

static const struct exit_code status_codes[] = {
	{"0", "printed"},
	{"1", "Redis failed"},
	{"125", "the command line is wrong"},
	{0},
};

const struct verb status_verb = {
	.name = "status",
	.summary = "what became of a job",
	.fn = cmd_status,
	.forms = (const char *const[]){"[OPTIONS] ID", NULL},
	.about = "Prints a JSON object with the job's id and state: done (with its result), running (with worker and attempt) or unknown.",
	.options = client_options,
	.min_words = 1,
	.max_words = 1,
	.codes = status_codes,
};

static const struct exit_code cancel_codes[] = {
	{"0", "requested (it runs, and will be killed) or cancelled (it had not begun)"},
	{"1", "the job has finished"},
	{"2", "Redis failed"},
	{"125", "the command line is wrong"},
	{0},
};

const struct verb cancel_verb = {
	.name = "cancel",
	.summary = "end a job",
	.fn = cmd_cancel,
	.forms = (const char *const[]){"[OPTIONS] ID", NULL},
	.about = "Ends a job that waits or runs, and prints requested, cancelled or finished.",
	.options = client_options,
	.min_words = 1,
	.max_words = 1,
	.codes = cancel_codes,
};

/* Return: the one word, or NULL with *ret_exit set. */
static const char *client_word(const struct verb *verb, int argc, char **argv, struct client_options *o, int *ret_exit)
{
	char **words;
	*o = (struct client_options){0};
	return verb_parse(verb, o, argc, argv, &words, ret_exit) ? words[0] : NULL;
}

int cmd_submit(int argc, char **argv)
{
	int code;
	struct client_options o;
	const char *path = client_word(&submit_verb, argc, argv, &o, &code);
	return path ? submit(&o, path) : code;
}

int cmd_status(int argc, char **argv)
{
	int code;
	struct err err = ERR_INIT;
	struct client_options o;
	_cleanup_free_ char *json = NULL;
	_cleanup_(cleanup_client) struct queue_client *client = NULL;
	const char *id = client_word(&status_verb, argc, argv, &o, &code);
	if (!id)
		return code;
	int r = open_client(&o, &client, &err);
	if (r == 0)
		r = queue_client_status(client, id, &json, &err);
	if (r < 0)
		return complain(&err, 1);
	(void)puts(json);
	return 0;
}

int cmd_cancel(int argc, char **argv)
{
	int code;
	struct err err = ERR_INIT;
	struct client_options o;
	const char *what = "";
	_cleanup_(cleanup_client) struct queue_client *client = NULL;
	const char *id = client_word(&cancel_verb, argc, argv, &o, &code);
	if (!id)
		return code;
	int r = open_client(&o, &client, &err);
	if (r == 0)
		r = queue_client_cancel(client, id, &what, &err);
	if (r < 0)
		return complain(&err, 2);
	(void)puts(r > 0 ? "finished" : what);
	return r > 0 ? 1 : 0;
}
