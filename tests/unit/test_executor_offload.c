/* The helper thread beside the loop. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "executor/offload.h"

#define TASKS 100

static struct loop *loop;
static struct offload *offload;
static pthread_t here;

struct sum {
	struct offload_task task;
	unsigned n, result, order;
	bool elsewhere;
	unsigned *ended;
};

static void set_up(void)
{
	struct err err = ERR_INIT;
	here = pthread_self();
	cr_assert_eq(loop_new(16, &loop, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(offload_new(loop, &offload, &err), 0, "%s", err_msg(&err));
}

static void tear_down(void)
{
	offload_free(offload);
	loop_free(loop);
}

TestSuite(offload, .init = set_up, .fini = tear_down, .timeout = 60);

static void add_up(struct offload_task *task)
{
	struct sum *s = task->data;
	s->elsewhere = !pthread_equal(pthread_self(), here);
	for (unsigned i = 1; i <= s->n; i++)
		s->result += i;
}

static void ended(struct offload_task *task)
{
	struct sum *s = task->data;
	cr_assert(pthread_equal(pthread_self(), here));
	cr_assert_not(task->away);
	s->order = (*s->ended)++;
}

static void step(void)
{
	struct err err = ERR_INIT;
	cr_assert_eq(loop_step(loop, &err), 0, "%s", err_msg(&err));
}

Test(offload, in_order_and_elsewhere)
{
	static struct sum sums[TASKS];
	unsigned n = 0;
	for (unsigned i = 0; i < TASKS; i++) {
		sums[i] = (struct sum){.task = {.work = add_up, .done = ended, .data = &sums[i]}, .n = i, .ended = &n};
		offload_add(offload, &sums[i].task);
		cr_assert(sums[i].task.away);
		cr_assert_leq(n, 0); /* nothing is called from inside */
	}
	while (n < TASKS)
		step();
	for (unsigned i = 0; i < TASKS; i++) {
		cr_assert_eq(sums[i].result, i * (i + 1) / 2);
		cr_assert_eq(sums[i].order, i);
		cr_assert(sums[i].elsewhere);
	}
}

static void look_at_signals(struct offload_task *task)
{
	sigset_t *blocked = task->data;
	(void)pthread_sigmask(SIG_SETMASK, NULL, blocked);
}

static void told(struct offload_task *task)
{
	task->data = NULL;
}

/* The worker's filter answers a call that it does not know by SIGSYS, which kills where it is blocked. With all signals blocked: "expected
 * SIGSYS to be the only one that comes". */
Test(offload, signals)
{
	sigset_t blocked;
	struct offload_task task = {.work = look_at_signals, .done = told, .data = &blocked};
	(void)sigemptyset(&blocked);
	offload_add(offload, &task);
	while (task.data)
		step();
	cr_assert(!sigismember(&blocked, SIGSYS) && sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGCHLD), "expected SIGSYS to be the only one that comes");
}

static void add_again(struct offload_task *task)
{
	struct sum *s = task->data;
	ended(task);
	if (*s->ended < 10)
		offload_add(offload, task);
}

Test(offload, again_from_its_end)
{
	unsigned n = 0;
	struct sum s = {.task = {.work = add_up, .done = add_again, .data = &s}, .n = 4, .ended = &n};
	offload_add(offload, &s.task);
	while (n < 10)
		step();
	cr_assert_eq(s.result, 100);
}

Test(offload, without_a_thread)
{
	unsigned n = 0;
	struct sum s = {.task = {.work = add_up, .done = ended, .data = &s}, .n = 4, .ended = &n};
	offload_add(NULL, &s.task);
	cr_assert_eq(n, 1);
	cr_assert_eq(s.result, 10);
	cr_assert_not(s.elsewhere);
}

static void dawdle(struct offload_task *task)
{
	usleep(200000);
	add_up(task);
}

/* What it is at is waited for, since its owner frees the memory next; the rest is forgotten. */
Test(offload, the_end)
{
	unsigned n = 0;
	struct sum first = {.task = {.work = dawdle, .done = ended, .data = &first}, .n = 4, .ended = &n}, second = first;
	second.task.data = &second;
	offload_add(offload, &first.task);
	offload_add(offload, &second.task);
	usleep(50000);
	offload_free(TAKE_PTR(offload));
	cr_assert_eq(first.result, 10);
	cr_assert_eq(second.result, 0);
	cr_assert_eq(n, 0);
}
