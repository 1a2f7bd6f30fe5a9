/* petri worker, submit, status and cancel: the verbs that speak to Redis. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "executor/cli.h"
#include "executor/metrics_http.h"
#include "executor/queue.h"
#include "executor/supervisor.h"
#include "executor/worker.h"

#define EXIT_QUEUE_FULL 75

/* ---- worker ---- */
static const char worker_help[] =
	"petri worker [--config FILE] [--redis URL] [--prefix petri] [--name HOST] [--slots N] [--lease 30s]\n"
	"             [--max-attempts 3] [--result-ttl 1h] [--grace 30s] [--allow-volatile-redis] [--pin]\n"
	"             [--warm-image NAME] [--warm-policy NAME] [--policies DIR] [--metrics off|on|[ADDRESS:]PORT] [--state DIR]\n"
	"             [--scratch auto|tmpfs] [--project-ids FIRST-LAST]\n"
	"URL: unix:///path | redis://host:port/db; with credentials only in PETRI_REDIS. FILE is JSON with the same names,\n"
	"and max_limits like a job's limits.";

static bool worker_setting(struct cli *cli, struct worker_config *c)
{
	struct err err = ERR_INIT;
	static const char *const switches[] = {"allow-volatile-redis", "pin"};
	const char *arg = cli->argv[cli->at] + 2, *v;
	char name[64];
	for (size_t i = 0; i < ARRAY_SIZE(switches); i++) {
		if (strcmp(arg, switches[i]) == 0) {
			cli->at++;
			(void)worker_config_set(c, switches[i], "", NULL);
			return true;
		}
	}
	(void)snprintf(name, sizeof(name), "--%.*s", (int)MIN(strcspn(arg, "="), sizeof(name) - 3), arg);
	int at = cli->at;
	if (!cli_option(cli, name, &v))
		return false;
	if (cli->failed)
		return true;
	int r = worker_config_set(c, name + 2, v, &err);
	if (r == -ENOENT) {
		cli->at = at;
		return false;
	}
	if (r < 0)
		cli_error(cli, "%s", err_msg(&err));
	return true;
}

static void load_config(struct cli *cli, struct worker_config *c, const char *path)
{
	struct err err = ERR_INIT;
	if (worker_config_load(c, path, &err) < 0)
		cli_error(cli, "%s", err_msg(&err));
}

int cmd_worker(int argc, char **argv)
{
	static struct worker_config config;
	struct err err = ERR_INIT;
	struct cli cli = {.argc = argc, .argv = argv, .at = 1, .verb = "worker"};
	struct redis_url url;
	const char *v;
	worker_config_init(&config);
	while (cli_more(&cli)) {
		if (cli_is(&cli, "--help")) {
			(void)puts(worker_help);
			return 0;
		}
		if (cli_option(&cli, "--config", &v))
			load_config(&cli, &config, v);
		else if (cli_option(&cli, "--state", &v))
			config.state = v;
		else if (cli_option(&cli, "--scratch", &v))
			config.force_tmpfs = cli_scratch(&cli, v);
		else if (!worker_setting(&cli, &config))
			cli_unknown(&cli);
	}
	if (!cli.failed && cli.at < argc)
		cli_error(&cli, "unexpected '%s'", argv[cli.at]);
	/* Said now, rather than by a worker that already has its slots. */
	if (!cli.failed && config.redis[0] && redis_url_parse(config.redis, false, &url, &err) < 0)
		cli_error(&cli, "--redis %s", err_msg(&err));
	if (!cli.failed && !redis_prefix_valid(config.prefix))
		cli_error(&cli, "--prefix wants letters, digits and . _ { } -, at most 64");
	if (!cli.failed && metrics_server_check(config.metrics, &err) < 0)
		cli_error(&cli, "--%s", err_msg(&err));
	if (cli.failed)
		return EXIT_USAGE;
	struct supervisor_config s = {.state = state_dir(config.state), .nslots = config.slots, .force_tmpfs = config.force_tmpfs, .project_ids = config.project_ids, .restart = true, .handles_signals = true, .worker = worker_main, .ctx = &config};
	return supervise(&s);
}

