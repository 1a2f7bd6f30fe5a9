/*
 * A job's outputs when those that fetch them do not answer, or nobody wants them any more. The job is one that has ended well.
 *
 * Taken out once: the timer of ask(): "no deadline"; `fresh_room` of on_no_answer(): "in the same room"; of collect_commit_reply(): the same;
 * collect_abandon() in engine_cancel(): "it is waited for".
 */
#include "executor_engine.h"

#define PATIENCE_US 30000000u

static struct engine_job ej;
static struct seat *seat;
static int helper = -1;
static bool done;

static void on_done(struct engine_job *unused)
{
	(void)unused;
	done = true;
}

/* The job has ended: its outputs are asked for. */
static struct run *end_job(bool commit)
{
	struct wire_msg msg;
	int fds[FD_PASS_MAX];
	struct run *run = calloc(1, sizeof(*run));
	seat = make_seat();
	make_zygote(seat);
	job_init(&ej.job);
	ej.done = on_done;
	ej.run = run;
	ej.result.status = STATUS_EXITED;
	if (commit) {
		ej.job.commit = strdup("/work");
	} else {
		ej.job.collect = calloc(1, sizeof(*ej.job.collect));
		ej.job.collect[ej.job.ncollect++].path = strdup("/work/out");
	}
	*run = (struct run){.engine = engine, .ej = &ej, .seat = seat, .stage = RUN_COLLECTING, .cause = STATUS_MAX, .open_sock = -1, .stdin_blob = -1};
	seat->run = run;
	seat->state = SEAT_ENDING;
	engine->running++;
	collect_start(run);
	cr_assert_eq(asked(WIRE_OPEN, &msg, fds), 2);
	helper = fds[0];
	close(fds[1]);
	return run;
}

static void on_guard(struct loop_timer *timer)
{
	*(bool *)timer->data = true;
}

/* Until the job is done. */
static void wait_done(void)
{
	bool late = false;
	struct loop_timer guard = {.fn = on_guard, .data = &late};
	loop_timer_set(loop, &guard, now_us() + 5000000);
	while (!done && !late)
		step();
	loop_timer_clear(loop, &guard);
	cr_assert(done, "it is waited for");
}

static void check_next_room(bool fresh)
{
	struct wire_msg msg;
	int fds[FD_PASS_MAX];
	fd_close_many(fds, asked(WIRE_STAMP, &msg, fds));
	cr_assert_eq(msg.plan.fresh_room, fresh, "%s", fresh ? "in the same room" : "in a room of its own");
}

static void check_internal_error(const char *part)
{
	cr_assert_eq(ej.result.status, STATUS_INTERNAL_ERROR);
	cr_assert(strstr(ej.result.message, part), "%s", ej.result.message);
}

/* The helper gives the directory that is to be committed. Return: the number of the request to the supervisor. */
static uint32_t give_directory(void)
{
	static struct commit_request request;
	const struct open_reply reply = {.error = 0};
	int fds[FD_PASS_MAX] = {open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	size_t n = 1;
	tell(helper, &reply, sizeof(reply), fds, 1);
	cr_assert_eq(fd_recv(supervisor, &request, sizeof(request), fds, &n, 0), (ssize_t)sizeof(request));
	fd_close_many(fds, n);
	cr_assert_eq(request.kind, COMMIT_LAYER);
	return request.seq;
}

static void tear_down_all(void)
{
	engine_end(engine);
	job_clear(&ej.job);
	close(helper);
	tear_down();
}

TestSuite(collect, .init = set_up, .fini = tear_down_all, .timeout = 60);

Test(collect, a_helper_that_does_not_answer)
{
	struct run *run = end_job(false);
	cr_assert(run->answer.heap_index, "no deadline");
	cr_assert(run->answer.deadline_us > now_us() + PATIENCE_US / 2 && run->answer.deadline_us <= now_us() + PATIENCE_US);
	loop_timer_set(loop, &run->answer, now_us()); /* the time has gone by */
	wait_done();
	check_internal_error("has not answered for 30 s");
	check_next_room(true);
}

Test(collect, a_helper_that_answers_in_the_last_moment)
{
	const struct open_reply reply = {.error = -ENOENT};
	struct run *run = end_job(false);
	cr_assert_eq(fd_send(helper, &reply, sizeof(reply), NULL, 0), 0);
	loop_timer_set(loop, &run->answer, now_us());
	wait_done();
	/* Whichever of the two the ring brought first. */
	if (ej.result.status == STATUS_EXITED)
		cr_assert(strstr(ej.result.message, "No such file"), "%s", ej.result.message);
	else
		check_internal_error("has not answered");
}

Test(collect, a_helper_that_answers)
{
	struct open_reply reply = {.error = -ENOENT};
	(void)end_job(false);
	tell(helper, &reply, sizeof(reply), NULL, 0);
	wait_done();
	cr_assert_eq(ej.result.status, STATUS_EXITED);
	check_next_room(false);
}

Test(collect, a_commit_that_stands_still)
{
	struct commit_reply reply = {.error = -ETIMEDOUT, .message = "it has not run"};
	struct run *run = end_job(true);
	reply.seq = give_directory();
	cr_assert_not(run->answer.heap_index, "of those the supervisor takes care");
	tell(supervisor, &reply, sizeof(reply), NULL, 0);
	wait_done();
	check_internal_error("it has not run");
	check_next_room(true);
}

static void lose_nursery(void)
{
	(void)shutdown(nursery, SHUT_RDWR);
	while (!engine->dead)
		step();
	engine_cancel(engine, &ej);
}

Test(collect, a_commit_that_nobody_waits_for)
{
	struct commit_reply reply = {.error = 0};
	(void)end_job(true);
	reply.seq = give_directory();
	lose_nursery();
	wait_done();
	cr_assert_eq(ej.result.status, STATUS_CANCELLED);
	tell(supervisor, &reply, sizeof(reply), NULL, 0);
	cr_assert_not(ej.result.has_layer, "an answer that came too late");
}

Test(collect, a_helper_that_nobody_waits_for)
{
	(void)end_job(false);
	lose_nursery();
	wait_done();
	cr_assert_eq(ej.result.status, STATUS_CANCELLED);
}
