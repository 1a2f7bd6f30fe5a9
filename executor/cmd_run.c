/*
 * petri run: one job, no Redis, no set-up. The parent (root) opens what the caller named with the caller's own rights;
 * the worker child parses the job, runs it and relays the streams. See the design's "Command line".
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "executor/cli.h"
#include "executor/core_sched.h"
#include "executor/engine.h"
#include "executor/limits_options.h"
#include "executor/supervisor.h"
#include "executor/unenforced.h"

#define RELAY_CHUNK 4096 /* PIPE_BUF: a write of no more than this to a writable pipe does not block, pipe(7) */

struct relay {
	struct loop_op op;
	int fd;
	size_t at;
	const struct result_stream *stream;
	struct run_command *command;
};

struct run_command {
	const char *state, *result_path, *policies, *scratch, *core_sched, *allow_unenforced;
	char *json; /* --job */
	size_t json_len;
	int stdin_fd, result_fd;
	bool flags; /* some flag described the job */
	struct engine_job ej;
	struct engine *engine;
	struct loop *loop;
	struct relay out, errs;
	struct loop_op signal_op;
	int signals;
	bool started, done;
	int exit_code;
	bool refused; /* a flag's value is no good: reported like a job's field */
};

/* ---- building the job from flags ---- */
/* The first refusal counts, and is reported as a rejected job. */
static void refuse(struct run_command *c, const char *field, enum reject_reason reason, const char *message)
{
	if (c->refused)
		return;
	c->refused = true;
	(void)reject_set(&c->ej.result.reject, field, reason, "%s", message);
}

