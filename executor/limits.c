/* The table of limits, their bounds, and the check against them. Pure functions; runs in the worker and in
 * `petri run`. */
#include "executor/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "executor/limits_text.h"

#define MIB (1ULL << 20)
#define TIB (1ULL << 40)
#define DAY_MS 86400000ULL

const struct job_limits job_limits_default = {
	.wall_ms = 10000,
	.cpu_ms = 2000,
	.memory_bytes = 256 * MIB,
	.swap_bytes = 0,
	.pids = 64,
	.cpus_milli = 1000,
	.disk_bytes = 64 * MIB,
	.disk_inodes = 10000,
	.output_bytes = MIB,
	.open_files = 256,
	.stack_bytes = 64 * MIB,
};

const struct job_limits job_limits_ceiling = {
	.wall_ms = 30 * DAY_MS,
	.cpu_ms = 30 * DAY_MS,
	.memory_bytes = TIB,
	.swap_bytes = TIB,
	.pids = 4194304 - 8, /* PID_MAX_LIMIT of a 64-bit kernel, include/linux/threads.h */
	.cpus_milli = 1024000,
	.disk_bytes = 16 * TIB,
	.disk_inodes = 1000000000,
	/* For `petri run`. A Redis string holds 512 MiB and JSON may take six bytes for one: a worker's max_limits
	 * should stay under 40 MiB. */
	.output_bytes = 256 * MIB,
	.open_files = 1048576, /* fs.nr_open's default: setrlimit(2) refuses more */
	.stack_bytes = TIB,
	.io = {1000000000000000, 1000000000000000, 1000000000000000, 1000000000000000},
};

#define AT(member) offsetof(struct job_limits, member)

const struct limit limit_table[] = {
	{"wall_ms", "wall", LIMIT_DURATION, false, AT(wall_ms), 1, " ms", "wall-clock time"},
	{"cpu_ms", "cpu", LIMIT_DURATION, false, AT(cpu_ms), 1, " ms", "CPU time of all its tasks"},
	/* The kernel charges page tables, stacks and the program itself: below a MiB not even exec succeeds. */
	{"memory_bytes", "memory", LIMIT_SIZE, false, AT(memory_bytes), MIB, " bytes", "memory, page cache included"},
	{"swap_bytes", "swap", LIMIT_SIZE, false, AT(swap_bytes), 0, " bytes", "swap beside the memory"},
	{"pids", "pids", LIMIT_COUNT, false, AT(pids), 1, "", "processes and threads"},
	/* cpu.max takes no quota under 1 ms, a hundredth of the usual period of 100 ms. */
	{"cpus", "cpus", LIMIT_CPUS, false, AT(cpus_milli), 10, "", "CPUs' worth of time per period"},
	{"disk_bytes", "disk", LIMIT_SIZE, false, AT(disk_bytes), 4096, " bytes", "disk space"},
	{"disk_inodes", "inodes", LIMIT_COUNT, false, AT(disk_inodes), 16, "", "files and directories"},
	{"output_bytes", "output", LIMIT_SIZE, false, AT(output_bytes), 0, " bytes", "stdout and stderr, each"},
	/* Three standard streams, and one for the dynamic linker. */
	{"open_files", "open-files", LIMIT_COUNT, false, AT(open_files), 4, "", "open files of a process"},
	{"stack_bytes", "stack", LIMIT_SIZE, false, AT(stack_bytes), 65536, " bytes", "stack of the main thread"},
	{"cpuset", "cpuset", LIMIT_CPUSET, true, AT(cpuset), 0, "", "CPUs it may run on"},
	/* A throttled task sleeps uninterruptibly until its request is served, and a request may be a MiB:
	 * with a few bytes a second it could not be killed for hours. */
	{"io.rbps", NULL, LIMIT_SIZE, true, AT(io.rbps), 65536, " bytes/s", "bytes read a second"},
	{"io.wbps", NULL, LIMIT_SIZE, true, AT(io.wbps), 65536, " bytes/s", "bytes written a second"},
	{"io.riops", NULL, LIMIT_COUNT, true, AT(io.riops), 1, "/s", "reads a second"},
	{"io.wiops", NULL, LIMIT_COUNT, true, AT(io.wiops), 1, "/s", "writes a second"},
	{NULL},
};

const struct limit *limits_find(const char *name)
{
	for (const struct limit *limit = limit_table; limit->name; limit++)
		if (strcmp(limit->name, name) == 0)
			return limit;
	return NULL;
}

uint64_t limits_get(const struct job_limits *limits, const struct limit *limit)
{
	uint64_t value;
	memcpy(&value, (const char *)limits + limit->offset, sizeof(value));
	return value;
}

