/* What enforces each limit on a host, in words. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "pool/wire.h"

struct enforcement {
	const char *limit; /* static strings */
	bool enforced;
	const char *by; /* or what it would need */
};

size_t enforcement_count(void);
/* enforcement_at - of the host that a nursery's hello and a leaf have described. */
struct enforcement enforcement_at(const struct wire_host *host, size_t i);
