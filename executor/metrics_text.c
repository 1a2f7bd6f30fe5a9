/*
 * The text format of Prometheus, version 0.0.4 (prometheus.io, "Exposition formats"). Each family is written once, with HELP and
 * TYPE before its samples. No label is ever taken from a job: the number of series is fixed when the worker starts.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/enforcement.h"
#include "executor/metrics.h"
#include "pool/leaf.h"

static void family(FILE *f, const char *name, const char *type, const char *help)
{
	(void)fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* In a label's value only these three need a backslash. */
static void value(FILE *f, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n')
			(void)fputs("\\n", f);
		else if (*text == '\\' || *text == '"')
			(void)fprintf(f, "\\%c", *text);
		else
			(void)fputc(*text, f);
	}
}

static void one(FILE *f, const char *name, const char *type, const char *help, uint64_t n)
{
	family(f, name, type, help);
	(void)fprintf(f, "%s %" PRIu64 "\n", name, n);
}

static void labelled(FILE *f, const char *name, const char *label, const char *is, uint64_t n)
{
	(void)fprintf(f, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, is, n);
}

/* Whole microseconds as seconds, without a locale's comma. */
static void seconds(FILE *f, uint64_t us)
{
	(void)fprintf(f, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
}

static void about(FILE *f, const struct metrics *m)
{
	family(f, "petri_build_info", "gauge", "The petri that runs; always 1.");
	(void)fputs("petri_build_info{version=\"" PETRI_VERSION "\",worker=\"", f);
	value(f, m->name);
	(void)fputs("\"} 1\n", f);
	family(f, "petri_start_time_seconds", "gauge", "When the worker process started, in seconds since 1970.");
	(void)fprintf(f, "petri_start_time_seconds %" PRIu64 ".%03" PRIu64 "\n", m->started_wall_ms / 1000, m->started_wall_ms % 1000);
	one(f, "petri_stopping", "gauge", "1 while the worker takes no more jobs and waits for those that run.", m->stopping);
}

static void jobs(FILE *f, const struct metrics *m)
{
	family(f, "petri_jobs_total", "counter", "Results, by status.");
	for (unsigned s = 0; s < STATUS_MAX; s++) {
		/* Some results the queue makes by itself: what is no job, and what was given up. */
		uint64_t more = s == STATUS_REJECTED ? m->queue.refused : s == STATUS_INTERNAL_ERROR ? m->queue.dead
												     : 0;
		labelled(f, "petri_jobs_total", "status", job_status_name(s), m->jobs[s] + more);
	}
	one(f, "petri_jobs_running", "gauge", "Jobs that were taken and have no result yet.", m->running);
	one(f, "petri_jobs_fetched_total", "counter", "Jobs taken from Redis.", m->queue.fetched);
	one(f, "petri_nursery_restarts_total", "counter", "How often petri-nursery died and was replaced.", m->nurseries);
	one(f, "petri_jobs_rerun_total", "counter", "Of these, jobs that somebody had taken before.", m->rerun);
	one(f, "petri_jobs_duplicate_total", "counter", "Deliveries dropped because the job's id had a result.", m->queue.duplicates);
	one(f, "petri_jobs_lost_total", "counter", "Jobs killed or dropped because their lease was somebody else's by then.", m->queue.lost);
	one(f, "petri_jobs_handed_back_total", "counter", "Jobs given back to the queue.", m->queue.handed_back);
	one(f, "petri_jobs_dead_total", "counter", "Jobs given up after too many attempts.", m->queue.dead);
	one(f, "petri_jobs_placed_total", "counter", "Jobs that got a slot.", m->placed);
	one(f, "petri_jobs_warm_total", "counter", "Of these, jobs that got a slot made for their image, policy and network.", m->warm);
}

static void steps(FILE *f, const struct metrics *m)
{
	static const char name[] = "petri_job_step_seconds";
	family(f, name, "histogram", "How long the steps of jobs took.");
	for (unsigned s = 0; s < METRICS_STEP_MAX; s++) {
		const struct metrics_histogram *h = &m->step[s];
		const char *step = metrics_step_name(s);
		uint64_t sum = 0;
		for (size_t i = 0; i < METRICS_BUCKETS; i++) {
			sum += h->count[i];
			(void)fprintf(f, "%s_bucket{step=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, step, (double)metrics_bucket_us[i] / 1e6, sum);
		}
		sum += h->count[METRICS_BUCKETS];
		(void)fprintf(f, "%s_bucket{step=\"%s\",le=\"+Inf\"} %" PRIu64 "\n%s_sum{step=\"%s\"} ", name, step, sum, name, step);
		seconds(f, h->sum_us);
		(void)fprintf(f, "\n%s_count{step=\"%s\"} %" PRIu64 "\n", name, step, sum);
	}
}

static void slots(FILE *f, const struct metrics *m)
{
	family(f, "petri_slots", "gauge", "Slots, by what they do.");
	for (unsigned s = 0; s < ENGINE_SLOT_MAX; s++)
		labelled(f, "petri_slots", "state", engine_slot_state_name(s), m->slots[s]);
}

static void redis(FILE *f, const struct metrics *m)
{
	one(f, "petri_redis_connected", "gauge", "1 while jobs can be taken from Redis.", m->queue.connected);
	one(f, "petri_results_held", "gauge", "Results and hand-backs that Redis has not confirmed.", m->queue.undelivered);
	one(f, "petri_results_spooled", "gauge", "Of those held, results that are on disk too.", m->queue.spooled);
	family(f, "petri_redis_errors_total", "counter", "Connections lost or refused, and errors that Redis answered, by kind.");
	for (unsigned i = 0; i < QUEUE_REDIS_ERRORS; i++)
		labelled(f, "petri_redis_errors_total", "kind", queue_redis_error_name(i), m->redis_errors[i]);
}

static void queue(FILE *f, const struct metrics *m)
{
	if (!m->look.at_us) /* absent rather than 0: nobody knows yet */
		return;
	family(f, "petri_queue_depth", "gauge", "Jobs that nobody has taken, tenants' included; priority worker: only for this worker.");
	for (unsigned i = 0; i < QUEUE_LOOKS; i++)
		labelled(f, "petri_queue_depth", "priority", queue_look_name(i), m->look.by[i].depth);
	family(f, "petri_queue_pending", "gauge", "Jobs that were taken, by anybody, and have no result.");
	for (unsigned i = 0; i < QUEUE_LOOKS; i++)
		labelled(f, "petri_queue_pending", "priority", queue_look_name(i), m->look.by[i].pending);
	family(f, "petri_queue_oldest_seconds", "gauge", "How long the first of those that wait has waited; 0 when none does.");
	for (unsigned i = 0; i < QUEUE_LOOKS; i++) {
		(void)fprintf(f, "petri_queue_oldest_seconds{priority=\"%s\"} ", queue_look_name(i));
		seconds(f, m->look.by[i].oldest_us);
		(void)fputc('\n', f);
	}
	one(f, "petri_queue_dead", "gauge", "Entries of the stream of jobs that were given up.", m->look.dead);
	one(f, "petri_queue_tenants", "gauge", "Tenants with jobs.", m->look.tenants);
	family(f, "petri_queue_read_age_seconds", "gauge", "How long ago Redis was asked for the petri_queue figures.");
	(void)fputs("petri_queue_read_age_seconds ", f);
	seconds(f, m->at_us > m->look.at_us ? m->at_us - m->look.at_us : 0);
	(void)fputc('\n', f);
}

static void host(FILE *f, const struct metrics *m)
{
	if (!m->host_known)
		return;
	family(f, "petri_host_info", "gauge", "Drivers that were chosen for this host; always 1.");
	(void)fprintf(f, "petri_host_info{cgroup=\"%s\",scratch=\"%s\",layers_idmapped=\"%s\",usr_idmapped=\"%s\"} 1\n",
		pool_driver_name(m->host.driver), pool_scratch_name(m->host.scratch), m->host.layers_idmapped ? "yes" : "no",
		m->host.usr_idmapped ? "yes" : "no");
	family(f, "petri_enforcement_info", "gauge", "By what a limit is enforced: 1; or 0, and what that would need.");
	for (size_t i = 0; i < enforcement_count(); i++) {
		struct enforcement e = enforcement_at(&m->host, i);
		(void)fprintf(f, "petri_enforcement_info{limit=\"%s\",by=\"", e.limit);
		value(f, e.by);
		(void)fprintf(f, "\"} %d\n", e.enforced);
	}
}

char *metrics_text(const struct metrics *metrics, long long dying, long long host_cgroups)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	about(f, metrics);
	jobs(f, metrics);
	steps(f, metrics);
	slots(f, metrics);
	redis(f, metrics);
	queue(f, metrics);
	host(f, metrics);
	if (dying >= 0)
		one(f, "petri_cgroups_dying", "gauge", "Removed cgroups of petri's that the kernel still keeps.", (uint64_t)dying);
	if (host_cgroups >= 0)
		one(f, "petri_host_memory_cgroups", "gauge", "Memory cgroups of the whole host, removed ones that linger included.",
			(uint64_t)host_cgroups);
	bool failed = ferror(f) != 0;
	if (fclose(f) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}