void limits_set(struct job_limits *limits, const struct limit *limit, uint64_t value)
{
	memcpy((char *)limits + limit->offset, &value, sizeof(value));
}

/* The most that a job may ask for: the ceiling, or what the worker allows. */
static uint64_t most(const struct limit *limit, const struct job_limits *max)
{
	uint64_t ceiling = limits_get(&job_limits_ceiling, limit);
	if (!max || (limit->optional && limits_get(max, limit) == 0))
		return ceiling;
	return MIN(ceiling, limits_get(max, limit));
}

int limits_check_one(const struct limit *limit, uint64_t value, const struct job_limits *max, const char *field,
	struct reject *reject)
{
	char given[LIMIT_TEXT_MAX], bound[LIMIT_TEXT_MAX];
	limit_text_number(limit, value, given);
	if (value < limit->min) {
		limit_text_number(limit, limit->min, bound);
		return reject_set(reject, field, REJECT_INVALID, "%s is too little: the least is %s%s", given, bound,
			limit->unit);
	}
	uint64_t top = most(limit, max);
	if (value > top) {
		limit_text_number(limit, top, bound);
		return reject_set(reject, field, REJECT_TOO_LARGE, "%s is too much: the most here is %s%s", given,
			bound, limit->unit);
	}
	return 0;
}

/* CPU numbers end at 65535, parse_cpu_list(). */
struct cpu_bits {
	uint64_t words[1024];
};

/* @list has passed parse_cpu_list(); of anything else only what precedes the fault counts. */
static void cpu_bits_read(const char *list, struct cpu_bits *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (const char *p = list; *p;) {
		char *end;
		unsigned long lo = strtoul(p, &end, 10), hi = lo;
		if (*end == '-')
			hi = strtoul(end + 1, &end, 10);
		for (unsigned long cpu = lo; cpu <= MIN(hi, 65535UL); cpu++)
			ret->words[cpu / 64] |= 1ULL << (cpu % 64);
		if (*end != ',')
			break;
		p = end + 1;
	}
}

static bool lies_within(const char *inner, const char *outer)
{
	struct cpu_bits in, out;
	cpu_bits_read(inner, &in);
	cpu_bits_read(outer, &out);
	for (size_t i = 0; i < ARRAY_SIZE(in.words); i++)
		if (in.words[i] & ~out.words[i])
			return false;
	return true;
}

bool limits_cpuset_within(const char *cpuset, const cpu_set_t *cpus)
{
	struct cpu_bits in;
	cpu_bits_read(cpuset, &in);
	for (size_t cpu = 0; cpu < ARRAY_SIZE(in.words) * 64; cpu++)
		if ((in.words[cpu / 64] & 1ULL << (cpu % 64)) && (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, cpus)))
			return false;
	return true;
}

static int check_cpuset(const char *cpuset, const struct job_limits *max, struct reject *reject)
{
	if (!*cpuset)
		return 0;
	if (parse_cpu_list(cpuset, NULL, NULL) < 0)
		return reject_set(
			reject, "limits.cpuset", REJECT_INVALID, "'%.100s' is not a CPU list such as 0-1,3", cpuset);
	if (max && max->cpuset[0] && !lies_within(cpuset, max->cpuset))
		return reject_set(reject, "limits.cpuset", REJECT_TOO_LARGE,
			"'%.100s' holds CPUs outside this worker's %.100s", cpuset, max->cpuset);
	return 0;
}

int limits_check(const struct job_limits *limits, const struct job_limits *max, struct reject *reject)
{
	for (const struct limit *limit = limit_table; limit->name; limit++) {
		if (limit->kind == LIMIT_CPUSET)
			continue;
		uint64_t value = limits_get(limits, limit);
		if (limit->optional && value == 0)
			continue;
		char field[64];
		(void)snprintf(field, sizeof(field), "limits.%s", limit->name);
		int r = limits_check_one(limit, value, max, field, reject);
		if (r != 0)
			return r;
	}
	return check_cpuset(limits->cpuset, max, reject);
}

void limits_cap(struct job_limits *limits, const struct job_limits *max)
{
	for (const struct limit *limit = limit_table; limit->name; limit++) {
		if (limit->kind == LIMIT_CPUSET)
			continue;
		uint64_t value = limits_get(limits, limit), cap = limits_get(max, limit);
		/* Taking over an io cap means asking for a driver of io limits: only where the operator set
		 * one. */
		if (limit->optional && (cap == 0 || cap >= limits_get(&job_limits_ceiling, limit)))
			continue;
		if (value > cap || (limit->optional && value == 0))
			limits_set(limits, limit, cap);
	}
	if (!limits->cpuset[0])
		memcpy(limits->cpuset, max->cpuset, sizeof(limits->cpuset));
}
