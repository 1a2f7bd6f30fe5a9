/*
 * A job's stdin when the ring fails it. The job is one that does not read.
 *
 * Taken out once: the error of on_writable(), then of no consequence: "it waits for the rest".
 */
#include "executor_engine.h"

#define INPUT_BYTES (1u << 20) /* more than a pipe takes */

static struct engine_job ej;
static struct run *run;

static void start_job(void)
{
	struct seat *seat = make_seat();
	make_zygote(seat);
	job_init(&ej.job);
	ej.job.stdin_source = (struct job_source){.kind = JOB_SOURCE_DATA, .data = calloc(1, INPUT_BYTES), .len = INPUT_BYTES};
	run = calloc(1, sizeof(*run));
	*run = (struct run){.engine = engine, .ej = &ej, .seat = seat, .stage = RUN_STARTED, .cause = STATUS_MAX, .open_sock = -1, .stdin_blob = -1};
	run->empty.fn = NULL; /* not due while this lasts */
	seat->run = run;
	seat->state = SEAT_RUNNING;
	streams_start(run);
	cr_assert(seat->zygote->in_op.armed, "it took all of it");
}

static void tear_down_all(void)
{
	loop_timer_clear(loop, &run->empty);
	engine_end(engine);
	free(run);
	job_clear(&ej.job);
	tear_down();
}

TestSuite(stdin, .init = set_up, .fini = tear_down_all, .timeout = 60);

/* As the ring tells it of an operation that it had no memory for. */
static void fail_wait(void)
{
	struct zygote_ref *z = run->seat->zygote;
	void (*fn)(struct loop_op *, int) = z->in_op.fn;
	fn(&z->in_op, -ENOMEM);
}

Test(stdin, a_wait_that_fails)
{
	start_job();
	fail_wait();
	cr_assert_eq(run->cause, STATUS_INTERNAL_ERROR, "it waits for the rest");
	cr_assert(strstr(ej.result.message, "cannot wait for stdin"), "%s", ej.result.message);
	cr_assert_lt(run->seat->zygote->in, 0);
}

Test(stdin, a_wait_that_fails_when_the_job_has_ended)
{
	start_job();
	run->exit_seen = true;
	fail_wait();
	cr_assert_eq(run->cause, STATUS_MAX, "its end is another now");
}