/* ---- the clients ---- */
struct client_options {
	const char *redis, *prefix;
	bool wait;
	uint64_t timeout_ms, max_depth;
};

static void cleanup_client(struct queue_client **client)
{
	queue_client_free(*client);
}

static void client_option(struct cli *cli, struct client_options *o, const char *help)
{
	struct err err = ERR_INIT;
	const char *v;
	if (cli_is(cli, "--help")) {
		(void)puts(help);
		exit(0);
	} else if (cli_option(cli, "--redis", &v)) {
		o->redis = v;
	} else if (cli_option(cli, "--prefix", &v)) {
		o->prefix = v;
	} else if (cli_is(cli, "--wait")) {
		o->wait = true;
	} else if (cli_option(cli, "--timeout", &v)) {
		if (!cli->failed && parse_duration_ms(v, &o->timeout_ms, &err) < 0)
			cli_error(cli, "--timeout %s", err_msg(&err));
	} else if (cli_option(cli, "--max-depth", &v)) {
		if (!cli->failed && parse_u64(v, &o->max_depth, &err) < 0)
			cli_error(cli, "--max-depth %s", err_msg(&err));
	} else {
		cli_unknown(cli);
	}
}

static int open_client(const struct client_options *o, struct queue_client **ret, struct err *err)
{
	struct redis_url url;
	const char *env = getenv("PETRI_REDIS");
	bool from_env = !o->redis && env && *env;
	const char *text = o->redis ? o->redis : from_env ? env
							  : REDIS_DEFAULT;
	int r = redis_url_parse(text, from_env, &url, err);
	return r < 0 ? r : queue_client_open(&url, o->prefix, ret, err);
}

/* Options, then one word. Return: the word, or NULL after a message. */
static const char *client_words(int argc, char **argv, const char *verb, const char *help, struct client_options *o)
{
	struct cli cli = {.argc = argc, .argv = argv, .at = 1, .verb = verb};
	*o = (struct client_options){.prefix = "petri"};
	while (cli_more(&cli))
		client_option(&cli, o, help);
	if (!cli.failed && argc - cli.at != 1)
		cli_error(&cli, "%s", help);
	if (!cli.failed && !redis_prefix_valid(o->prefix))
		cli_error(&cli, "--prefix wants letters, digits and . _ { } -, at most 64");
	return cli.failed ? NULL : argv[cli.at];
}

static int complain(const struct err *err, int code)
{
	log_error("%s", err_msg(err));
	return code;
}

static const char submit_help[] = "petri submit [--wait [--timeout 60s]] [--max-depth N] [--redis URL] [--prefix petri] JOB.json|-";

static int submit(const struct client_options *o, const char *path)
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

int cmd_submit(int argc, char **argv)
{
	struct client_options o;
	const char *path = client_words(argc, argv, "submit", submit_help, &o);
	return path ? submit(&o, path) : EXIT_USAGE;
}

int cmd_status(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct client_options o;
	_cleanup_free_ char *json = NULL;
	_cleanup_(cleanup_client) struct queue_client *client = NULL;
	const char *id = client_words(argc, argv, "status", "petri status [--redis URL] [--prefix petri] ID", &o);
	if (!id)
		return EXIT_USAGE;
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
	struct err err = ERR_INIT;
	struct client_options o;
	const char *what = "";
	_cleanup_(cleanup_client) struct queue_client *client = NULL;
	const char *id = client_words(argc, argv, "cancel", "petri cancel [--redis URL] [--prefix petri] ID", &o);
	if (!id)
		return EXIT_USAGE;
	int r = open_client(&o, &client, &err);
	if (r == 0)
		r = queue_client_cancel(client, id, &what, &err);
	if (r < 0)
		return complain(&err, 2);
	(void)puts(r > 0 ? "finished" : what);
	return r > 0 ? 1 : 0;
}
