/*
 * A thread beside the loop, for work on memory alone that would keep the loop from its deadlines: JSON of megabytes. One task at a time, in the
 * order in which they came. A task is embedded in its owner, and from offload_add() until done() was called nothing that it works on may be
 * touched elsewhere.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "executor/loop.h"

struct offload;

struct offload_task {
	void (*work)(struct offload_task *task); /* in the thread */
	void (*done)(struct offload_task *task); /* from the loop, afterwards; may free the owner */
	void *data;				 /* the owner's */
	struct offload_task *next;
	bool away; /* between the two */
};

/* offload_new - start the thread; it takes no signals. Return: 0 or -errno. */
int offload_new(struct loop *loop, struct offload **ret, struct err *err);
/* offload_add - have it done. @offload may be NULL: then both are called from here. */
void offload_add(struct offload *offload, struct offload_task *task);
/* offload_free - wait for what the thread is at and end it; what it has not begun is forgotten, and done() is not called any more. Not from
 * within done(). The memory goes with the loop's next step, or with the loop. */
void offload_free(struct offload *offload);
