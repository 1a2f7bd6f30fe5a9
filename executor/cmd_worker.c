/* petri worker: its options, which are its settings as well, and its start. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "executor/cli.h"
#include "executor/core_sched.h"
#include "executor/limits_options.h"
#include "executor/metrics_http.h"
#include "executor/redis_options.h"
#include "executor/supervisor.h"
#include "executor/unenforced.h"
#include "executor/worker.h"
#include "pool/wire.h"

#define GIVEN_MAX 256

/* The command line comes last but is read first, since it names the file. */
struct worker_command {
	const char *file;
	bool check, print;
	size_t ngiven;
	struct {
		const struct option *option;
		const char *value;
	} given[GIVEN_MAX];
};

static int take_limit(void *target, const struct option *option, const char *value, struct err *err)
{
	struct worker_config *c = target;
	struct err own = ERR_INIT;
	int r = limits_flag(&c->max_limits, option->name + strlen("max-"), value, &own);
	/* It names the flag of `petri run`. */
	const char *rest = strstr(err_msg(&own), ": ");
	return r < 0 ? err_say(err, -r, "%s", rest ? rest + 2 : err_msg(&own)) : 0;
}

static void show_limit(const void *target, const struct option *option, char ret[OPTION_TEXT_MAX])
{
	const struct worker_config *c = target;
	limits_show(&c->max_limits, option->name + strlen("max-"), ret);
}

static const struct option *max_limits(void)
{
	static struct limit_options set;
	static struct worker_config defaults;
	static const struct option like = {.take = take_limit, .show = show_limit};
	if (!set.rows[0].name)
		worker_config_init(&defaults);
	return limits_options(&set, "max-", &like, &defaults.max_limits, false);
}

#define SETTING(member) OPTION_AT(struct worker_config, member)

