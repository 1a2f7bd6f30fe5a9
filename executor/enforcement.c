/* Which limit is enforced by what on this host: a table of drivers, read by `petri doctor` and the metrics. */
#include "executor/enforcement.h"

#include "base/cleanup.h"
#include "pool/leaf.h"

struct row {
	const char *limit;
	enum knob knob[POOL_DRIVER_MAX];
	const char *by[POOL_DRIVER_MAX];
	const char *needs;
};

static const struct row rows[] = {
	{"memory", {KNOB_MEMORY_MAX, KNOB_MEMORY_MAX}, {"memory.max, memory.oom.group", "memory.limit_in_bytes, memory.oom_control"},
		"the memory controller"},
	{"swap", {KNOB_SWAP_MAX, KNOB_SWAP_MAX}, {"memory.swap.max", "memory.memsw.limit_in_bytes"}, "swap accounting"},
	{"memory peak", {KNOB_MEMORY_PEAK, KNOB_MEMORY_PEAK}, {"memory.peak", "memory.max_usage_in_bytes"}, "Linux 5.19"},
	{"cpus", {KNOB_CPU_MAX, KNOB_CPU_MAX}, {"cpu.max", "cpu.cfs_quota_us"}, "the cpu controller"},
	{"cpu time", {KNOB_CPU_STAT, KNOB_CPU_STAT}, {"cpu.stat and a deadline", "cpu.stat and a deadline"}, "a cgroup v2 tree"},
	{"pids", {KNOB_PIDS_MAX, KNOB_PIDS_MAX}, {"pids.max", "pids.max"}, "the pids controller"},
	{"pids peak", {KNOB_PIDS_PEAK, KNOB_PIDS_PEAK}, {"pids.peak", "pids.peak"}, "a newer kernel; shown as 0"},
	{"cpuset", {KNOB_CPUSET, KNOB_CPUSET}, {"cpuset.cpus", "cpuset.cpus"}, "the cpuset controller"},
	{"io", {KNOB_IO_MAX, KNOB_IO_MAX}, {"io.max", "blkio.throttle.* (reads and direct writes; scratch on tmpfs never reaches a disk)"},
		"the io controller"},
	{"kill", {KNOB_KILL, KNOB_KILL}, {"cgroup.kill", "cgroup.kill"}, "Linux 5.14"},
};

static const char *disk_by(const struct wire_host *host)
{
	return host->scratch == POOL_SCRATCH_QUOTA ? "project quota" : "tmpfs size and inodes (counts as memory too)";
}

size_t enforcement_count(void)
{
	return ARRAY_SIZE(rows) + 1;
}

struct enforcement enforcement_at(const struct wire_host *host, size_t i)
{
	if (i >= ARRAY_SIZE(rows) || host->driver >= POOL_DRIVER_MAX)
		return (struct enforcement){"disk", true, disk_by(host)};
	bool have = host->knobs & (1u << rows[i].knob[host->driver]);
	return (struct enforcement){rows[i].limit, have, have ? rows[i].by[host->driver] : rows[i].needs};
}
