/*
 * The helper thread beside the loop (executor/offload.h), with many tasks: in order, each worked on once, handed over and back with all of
 * their memory, added from the end of others, and its end while it is busy. Plain words on purpose, no atomics: what orders them is what
 * is tested, by the sums and, under ThreadSanitizer, by every access.
 *
 * Seen to fail under TSan, each at once, with this taken out of executor/offload.c:
 * - on_event()'s lock around take(): "data race … in take";
 * - run()'s lock around put(): "data race … in put";
 * - offload_add()'s lock: "data race … in take";
 * - pthread_join() in offload_free(): "data race … in destroy".
 */
#include <stdbool.h>
#include <time.h>

#include "base/err.h"
#include "executor/offload.h"
#include "tests/threads/check.h"

#define BURST 3000u
#define CHAINS 16u
#define LENGTH 200u
#define ROUNDS 60u
#define WORDS 64u

struct piece {
	struct offload_task task;
	unsigned seed, left;
	unsigned words[WORDS]; /* the thread's from offload_add() until done() */
	struct piece *next;    /* of those that a round keeps */
};

static struct loop *loop;
static struct offload *offload;
static unsigned ended, last_seed;
static bool over; /* offload_free() was called: nothing may come any more */

static void work(struct offload_task *task)
{
	struct piece *p = task->data;
	for (unsigned i = 0; i < WORDS; i++)
		p->words[i] += p->seed + i;
}

static void look(const struct piece *p, unsigned times)
{
	CHECK(!over, "done() after offload_free()");
	CHECK(!p->task.away, "still away");
	for (unsigned i = 0; i < WORDS; i++)
		CHECK(p->words[i] == times * (p->seed + i), "word %u of task %u is %u", i, p->seed, p->words[i]);
	ended++;
}

static void done_once(struct offload_task *task)
{
	struct piece *p = task->data;
	look(p, 1);
	CHECK(p->seed == last_seed + 1, "task %u after %u", p->seed, last_seed);
	last_seed = p->seed;
	free(p);
}

static void done_again(struct offload_task *task)
{
	struct piece *p = task->data;
	look(p, LENGTH - --p->left);
	if (p->left)
		offload_add(offload, task);
	else
		free(p);
}

static struct piece *piece_new(unsigned seed, void (*done)(struct offload_task *))
{
	struct piece *p = calloc(1, sizeof(*p));
	CHECK(p, "no memory");
	p->task = (struct offload_task){.work = work, .done = done, .data = p};
	p->seed = seed;
	p->left = LENGTH;
	return p;
}

static void set_up(void)
{
	struct err err = ERR_INIT;
	CHECK(loop_new(16, &loop, &err) == 0, "%s", err_msg(&err));
	CHECK(offload_new(loop, &offload, &err) == 0, "%s", err_msg(&err));
	ended = last_seed = 0;
	over = false;
}

static void step_until(unsigned n)
{
	struct err err = ERR_INIT;
	while (ended < n)
		CHECK(loop_step(loop, &err) == 0, "%s", err_msg(&err));
	CHECK(ended == n, "%u ends for %u tasks", ended, n);
}

static void many(void)
{
	set_up();
	for (unsigned i = 1; i <= BURST; i++)
		offload_add(offload, &piece_new(i, done_once)->task);
	step_until(BURST);
	offload_free(offload);
	loop_free(loop);
}

static void from_the_end_of_others(void)
{
	set_up();
	for (unsigned i = 0; i < CHAINS; i++)
		offload_add(offload, &piece_new(i * 7, done_again)->task);
	step_until(CHAINS * LENGTH);
	offload_free(offload);
	loop_free(loop);
}

static void done_kept(struct offload_task *task)
{
	look(task->data, 1);
}

/* A task that had begun is waited for, and its memory is the owner's again, all of it worked on or none. */
static void freed_while_busy(unsigned round)
{
	struct piece *all = NULL;
	const struct timespec pause = {.tv_nsec = (long)(round % 10) * 20000};
	set_up();
	for (unsigned i = 0; i < 100; i++) {
		struct piece *p = piece_new(i, done_kept);
		p->next = all;
		all = p;
		offload_add(offload, &p->task);
	}
	(void)nanosleep(&pause, NULL);
	if (round % 2) {
		struct err err = ERR_INIT;
		CHECK(loop_step(loop, &err) == 0, "%s", err_msg(&err));
	}
	offload_free(offload);
	over = true;
	while (all) {
		struct piece *p = all;
		bool begun = p->words[1] != 0;
		for (unsigned i = 0; i < WORDS; i++)
			CHECK(p->words[i] == (begun ? p->seed + i : 0), "word %u of task %u is %u", i, p->seed, p->words[i]);
		all = p->next;
		free(p);
	}
	loop_free(loop);
}

int main(void)
{
	many();
	from_the_end_of_others();
	for (unsigned i = 0; i < ROUNDS; i++)
		freed_while_busy(i);
	return 0;
}
