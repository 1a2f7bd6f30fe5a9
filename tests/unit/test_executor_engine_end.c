/* An engine that has lost its nursery: what the ring still brings afterwards. The test plays the nursery, and its zygote. */
#include "executor_engine.h"

TestSuite(engine_end, .init = set_up, .fini = tear_down, .timeout = 60);

/*
 * The leaf is closed with the engine, and the number of its eventfd may be another file's by the time that an event is told which came before. With
 * the number kept: "it read from another file".
 */
Test(engine_end, an_oom_event_that_came_before)
{
	struct seat *seat = make_seat();
	int other[2];
	uint64_t bytes = 1;
	make_zygote(seat);
	cr_assert(seat->oom_op.armed);
	int number = seat->oom_fd;
	engine_end(engine);
	cr_assert_eq(pipe2(other, O_NONBLOCK), 0);
	cr_assert_eq(write(other[1], &bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
	if (other[0] != number)
		cr_assert_eq(dup2(other[0], number), number);
	struct pollfd p = {.fd = number, .events = POLLIN};
	while (seat->oom_op.armed && poll(&p, 1, 0) == 1)
		step();
	if (!seat->oom_op.armed)
		seat->oom_op.fn(&seat->oom_op, POLLIN);
	bool kept = poll(&p, 1, 0) == 1, waits = seat->oom_op.armed;
	close(number);
	close(other[0]);
	close(other[1]);
	loop_cancel(loop, &seat->oom_op);
	cr_assert(kept, "it read from another file");
	cr_assert_not(waits, "it waits for another file");
}
