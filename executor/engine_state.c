/* What the engine's slots are doing, and which limits they can enforce: for heartbeat and metrics. Worker. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "executor/engine_internal.h"
#include "executor/limits.h"

const char *engine_slot_state_name(enum engine_slot_state state)
{
	static const char *const names[ENGINE_SLOT_MAX] = {"ready", "running", "stamping", "retired"};
	return (unsigned)state < ENGINE_SLOT_MAX ? names[state] : "?";
}

void engine_slots(const struct engine *engine, unsigned ret[ENGINE_SLOT_MAX])
{
	static const enum engine_slot_state as[] = {
		[SEAT_NONE] = ENGINE_SLOT_STAMPING,
		[SEAT_STAMPING] = ENGINE_SLOT_STAMPING,
		[SEAT_READY] = ENGINE_SLOT_READY,
		[SEAT_RESIZING] = ENGINE_SLOT_RUNNING,
		[SEAT_RUNNING] = ENGINE_SLOT_RUNNING,
		[SEAT_ENDING] = ENGINE_SLOT_RUNNING,
		[SEAT_RETIRED] = ENGINE_SLOT_RETIRED,
	};
	memset(ret, 0, sizeof(*ret) * ENGINE_SLOT_MAX);
	for (unsigned i = 0; i < engine->nseats; i++)
		ret[as[engine->seats[i].state]]++;
}

/* A job that asks for this limit and nothing else: would it be refused because of it? */
static bool enforces(const struct engine *engine, const struct leaf *leaf, const char *name)
{
	const struct {
		const char *name;
		struct leaf_limits limits;
	} probes[] = {
		{"swap_bytes", {.swap_bytes = 1}},
		{"cpus", {.cpus_milli = 1000}},
		{"cpuset", {.cpuset = "0"}},
		{"io.rbps", {.io.rbps = 1}},
		{"io.wbps", {.io.wbps = 1}},
		{"io.riops", {.io.riops = 1}},
		{"io.wiops", {.io.wiops = 1}},
	};
	struct leaf_limits plain = {0};
	const struct leaf_limits *limits = &plain;
	const char *needs, *refused;
	size_t at = 0;
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
		if (strcmp(probes[i].name, name) == 0)
			limits = &probes[i].limits;
	while ((refused = leaf_supports(leaf, &engine->host, limits, &at, &needs)))
		if (strcmp(refused, name) == 0)
			return false;
	return true;
}

static const struct leaf *any_leaf(const struct engine *engine)
{
	for (unsigned i = 0; i < engine->nseats; i++)
		if (engine->seats[i].leaf.fd[KNOB_KILL] >= 0)
			return &engine->seats[i].leaf;
	return NULL;
}

bool engine_cgroup(const struct engine *engine, char *buf, size_t cap)
{
	char link[64], path[512];
	const struct leaf *leaf = any_leaf(engine);
	if (!leaf)
		return false;
	/* The nursery chose it, and names no paths: but the kernel knows where a slot's file is. */
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", leaf->fd[KNOB_KILL]);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	path[MAX(n, 0)] = '\0';
	char *slot = strstr(path, "/slot-");
	if (!slot || (size_t)(slot - path) >= cap)
		return false;
	*slot = '\0';
	(void)snprintf(buf, cap, "%s", path);
	return true;
}

bool engine_limits(const struct engine *engine, char *buf, size_t cap)
{
	const struct leaf *leaf = any_leaf(engine);
	size_t n = 0;
	if (!leaf)
		return false;
	buf[0] = '\0';
	for (const struct limit *limit = limit_table; limit->name; limit++) {
		size_t len = strlen(limit->name);
		if (!enforces(engine, leaf, limit->name) || n + len + 2 > cap)
			continue;
		n += (size_t)snprintf(buf + n, cap - n, "%s%s", n ? " " : "", limit->name);
	}
	return true;
}