static const struct option options[] = {
	{.name = "config", .arg = "FILE", .kind = OPTION_WORD, .command_only = true, .complete = COMPLETE_FILE, .help = "read settings from a file", .more = "Also PETRI_WORKER_CONFIG. See CONFIGURATION FILE."},
	{.name = "check-config", .kind = OPTION_SWITCH, .command_only = true, .help = "print all settings and where each comes from, and exit", .more = "Exits 0, or 125 with what is wrong. Needs neither root (unless the credentials file does) nor Redis."},
	{.name = "print-config", .kind = OPTION_SWITCH, .command_only = true, .help = "print a configuration file with all settings, commented out, and exit"},
	{.name = "redis", .arg = "URL", .kind = OPTION_BUFFER, SETTING(redis), .standard = REDIS_DEFAULT, .env = "PETRI_REDIS", .help = REDIS_URL_HELP, .more = REDIS_URL_MORE},
	{.name = "redis-credentials-file", .arg = "FILE", .kind = OPTION_BUFFER, SETTING(redis_credentials_file), .env = "PETRI_REDIS_CREDENTIALS_FILE", .complete = COMPLETE_FILE, .help = REDIS_CREDENTIALS_HELP, .more = REDIS_CREDENTIALS_MORE},
	{.name = "prefix", .arg = "PREFIX", .kind = OPTION_BUFFER, SETTING(prefix), .standard = "petri", .help = REDIS_PREFIX_HELP, .more = "1 to 64 of letters, digits and . _ { } -."},
	{.name = "name", .arg = "NAME", .kind = OPTION_BUFFER, SETTING(name), .standard = "the host's name", .help = "the worker's name, which no other worker of the queue may have", .more = "1 to 127 of letters, digits and . _ -."},
	{.name = "slots", .arg = "N", .kind = OPTION_COUNT, SETTING(slots), .min = 1, .max = POOL_SLOTS_MAX, .standard = "the number of CPUs", .help = "jobs at a time", .more = "Each takes 28 file descriptors of the worker."},
	{.name = "lease", .arg = "DURATION", .kind = OPTION_DURATION, SETTING(lease_ms), .min = 300, .max = 86400000, .standard = "30s", .help = "after so long without renewal another worker takes a job over"},
	{.name = "max-attempts", .arg = "N", .kind = OPTION_COUNT, SETTING(max_attempts), .min = 1, .max = 100, .standard = "3", .help = "how often a job is started before it is given up", .more = "Its result is then internal_error, and an entry of the stream PREFIX:dead tells of it."},
	{.name = "max-queue", .arg = "N", .kind = OPTION_COUNT, SETTING(max_queue), .min = 0, .max = 1000000000, .standard = "0", .help = "petri submit turns jobs away when so many wait in their stream; 0: no bound", .more = "The worker writes it to the key PREFIX:max_queue, which stays, and which clients of your own should read too. Workers of a queue need the same number; to have none again, take it from all of them and delete the key."},
	{.name = "result-ttl", .arg = "DURATION", .kind = OPTION_DURATION, SETTING(result_ttl_ms), .min = 1000, .max = 2592000000, .standard = "1h", .help = "how long results stay in Redis"},
	{.name = "grace", .arg = "DURATION", .kind = OPTION_DURATION, SETTING(grace_ms), .min = 0, .max = 86400000, .standard = "30s", .help = "how long running jobs may finish after SIGTERM"},
	{.name = "allow-volatile-redis", .kind = OPTION_SWITCH, SETTING(allow_volatile), .help = "take a Redis that may lose accepted jobs", .more = "Without it the worker refuses a Redis without appendonly yes, appendfsync always and maxmemory-policy noeviction."},
	{.name = "warm-image", .arg = "IMAGE[=SLOTS],...", .kind = OPTION_BUFFER, SETTING(warm_image), .standard = "host", .help = "what idle slots are made for before the first job", .more = "One image, or a list such as gcc:13=4,python:3.11=2, where so many slots are kept for an image whatever else arrives."},
	{.name = "warm-policy", .arg = "POLICY", .kind = OPTION_BUFFER, SETTING(warm_policy), .standard = "judge", .help = "and with which policy"},
	{.name = "allow-unenforced", .arg = "LIMIT,...", .kind = OPTION_BUFFER, SETTING(allow_unenforced), .help = UNENFORCED_HELP, .more = UNENFORCED_MORE},
	{.name = "policies", .arg = "DIR", .kind = OPTION_BUFFER, SETTING(policies), .standard = "/etc/petri/policies", .complete = COMPLETE_DIRECTORY, .help = "a directory of policies, looked in before the built-in ones"},
	{.name = "metrics", .arg = "WHERE", .kind = OPTION_BUFFER, SETTING(metrics), .standard = "off", .help = "where to serve metrics and health over HTTP: off, on or [ADDRESS:]PORT", .more = "on is " METRICS_DEFAULT "; a port alone is on loopback. /metrics is for Prometheus, /healthz tells whether jobs can be run."},
	{.name = "pin", .kind = OPTION_SWITCH, SETTING(pin), .help = "run the jobs of slot i on CPU i", .more = "Modulo their number, unless a job asks for a cpuset; the worker keeps to CPUs that no slot has, where there are any."},
	{.name = "keep-cache", .arg = "WHEN", .kind = OPTION_BUFFER, SETTING(keep_cache), .standard = "on", .choices = "on off", .help = "images' files stay cached on no job's account: on or off", .more = "on: files that jobs were the first to read are read again on the account of the cgroup petri/cache, so that later jobs neither pay for them nor wait for the disk. off: each job's are reclaimed when it has ended."},
	{.name = "core-sched", .arg = "WHEN", .kind = OPTION_BUFFER, SETTING(core_sched), .standard = "off", .choices = CORE_SCHED_CHOICES, .help = CORE_SCHED_HELP, .more = CORE_SCHED_MORE},
	{.name = "state", .arg = "DIR", .kind = OPTION_BUFFER, SETTING(state), .standard = DEFAULT_STATE, .env = "PETRI_STATE", .complete = COMPLETE_DIRECTORY, .help = "the store's directory"},
	{.name = "scratch", .arg = "KIND", .kind = OPTION_BUFFER, SETTING(scratch), .standard = "auto", .choices = "auto tmpfs", .help = "where jobs write: auto or tmpfs", .more = "auto is the store's filesystem where that enforces project quotas, else a tmpfs."},
	{.name = "project-ids", .arg = "FIRST-LAST", .kind = OPTION_BUFFER, SETTING(project_ids), .env = "PETRI_PROJECT_IDS", .standard = "those that the store has on record", .help = "project ids of the slots, where scratch has disk quotas"},
	{.name = "log-level", .arg = "LEVEL", .kind = OPTION_BUFFER, SETTING(log_level), .standard = "warn", .env = "PETRI_LOG", .choices = "debug info warn warning error", .help = "what is logged to standard error"},
	{.name = "log-format", .arg = "FORMAT", .kind = OPTION_BUFFER, SETTING(log_format), .standard = "text", .env = "PETRI_LOG_FORMAT", .choices = "text json", .help = "how: text or json", .more = "json is an object a line: time, level, process, pid, message, and job where a message is about one."},
	{0},
};

static int take(void *target, const struct option *option, const char *value, struct err *err)
{
	struct worker_command *c = target;
	if (strcmp(option->name, "config") == 0)
		c->file = value;
	else if (strcmp(option->name, "check-config") == 0)
		c->check = true;
	else if (strcmp(option->name, "print-config") == 0)
		c->print = true;
	else if (c->ngiven == GIVEN_MAX)
		return err_say(err, E2BIG, "too many options");
	else {
		c->given[c->ngiven].option = option;
		c->given[c->ngiven++].value = value;
	}
	return 0;
}

static const struct exit_code codes[] = {
	{"0", "ended as it was told to"},
	{"125", "a wrong setting, a host that cannot run jobs, or a Redis that cannot be used"},
	{0},
};

