/* What the supervisor, the worker and the supervisor's children may do; the nursery sees to itself. */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "executor/confine.h"

/* privileges_supervisor - keep what it and the nursery need, first of all. Return: 0 or -errno. */
int privileges_supervisor(struct err *err);
/* privileges_layer - in a child of it that stores a layer: less. */
int privileges_layer(struct err *err);
/*
 * privileges_worker - become the worker's user, without any capability, confined (executor/confine.h). For the worker, and for what
 * does the worker's work elsewhere. @store: the state directory; @spool: or 0; @parent: with which it dies.
 */
int privileges_worker(const struct confine_needs *needs, int store, int spool, pid_t parent, struct err *err);
