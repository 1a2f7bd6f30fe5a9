/* struct job itself: defaults, names, refusals, release. Pure memory; runs in the worker and in `petri run`.
 */
#include "executor/job.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/utf8.h"

static const char *const network_names[JOB_NETWORK_MAX] = {
	[JOB_NETWORK_NONE] = "none", [JOB_NETWORK_LOOPBACK] = "loopback"};
static const char *const priority_names[JOB_PRIORITY_MAX] = {
	[JOB_PRIORITY_HIGH] = "high", [JOB_PRIORITY_NORMAL] = "normal", [JOB_PRIORITY_LOW] = "low"};
static const char *const reason_names[REJECT_REASON_MAX] = {[REJECT_INVALID] = "invalid",
	[REJECT_MISSING] = "missing",
	[REJECT_UNSUPPORTED] = "unsupported",
	[REJECT_TOO_LARGE] = "too_large"};

const char *job_network_name(enum job_network network)
{
	return network < JOB_NETWORK_MAX ? network_names[network] : "unknown";
}

enum job_network job_network_from_name(const char *name)
{
	unsigned i = 0;
	while (i < JOB_NETWORK_MAX && strcmp(name, network_names[i]) != 0)
		i++;
	return (enum job_network)i;
}

const char *job_priority_name(enum job_priority priority)
{
	return priority < JOB_PRIORITY_MAX ? priority_names[priority] : "unknown";
}

const char *reject_reason_name(enum reject_reason reason)
{
	return reason < REJECT_REASON_MAX ? reason_names[reason] : "unknown";
}

int reject_set(struct reject *reject, const char *field, enum reject_reason reason, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(reject->message, sizeof(reject->message), fmt, ap);
	va_end(ap);
	(void)snprintf(reject->field, sizeof(reject->field), "%s", field);
	/* Both go into JSON: a character must not be cut in half where a buffer ended. */
	utf8_trim(reject->message);
	utf8_trim(reject->field);
	reject->reason = reason;
	return 1;
}

bool job_id_valid(const char *id)
{
	size_t len = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
	return len > 0 && len <= JOB_ID_MAX && id[len] == '\0';
}

void job_init(struct job *job)
{
	/* Where strdup() fails, job_check() finds the NULL. */
	*job = (struct job){
		.image = strdup("host"),
		.policy = strdup("judge"),
		.network = JOB_NETWORK_NONE,
		.priority = JOB_PRIORITY_NORMAL,
		.limits = job_limits_default,
	};
}

static void free_strings(char **strings)
{
	for (char **s = strings; s && *s; s++)
		free(*s);
	free(strings);
}

void job_clear(struct job *job)
{
	free(job->image);
	free_strings(job->argv);
	free_strings(job->env);
	free(job->cwd);
	free(job->policy);
	free(job->stdin_source.data);
	for (size_t i = 0; i < job->nfiles; i++) {
		free(job->files[i].path);
		free(job->files[i].source.data);
	}
	free(job->files);
	for (size_t i = 0; i < job->ncollect; i++)
		free(job->collect[i].path);
	free(job->collect);
	free(job->commit);
	free(job->tenant);
	free(job->worker);
	free(job->reply);
	json_decref(job->meta);
	*job = (struct job){0};
}
