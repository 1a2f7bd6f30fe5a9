/*
 * A slot's cgroup leaf as the worker sees it: a set of file descriptors ("knobs") that the nursery opened. Writing
 * through an inherited fd works for an unprivileged process, so limits, kills and usage never pass the nursery.
 * Sources: kernel Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "pool/wire.h"

/* One name for the same thing on both drivers. The file on cgroup v2, then on the hybrid's v1 hierarchies: */
enum knob {
	KNOB_KILL,	    /* cgroup.kill; the same on the v2 tree */
	KNOB_EVENTS,	    /* cgroup.events; the same */
	KNOB_MEMORY_MAX,    /* memory.max; memory.limit_in_bytes */
	KNOB_SWAP_MAX,	    /* memory.swap.max; memory.memsw.limit_in_bytes (memory and swap together) */
	KNOB_SOCKETS_MAX,   /* -; memory.kmem.tcp.limit_in_bytes: buffers of all sockets but local ones, which memory.max counts on v2 */
	KNOB_MEMORY_PEAK,   /* memory.peak; memory.max_usage_in_bytes */
	KNOB_MEMORY_NOW,    /* memory.current; memory.usage_in_bytes */
	KNOB_MEMORY_EVENTS, /* memory.events; memory.oom_control */
	KNOB_OOM_EVENT,	    /* -; an eventfd registered on memory.oom_control */
	KNOB_CPU_MAX,	    /* cpu.max; cpu.cfs_quota_us (the period stays 100 ms) */
	KNOB_CPU_STAT,	    /* cpu.stat of the v2 tree on both: usage needs no controller there, and is finer than
			     * cpuacct's user/system split, which counts ticks */
	KNOB_THROTTLE,	    /* -; cpu.stat of the v1 cpu hierarchy */
	KNOB_PIDS_MAX,	    /* pids.max */
	KNOB_PIDS_PEAK,	    /* pids.peak, where the kernel has it */
	KNOB_PIDS_EVENTS,   /* pids.events */
	KNOB_IO_MAX,	    /* io.max; blkio.throttle.read_bps_device */
	KNOB_IO_WBPS,	    /* -; blkio.throttle.write_bps_device */
	KNOB_IO_RIOPS,	    /* -; blkio.throttle.read_iops_device */
	KNOB_IO_WIOPS,	    /* -; blkio.throttle.write_iops_device */
	KNOB_IO_STAT,	    /* io.stat; blkio.throttle.io_service_bytes */
	KNOB_CPUSET,	    /* cpuset.cpus */
	KNOB_MAX
};

/* leaf_knob_file - the file of a knob under a driver, NULL when it has none there. */
const char *leaf_knob_file(enum pool_driver driver, enum knob knob);
const char *pool_driver_name(unsigned driver);
const char *pool_scratch_name(unsigned scratch);

struct leaf_limits {
	uint64_t memory_bytes, swap_bytes;
	uint64_t sockets_bytes; /* of network buffers, where memory_bytes does not count them; 0: the job has no such sockets */
	uint64_t pids;		/* the job's own tasks */
	uint64_t cpus_milli;	/* 0: no quota */
	struct {
		uint64_t rbps, wbps, riops, wiops; /* 0: none */
	} io;
	char cpuset[256]; /* "": the parent's */
};

struct leaf_usage {
	uint64_t cpu_user_us, cpu_system_us, throttled_us;
	uint64_t memory_peak_bytes;
	uint64_t pids_peak; /* 0: this kernel does not tell */
	uint64_t pids_limit_hits;
	uint64_t io_read_bytes, io_write_bytes;
	uint64_t oom_kills;
};

struct leaf {
	enum pool_driver driver;
	int fd[KNOB_MAX]; /* -1: not there */
	bool fresh;	  /* nothing was written to it yet */
	bool quota_lifted;
	bool killed;	 /* cgroup.kill was written: see leaf_kill() */
	bool peak_stale; /* memory.peak could not be set back: it counts from the leaf's making */
	struct leaf_limits held;
	struct leaf_usage base;
};

/* leaf_own_tasks - tasks in the leaf that are petri's: the zygote's init, and on hybrid hosts the keeper. */
unsigned leaf_own_tasks(const struct leaf *leaf);

void leaf_init(struct leaf *leaf);
/* leaf_take - own the fds of a WIRE_LEAF message, whose bits say which. Closes what was held. */
void leaf_take(struct leaf *leaf, enum pool_driver driver, uint32_t knobs, const int *fds);
void leaf_close(struct leaf *leaf);

/*
 * leaf_supports - can this leaf enforce the limits? @at: 0, or what it was left as, to go on after the one that was returned.
 * Return: NULL, or the JSON name below "limits." of the next that it cannot ("io.wbps", static), with *ret_needs saying what it would need.
 */
const char *leaf_supports(const struct leaf *leaf, const struct wire_host *host, const struct leaf_limits *limits, size_t *at,
	const char **ret_needs);

/*
 * leaf_apply - write what differs from what the leaf holds.
 * Return: 0 or -errno with the knob's name in err; then the leaf must not be used for this job.
 */
int leaf_apply(struct leaf *leaf, const struct wire_host *host, const struct leaf_limits *limits, struct err *err);
/* leaf_begin - note the counters and reset the peaks: usage is counted from here. */
int leaf_begin(struct leaf *leaf, struct err *err);
/* leaf_disturbed - something other than a job ran here, and no job came of it. Return: whether the leaf has to be replaced before one. */
bool leaf_disturbed(struct leaf *leaf);
/* leaf_read - what was used since leaf_begin(). */
int leaf_read(const struct leaf *leaf, struct leaf_usage *ret, struct err *err);
/* leaf_cpu_us - CPU time since leaf_begin(). */
uint64_t leaf_cpu_us(const struct leaf *leaf);
/* leaf_oom_kills - since leaf_begin(). */
uint64_t leaf_oom_kills(const struct leaf *leaf);
/*
 * leaf_kill - lift the CPU quota, so that dying is not throttled, then SIGKILL everything in the leaf.
 * Afterwards the leaf has to be replaced: since the kernel counts kills per group (kill_seq, "cgroup: fix race between
 * fork and cgroup.kill", in 6.14 and the stable series), clone3(CLONE_INTO_CGROUP) compares the count of the caller's own
 * group with that of the target, and a child born into a group that was ever killed dies at once.
 */
int leaf_kill(struct leaf *leaf);
/* leaf_lift_quota - no CPU limit any more, until leaf_apply() puts it back. leaf_was_throttled - since leaf_begin(). */
void leaf_lift_quota(struct leaf *leaf);
bool leaf_was_throttled(const struct leaf *leaf);
/*
 * leaf_relax - after a job: take back what would slow or kill the next zygote while it is made (a used-up CPU quota, a
 * memory limit of next to nothing). leaf_apply() puts it back.
 */
void leaf_relax(struct leaf *leaf, const struct leaf_usage *last);
/* leaf_is_spent - holds something of the last job that cannot be set back, so that it has to be replaced. */
bool leaf_is_spent(const struct leaf *leaf, const struct leaf_usage *last);
/* leaf_populated - 1 while any process is in it, 0 when empty, or -errno. */
int leaf_populated(const struct leaf *leaf);