static int append(char ***list, const char *value)
{
	size_t n = 0;
	while (*list && (*list)[n])
		n++;
	char **bigger = realloc(*list, (n + 2) * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	*list = bigger;
	bigger[n] = strdup(value);
	bigger[n + 1] = NULL;
	return bigger[n] ? 0 : -ENOMEM;
}

static int replace(char **at, const char *value)
{
	free(*at);
	*at = strdup(value);
	return *at ? 0 : -ENOMEM;
}

static int add_file(struct job *job, const char *spec, struct err *err)
{
	const char *equals = strchr(spec, '=');
	if (!equals || equals == spec || !equals[1])
		return err_say(err, EINVAL, "wants DEST=SRC, not '%s'", spec);
	struct stat st;
	_cleanup_close_ int fd = open(equals + 1, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "%s", equals + 1);
	if (!S_ISREG(st.st_mode))
		return err_say(err, EINVAL, "%s: not a regular file", equals + 1);
	char self[64];
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	/* The check against the disk limit names the field; this bound only keeps memory sane. */
	_cleanup_close_ int again = open(self, O_RDONLY | O_CLOEXEC);
	if ((uint64_t)st.st_size > job_limits_ceiling.output_bytes)
		return err_say(err, EFBIG, "%s is too large; put it into the store with `petri blob put`", equals + 1);
	char *data = malloc((size_t)st.st_size + 1);
	ssize_t n = data && again >= 0 ? fd_read_all(again, data, (size_t)st.st_size) : -ENOMEM;
	struct job_file *bigger = n < 0 ? NULL : realloc(job->files, (job->nfiles + 1) * sizeof(*bigger));
	if (!bigger) {
		free(data);
		return err_say(err, EIO, "%s: cannot read it", equals + 1);
	}
	job->files = bigger;
	struct job_file *file = &job->files[job->nfiles++];
	*file = (struct job_file){.path = strndup(spec, (size_t)(equals - spec)),
		.mode = st.st_mode & 0777,
		.source = {.kind = JOB_SOURCE_DATA, .data = data, .len = (size_t)n}};
	return file->path ? 0 : err_set(err, ENOMEM, "take it");
}

static void add_layer(struct run_command *c, struct job *job, const char *id)
{
	struct err err = ERR_INIT;
	if (job->nlayers == JOB_LAYERS_MAX)
		refuse(c, "layers", REJECT_TOO_LARGE, "too many layers");
	else if (parse_id128(id, job->layers[job->nlayers], &err) < 0)
		refuse(c, "layers", REJECT_INVALID, err_msg(&err));
	else
		job->nlayers++;
}

static int add_collect(struct job *job, const char *path)
{
	struct job_collect *bigger = realloc(job->collect, (job->ncollect + 1) * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	job->collect = bigger;
	job->collect[job->ncollect] = (struct job_collect){.path = strdup(path)};
	return job->collect[job->ncollect++].path ? 0 : -ENOMEM;
}

/* The options that describe the job; each has its row in options[]. */
static int take_job(void *target, const struct option *option, const char *v, struct err *err)
{
	struct run_command *c = target;
	struct job *job = &c->ej.job;
	int r = 0;
	c->flags = true;
	if (strcmp(option->name, "image") == 0)
		r = replace(&job->image, v);
	else if (strcmp(option->name, "layer") == 0)
		add_layer(c, job, v);
	else if (strcmp(option->name, "policy") == 0)
		r = replace(&job->policy, v);
	else if (strcmp(option->name, "file") == 0)
		return add_file(job, v, err);
	else if (strcmp(option->name, "collect") == 0)
		r = add_collect(job, v);
	else if (strcmp(option->name, "commit") == 0)
		r = replace(&job->commit, v);
	else if (strcmp(option->name, "env") == 0)
		r = append(&job->env, v);
	else if (strcmp(option->name, "cwd") == 0)
		r = replace(&job->cwd, v);
	else if (strcmp(v, "none") == 0 || strcmp(v, "loopback") == 0)
		job->network = *v == 'n' ? JOB_NETWORK_NONE : JOB_NETWORK_LOOPBACK;
	else
		refuse(c, "network", REJECT_INVALID, "network is none or loopback");
	return r < 0 ? err_set(err, r, "take it") : 0;
}

static const char *limit_field(const char *flag, char *buf, size_t cap)
{
	(void)snprintf(buf, cap, "limits.%s", flag); /* io has no single member */
	for (const struct limit *l = limit_table; l->name; l++)
		if (l->flag && strcmp(l->flag, flag) == 0)
			(void)snprintf(buf, cap, "limits.%s", l->name);
	return buf;
}

static int take_limit(void *target, const struct option *option, const char *value, struct err *err)
{
	struct run_command *c = target;
	struct err why = ERR_INIT;
	char field[96];
	(void)err;
	c->flags = true;
	int r = limits_flag(&c->ej.job.limits, option->name, value, &why);
	if (r < 0)
		refuse(c, limit_field(option->name, field, sizeof(field)), r == -ERANGE ? REJECT_TOO_LARGE : REJECT_INVALID, err_msg(&why));
	return 0;
}

static int take_document(void *target, const struct option *option, const char *path, struct err *err)
{
	struct run_command *c = target;
	(void)option;
	free(c->json);
	c->json = NULL;
	return cli_document(path, &c->json, &c->json_len, err);
}

static int take_stdin(void *target, const struct option *option, const char *path, struct err *err)
{
	struct run_command *c = target;
	(void)option;
	c->flags = true;
	c->stdin_fd = open(path, O_RDONLY | O_CLOEXEC);
	return c->stdin_fd < 0 ? err_set(err, errno, "open %s", path) : 0;
}

static const struct option *limits(void)
{
	static struct limit_options set;
	static const struct option like = {.take = take_limit};
	return limits_options(&set, "", &like, &job_limits_default, true);
}

#define RUN(member) OPTION_AT(struct run_command, member)
/* Initialisers, which take no parentheses. NOLINTNEXTLINE(bugprone-macro-parentheses) */
#define JOB(row_name, row_arg, row_help) .name = row_name, .arg = row_arg, .help = row_help, .kind = OPTION_CALL, .take = take_job

static const struct option options[] = {
	{JOB("image", "NAME", "the root filesystem"), .standard = "host: this machine's own /usr"},
	{JOB("layer", "ID", "a layer over the image; the last is uppermost"), .repeats = true},
	{JOB("policy", "POLICY", "which system calls it may make"), .standard = "judge", .more = "judge, default, or one of the directory of policies."},
	{.name = "stdin", .arg = "FILE", .kind = OPTION_CALL, .take = take_stdin, .complete = COMPLETE_FILE, .help = "its standard input, instead of petri's own"},
	{JOB("file", "DEST=SRC", "a file in the sandbox, with SRC's content and permission bits"), .repeats = true, .complete = COMPLETE_FILE},
	{JOB("collect", "PATH", "keep a file of the sandbox in the store when it ends"), .repeats = true, .more = "The result names its blob."},
	{JOB("commit", "DIR", "make a layer of a directory of the sandbox when it ends")},
	{JOB("env", "K=V", "a variable of its environment"), .repeats = true, .more = "Nothing of petri's own environment is passed on."},
	{JOB("cwd", "DIR", "where it begins"), .standard = "/work"},
	{JOB("network", "KIND", "none or loopback"), .standard = "none"},
	{.name = "result", .arg = "FILE|-", .kind = OPTION_WORD, RUN(result_path), .complete = COMPLETE_FILE, .help = "write the whole result there, as JSON"},
	{.name = "job", .arg = "FILE|-", .kind = OPTION_CALL, .take = take_document, .complete = COMPLETE_FILE, .help = "a job document instead of all that describes the job"},
	{.name = "policies", .arg = "DIR", .kind = OPTION_WORD, RUN(policies), .complete = COMPLETE_DIRECTORY, .standard = "/etc/petri/policies", .help = "a directory of policies, looked in before the built-in ones"},
	{.name = "scratch", .arg = "KIND", .kind = OPTION_WORD, RUN(scratch), .choices = "auto tmpfs", .standard = "auto", .help = "where it writes: auto or tmpfs"},
	{.name = "allow-unenforced", .arg = "LIMIT,...", .kind = OPTION_WORD, RUN(allow_unenforced), .help = UNENFORCED_HELP, .more = UNENFORCED_MORE},
	{.name = "core-sched", .arg = "WHEN", .kind = OPTION_WORD, RUN(core_sched), .standard = "off", .choices = CORE_SCHED_CHOICES, .help = CORE_SCHED_HELP, .more = CORE_SCHED_MORE},
	STATE_OPTION(struct run_command, state),
	{0},
};

static const struct exit_code codes[] = {
	{"N", "the program's own"},
	{"128+N", "signaled by signal N"},
	{"124", "cpu_limit, wall_limit"},
	{"137", "memory_limit"},
	{"153", "output_limit"},
	{"122", "disk_limit"},
	{"159", "violation"},
	{"130", "cancelled"},
	{"126, 127", "exec_failed: not executable, not found"},
	{"125", "rejected, internal_error, a wrong command line, or a host that cannot run jobs"},
	{0},
};

static const struct manual_section sections[] = {
	{"RESULT",
		"The last line on standard error begins 'petri: status='. A program's own exit code may equal any of those below; --result tells "
		"them apart."},
	{0},
};

const struct verb run_verb = {
	.name = "run",
	.summary = "run one program in a sandbox",
	.fn = cmd_run,
	.forms = (const char *const[]){"[OPTIONS] [--] ARGV...", "--job JOB.json|-", NULL},
	.about = "Runs one program in a sandbox. Needs no Redis and no set-up. Standard input, output and error are passed through.",
	.options = options,
	.limits = limits,
	.limits_title = "Limits",
	.max_words = -1,
	.program = true,
	.complete = COMPLETE_FILE,
	.codes = codes,
	.sections = sections,
};

/* Return: true to go on; false with *ret_exit set. */
static bool parse(struct run_command *c, int argc, char **argv, int *ret_exit)
{
	char **words;
	if (!verb_parse(&run_verb, c, argc, argv, &words, ret_exit))
		return false;
	*ret_exit = EXIT_USAGE;
	for (; *words; words++)
		if (append(&c->ej.job.argv, *words) < 0)
			return verb_complain(&run_verb, "%s", strerror(ENOMEM)), false;
	if (c->json && c->ej.job.argv)
		return verb_complain(&run_verb, "a program beside --job: the job document says what to run"), false;
	if (c->json && c->flags)
		return verb_complain(&run_verb, "flags of the job beside --job: the job document says it all"), false;
	struct err err = ERR_INIT;
	if (c->allow_unenforced && unenforced_check(c->allow_unenforced, &err) < 0)
		return verb_complain(&run_verb, "--allow-unenforced: %s", err_msg(&err)), false;
	if (!c->result_path)
		return true;
	c->result_fd = strcmp(c->result_path, "-") == 0 ? STDOUT_FILENO : open(c->result_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (c->result_fd < 0)
		return verb_complain(&run_verb, "--result %s: %s", c->result_path, strerror(errno)), false;
	return true;
}

/* ---- in the worker ---- */
static void maybe_stop(struct run_command *c)
{
	if (c->done && !c->out.op.armed && !c->errs.op.armed)
		loop_stop(c->loop);
}

static void relay_on(struct relay *r);

static void on_relay(struct loop_op *op, int res)
{
	struct relay *r = op->data;
	/* A reader that went away (POLLERR) ends the relay; a file that cannot be polled is written to as it is. */
	if (res > 0 && (res & (POLLERR | POLLNVAL)) && !(res & POLLOUT)) {
		r->fd = -1;
	} else {
		ssize_t n = write(r->fd, r->stream->data + r->at, MIN(r->stream->len - r->at, (size_t)RELAY_CHUNK));
		if (n > 0)
			r->at += (size_t)n;
		else if (n < 0 && errno != EINTR && errno != EAGAIN)
			r->fd = -1;
	}
	relay_on(r);
	maybe_stop(r->command);
}

static void relay_on(struct relay *r)
{
	if (r->fd >= 0 && !r->op.armed && r->at < r->stream->len)
		loop_poll(r->command->loop, &r->op, r->fd, POLLOUT);
}

static void on_output(struct engine_job *ej)
{
	struct run_command *c = ej->user;
	relay_on(&c->out);
	relay_on(&c->errs);
}

static void quote(char *out, size_t cap, const char *text)
{
	size_t n = 0;
	for (; *text && n + 2 < cap; text++)
		out[n++] = (char)(*text == '"' || (unsigned char)*text < 0x20 ? '\'' : *text);
	out[n] = '\0';
}

static void print_summary(const struct result *r)
{
	char message[600];
	(void)fprintf(stderr, "petri: status=%s", job_status_name(r->status));
	if (r->status == STATUS_EXITED)
		(void)fprintf(stderr, " exit=%d", r->exit_code);
	if (r->status == STATUS_SIGNALED)
		(void)fprintf(stderr, " signal=%d", r->term_signal);
	if (r->status == STATUS_VIOLATION)
		(void)fprintf(stderr, " syscall=%s", r->violation);
	if (r->status == STATUS_REJECTED)
		(void)fprintf(stderr, " field=%s reason=%s", r->reject.field, reject_reason_name(r->reject.reason));
	else
		(void)fprintf(stderr, " wall=%.1fms cpu=%.1fms memory=%.1fMiB", (double)r->usage.wall_us / 1e3,
			(double)(r->usage.cpu_user_us + r->usage.cpu_system_us) / 1e3,
			(double)r->usage.memory_peak_bytes / 1048576.0);
	if (r->has_layer) {
		char id[ID128_TEXT_MAX];
		format_id128(r->layer, id);
		(void)fprintf(stderr, " layer=%s", id);
	}
	if (r->message[0]) {
		quote(message, sizeof(message), r->message);
		(void)fprintf(stderr, " message=\"%s\"", message);
	}
	(void)fputc('\n', stderr);
}

static int write_result(struct run_command *c)
{
	_cleanup_free_ char *json = result_json(&c->ej.result);
	if (!json) {
		log_error("no memory for the result");
		return -ENOMEM;
	}
	int r = fd_write_all(c->result_fd, json, strlen(json));
	if (r == 0)
		r = fd_write_all(c->result_fd, "\n", 1);
	if (r < 0)
		log_error("--result %s: %s", c->result_path, strerror(-r));
	return r;
}

static void on_done(struct engine_job *ej)
{
	struct run_command *c = ej->user;
	c->done = true;
	c->exit_code = result_exit_code(&ej->result);
	relay_on(&c->out);
	relay_on(&c->errs);
	maybe_stop(c);
}

static void on_capacity(void *ctx)
{
	struct run_command *c = ctx;
	if (c->started)
		return;
	c->started = true;
	engine_start(c->engine, &c->ej);
}

static void on_fatal(void *ctx, const struct err *err)
{
	struct run_command *c = ctx;
	if (!c->done) {
		c->ej.result.status = STATUS_INTERNAL_ERROR;
		(void)snprintf(c->ej.result.message, sizeof(c->ej.result.message), "%s", err_msg(err));
		on_done(&c->ej);
	}
	loop_stop(c->loop);
}

static void on_signal(struct loop_op *op, int res)
{
	struct run_command *c = op->data;
	struct signalfd_siginfo info;
	(void)res;
	while (read(c->signals, &info, sizeof(info)) == sizeof(info))
		if (c->done) {
			loop_stop(c->loop); /* whoever reads our output is stuck: leave */
		} else if (info.ssi_signo != SIGCHLD) {
			if (c->started)
				engine_cancel(c->engine, &c->ej);
			else
				loop_stop(c->loop);
		}
	loop_poll(c->loop, op, c->signals, POLLIN);
}

static int check_job(struct run_command *c)
{
	struct reject why = {0};
	int r;
	if (c->json) {
		job_clear(&c->ej.job);
		r = job_parse(c->json, c->json_len, NULL, &c->ej.job, &why);
		(void)snprintf(c->ej.result.id, sizeof(c->ej.result.id), "%s", c->ej.job.id);
		c->ej.result.meta = json_incref(c->ej.job.meta);
	} else {
		c->ej.job.stdin_source.kind = JOB_SOURCE_STREAM;
		r = job_check(&c->ej.job, NULL, &why);
	}
	if (r == 0)
		return 0;
	c->ej.result.status = r > 0 ? STATUS_REJECTED : STATUS_INTERNAL_ERROR;
	c->ej.result.reject = why;
	(void)snprintf(c->ej.result.message, sizeof(c->ej.result.message), "%s", r > 0 ? why.message : "out of memory");
	c->exit_code = result_exit_code(&c->ej.result);
	return 1;
}

static int run_in_worker(const struct worker_fds *fds, void *ctx)
{
	struct run_command *c = ctx;
	struct err err = ERR_INIT;
	c->loop = fds->loop;
	c->ej.user = c;
	c->ej.stdin_fd = c->stdin_fd;
	c->ej.output = on_output;
	c->ej.done = on_done;
	c->ej.result.attempt = 1;
	c->out = (struct relay){.op = {.fn = on_relay, .data = &c->out}, .fd = STDOUT_FILENO, .stream = &c->ej.result.out, .command = c};
	c->errs = (struct relay){.op = {.fn = on_relay, .data = &c->errs}, .fd = STDERR_FILENO, .stream = &c->ej.result.errout, .command = c};
	if (check_job(c) == 0) {
		const char *const dirs[] = {c->policies, NULL};
		struct engine_config config = {.loop = c->loop, .store = fds->store, .nursery = fds->nursery, .supervisor = fds->supervisor, .name = "run", .policy_dirs = dirs, .warm_image = c->ej.job.image, .warm_policy = c->ej.job.policy, .one_job = true, .allow_unenforced = c->allow_unenforced, .capacity = on_capacity, .fatal = on_fatal, .ctx = c};
		if (sched_getaffinity(0, sizeof(config.cpus), &config.cpus) < 0)
			CPU_ZERO(&config.cpus);
		c->signals = worker_signals();
		c->signal_op = (struct loop_op){.fn = on_signal, .data = c};
		int r = c->signals < 0 ? err_set(&err, errno, "make a signalfd") : engine_new(&config, &c->engine, &err);
		if (r == 0) {
			loop_poll(c->loop, &c->signal_op, c->signals, POLLIN);
			r = loop_run(c->loop, &err);
		}
		if (r < 0) {
			log_error("%s", err_msg(&err));
			return EXIT_USAGE;
		}
		if (!c->done) { /* interrupted before it could start */
			c->ej.result.status = STATUS_CANCELLED;
			c->exit_code = result_exit_code(&c->ej.result);
		}
	}
	print_summary(&c->ej.result);
	if (c->result_fd >= 0 && write_result(c) < 0)
		return EXIT_USAGE;
	return c->exit_code;
}

int cmd_run(int argc, char **argv)
{
	static struct run_command c = {.policies = "/etc/petri/policies", .stdin_fd = STDIN_FILENO, .result_fd = -1};
	int code;
	job_init(&c.ej.job);
	if (!parse(&c, argc, argv, &code))
		return code;
	if (c.refused) {
		c.ej.result.status = STATUS_REJECTED;
		(void)snprintf(c.ej.result.message, sizeof(c.ej.result.message), "%s", c.ej.result.reject.message);
		print_summary(&c.ej.result);
		if (c.result_fd >= 0 && write_result(&c) < 0)
			return EXIT_USAGE;
		return result_exit_code(&c.ej.result);
	}
	struct supervisor_config config = {.state = state_dir(c.state), .nslots = 1, .force_tmpfs = c.scratch && strcmp(c.scratch, "tmpfs") == 0, .handles_signals = true, .core_sched = c.core_sched, .needs = {.dirs = {c.policies}}, .worker = run_in_worker, .ctx = &c};
	return supervise(&config);
}