static const struct manual_section sections[] = {
	{"CONFIGURATION FILE",
		"Lines 'name = value' with the options' names without dashes; '#' begins a comment; a switch is true or false. Values with '#' or "
		"double quotes in them, or blanks at their ends, stand in double quotes. The most that a job may ask for is set in the section "
		"[max_limits], with the names and units of petri run's limits.\n\n"
		"    redis = unix:///run/redis/redis.sock\n    slots = 8\n    [max_limits]\n    memory = 1G\n    wall = 1m\n\n"
		"Unknown names, values of a wrong type or out of range and settings given twice are errors, which name file, line and setting. "
		"petri worker --print-config prints such a file. A file that begins with '{' is read as a JSON object of the same settings, with "
		"durations as strings and max_limits like a job's limits."},
	{"ENVIRONMENT",
		"Each setting can be given as PETRI_WORKER_NAME, in capitals and with underscores: PETRI_WORKER_RESULT_TTL=2h, "
		"PETRI_WORKER_MAX_MEMORY=1G. The environment takes precedence over the file, and flags over both. PETRI_REDIS, "
		"PETRI_REDIS_CREDENTIALS_FILE, PETRI_STATE, PETRI_LOG and PETRI_LOG_FORMAT mean the same as for the other verbs. An unknown "
		"variable that begins with PETRI_WORKER_ is an error."},
	{"SIGNALS",
		"On SIGTERM, SIGINT or SIGHUP the worker fetches no more, lets running jobs finish for the grace period, kills the rest and "
		"hands them back to the queue. A second signal ends the patience at once; a third kills the worker, whose jobs are then run again "
		"by whoever takes their leases over."},
	{"SYSTEMD",
		"With NOTIFY_SOCKET in the environment the supervisor tells systemd when the worker is ready and when it stops, and with "
		"WATCHDOG_USEC feeds its watchdog for as long as the worker's loop and the nursery answer. In a unit with Delegate=yes petri moves "
		"itself into a group below the unit's and makes its jobs' groups beside it."},
	{0},
};

const struct verb worker_verb = {
	.name = "worker",
	.summary = "run jobs from Redis",
	.fn = cmd_worker,
	.forms = (const char *const[]){"[--config FILE] [OPTIONS]", "--check-config [--config FILE] [OPTIONS]", "--print-config", NULL},
	.about = "Takes jobs from the queue in Redis, runs them and writes their results, until it is told to stop.",
	.options = options,
	.limits = max_limits,
	.limits_title = "The most that a job may ask for",
	.codes = codes,
	.sections = sections,
	.take = take,
};

static int configure(struct worker_config *config, const struct worker_command *command, struct err *err)
{
	const char *env = getenv(WORKER_ENV "CONFIG"), *file = command->file ? command->file : env && *env ? env
													   : NULL;
	worker_config_init(config);
	int r = file ? worker_config_load(config, file, err) : 0;
	if (r == 0)
		r = worker_config_environment(config, environ, err);
	for (size_t i = 0; r == 0 && i < command->ngiven; i++) {
		r = setting_apply(config, command->given[i].option, command->given[i].value, (struct setting_source){.origin = ORIGIN_FLAG}, err);
		if (r < 0)
			(void)err_wrap(err, "--%s", command->given[i].option->name);
	}
	return r == 0 ? worker_config_check(config, err) : r;
}

static void set_log(const struct worker_config *config)
{
	enum log_level level;
	enum log_format format;
	if (log_parse_level(config->log_level, &level) == 0)
		log_set_level(level);
	if (log_parse_format(config->log_format, &format) == 0)
		log_set_format(format);
}

int cmd_worker(int argc, char **argv)
{
	static struct worker_config config;
	static struct worker_command command;
	struct err err = ERR_INIT;
	char **words;
	int code;
	if (!verb_parse(&worker_verb, &command, argc, argv, &words, &code))
		return code;
	if (command.print) {
		worker_config_print_default(stdout);
		return 0;
	}
	if (configure(&config, &command, &err) < 0)
		return verb_complain(&worker_verb, "%s", err_msg(&err));
	if (command.check) {
		worker_config_print(&config, stdout);
		return 0;
	}
	set_log(&config);
	struct supervisor_config s = {.state = config.state, .nslots = config.slots, .force_tmpfs = strcmp(config.scratch, "tmpfs") == 0, .project_ids = config.project_ids, .spool = config.name, .restart = true, .stop_ms = config.grace_ms, .handles_signals = true, .core_sched = config.core_sched, .keep_cache = strcmp(config.keep_cache, "on") == 0, .needs = {.network = true, .threads = true, .listen = strcmp(config.metrics, "off") != 0, .dirs = {config.policies}}, .worker = worker_main, .ctx = &config};
	return supervise(&s);
}
