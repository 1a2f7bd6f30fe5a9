/* Limits that the operator lets jobs run without, where the host cannot enforce them: allow-unenforced. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct leaf_limits;

#define UNENFORCED_HELP "limits that jobs may run without where this host cannot enforce them"
#define UNENFORCED_MORE "Of cpus, cpuset, swap_bytes, io.rbps, io.wbps, io.riops and io.wiops. A job that asks for one is then not rejected but runs without it, and its result names it in unenforced. What can be enforced is."

/* unenforced_check - is it a list of such limits ("io.rbps,io.wbps"), or empty? Return: 0, or -EINVAL with the name that is none. */
int unenforced_check(const char *list, struct err *err);

/* unenforced_allows - is @name in @list, a checked one or NULL? */
bool unenforced_allows(const char *list, const char *name);

/* unenforced_clear - take it from the limits that the leaf is given. */
void unenforced_clear(struct leaf_limits *limits, const char *name);
