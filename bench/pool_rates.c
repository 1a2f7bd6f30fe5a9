/* petri-bench pool, second part: jobs a second with so and so many in flight, and posix_spawns in the same run. In the worker. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "bench/pool.h"

#define NATIVE_A_CPU 4u /* more posix_spawns at a time are no faster, and 10 000 would be 10 000 processes */

struct flight { /* a job that is under way */
	struct engine_job ej;
	struct pool_bench *bench;
	uint64_t t0_ns;
};

static void next_rate(struct pool_bench *b);

static uint64_t rate_deadline(const struct pool_bench *b)
{
	return b->options.rate_seconds > 0 ? b->rate_t0_us + (uint64_t)(b->options.rate_seconds * 1e6) : UINT64_MAX;
}

/* At least as many jobs as are to be in flight, or they never are. */
static unsigned jobs_wanted(const struct pool_bench *b)
{
	return MAX(b->options.runs, b->rates[b->rate].inflight);
}

static void on_done(struct engine_job *ej);

static void submit_one(struct pool_bench *b)
{
	struct flight *f = calloc(1, sizeof(*f));
	if (!f)
		abort();
	driver_job(&b->driver, &f->ej, b->subject.argv);
	f->bench = b;
	f->ej.user = f;
	f->ej.done = on_done;
	f->t0_ns = now_ns();
	b->submitted++;
	engine_start(b->driver.engine, &f->ej);
}

static void end_rate(struct pool_bench *b)
{
	struct pool_rate *rate = &b->rates[b->rate];
	double elapsed = (double)(now_us() - b->rate_t0_us);
	rate->jobs_per_s = b->ended * 1e6 / elapsed;
	rate->cpu_us = (double)(driver_cpu_us(b->yardstick.pid) - b->rate_cpu_us) / b->ended;
	b->rate++;
	next_rate(b);
}

static void on_done(struct engine_job *ej)
{
	struct flight *f = ej->user;
	struct pool_bench *b = f->bench;
	samples_add(&b->rates[b->rate].latency, now_ns() - f->t0_ns);
	driver_job_clear(&b->driver, ej, STATUS_EXITED);
	free(f);
	if (b->driver.failed)
		return;
	b->ended++;
	bool more = b->submitted < jobs_wanted(b) && (now_us() < rate_deadline(b) || b->submitted < b->rates[b->rate].inflight);
	if (more)
		submit_one(b);
	else if (b->ended == b->submitted)
		end_rate(b);
}

static void next_rate(struct pool_bench *b)
{
	if (b->rate == b->options.ninflight) {
		driver_finish(&b->driver);
		return;
	}
	struct pool_rate *rate = &b->rates[b->rate];
	unsigned most = NATIVE_A_CPU * (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	rate->inflight = b->options.inflight[b->rate];
	if (yardstick_rate(&b->yardstick, SUBJECT_NATIVE, b->options.runs, MIN(rate->inflight, most), b->options.rate_seconds, &rate->native) < 0) {
		driver_fail(&b->driver, "posix_spawn of %s failed", b->subject.programs[SUBJECT_NATIVE].argv[0]);
		return;
	}
	b->submitted = b->ended = 0;
	b->rate_cpu_us = driver_cpu_us(b->yardstick.pid);
	b->rate_t0_us = now_us();
	/* The count is taken first: a job may be done before engine_start() returns. */
	for (unsigned i = 0, n = rate->inflight; i < n && !b->driver.failed && b->submitted < n; i++)
		submit_one(b);
}

void pool_start_rates(struct pool_bench *b)
{
	double jobs = (double)b->done;
	b->floor_cpu_us /= jobs;
	b->native_cpu_us /= jobs;
	b->cpu_us = (double)(driver_cpu_us(b->yardstick.pid) - b->cpu_begin_us) / jobs;
	next_rate(b);
}
