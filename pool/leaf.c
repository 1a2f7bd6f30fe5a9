/*
 * The worker's hold on a leaf: limits in, usage out, kill. Runs in the worker; every write goes through an fd that
 * the nursery opened. A write that the kernel refuses is an error, never a weaker limit.
 */
#include "pool/leaf.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define CPU_PERIOD_US 100000ULL
#define V1_UNLIMITED "-1"
#define ZYGOTE_MEMORY (16ull << 20) /* plenty for making a zygote */

static const char *const files[KNOB_MAX][POOL_DRIVER_MAX] = {
	[KNOB_KILL] = {"cgroup.kill", "cgroup.kill"},
	[KNOB_EVENTS] = {"cgroup.events", "cgroup.events"},
	[KNOB_MEMORY_MAX] = {"memory.max", "memory.limit_in_bytes"},
	[KNOB_SWAP_MAX] = {"memory.swap.max", "memory.memsw.limit_in_bytes"},
	[KNOB_SOCKETS_MAX] = {NULL, "memory.kmem.tcp.limit_in_bytes"},
	[KNOB_MEMORY_PEAK] = {"memory.peak", "memory.max_usage_in_bytes"},
	[KNOB_MEMORY_NOW] = {"memory.current", "memory.usage_in_bytes"},
	[KNOB_MEMORY_EVENTS] = {"memory.events", "memory.oom_control"},
	[KNOB_OOM_EVENT] = {NULL, NULL},
	[KNOB_CPU_MAX] = {"cpu.max", "cpu.cfs_quota_us"},
	[KNOB_CPU_STAT] = {"cpu.stat", "cpu.stat"},
	[KNOB_THROTTLE] = {NULL, "cpu.stat"},
	[KNOB_PIDS_MAX] = {"pids.max", "pids.max"},
	[KNOB_PIDS_PEAK] = {"pids.peak", "pids.peak"},
	[KNOB_PIDS_EVENTS] = {"pids.events", "pids.events"},
	[KNOB_IO_MAX] = {"io.max", "blkio.throttle.read_bps_device"},
	[KNOB_IO_WBPS] = {NULL, "blkio.throttle.write_bps_device"},
	[KNOB_IO_RIOPS] = {NULL, "blkio.throttle.read_iops_device"},
	[KNOB_IO_WIOPS] = {NULL, "blkio.throttle.write_iops_device"},
	[KNOB_IO_STAT] = {"io.stat", "blkio.throttle.io_service_bytes"},
	[KNOB_CPUSET] = {"cpuset.cpus", "cpuset.cpus"},
};

const char *leaf_knob_file(enum pool_driver driver, enum knob knob)
{
	return files[knob][driver];
}

const char *pool_driver_name(unsigned driver)
{
	static const char *const names[POOL_DRIVER_MAX] = {[POOL_DRIVER_V2] = "v2", [POOL_DRIVER_HYBRID] = "hybrid"};
	return driver < POOL_DRIVER_MAX ? names[driver] : "none";
}

const char *pool_scratch_name(unsigned scratch)
{
	static const char *const names[POOL_SCRATCH_MAX] = {
		[POOL_SCRATCH_TMPFS] = "tmpfs", [POOL_SCRATCH_QUOTA] = "project-quota"};
	return scratch < POOL_SCRATCH_MAX ? names[scratch] : "none";
}

void leaf_init(struct leaf *leaf)
{
	memset(leaf, 0, sizeof(*leaf));
	for (size_t i = 0; i < KNOB_MAX; i++)
		leaf->fd[i] = -1;
}

void leaf_close(struct leaf *leaf)
{
	fd_close_many(leaf->fd, KNOB_MAX);
}

void leaf_take(struct leaf *leaf, enum pool_driver driver, uint32_t knobs, const int *fds)
{
	struct leaf_limits before = leaf->held;
	leaf_close(leaf);
	leaf_init(leaf);
	/* A hybrid leaf that is renewed keeps its blkio group, and the limits in it. */
	if (driver == POOL_DRIVER_HYBRID)
		leaf->held.io = before.io;
	leaf->driver = driver;
	leaf->fresh = true;
	size_t at = 0;
	for (size_t i = 0; i < KNOB_MAX; i++)
		if (knobs & (1u << i))
			leaf->fd[i] = fds[at++];
}

const char *leaf_supports(const struct leaf *leaf, const struct wire_host *host, const struct leaf_limits *limits, size_t *at,
	const char **ret_needs)
{
	static const char memory[] = "the memory controller", swap[] = "swap accounting in the memory controller",
			  cpu[] = "the cpu controller with CFS bandwidth", pids[] = "the pids controller",
			  cpuset[] = "the cpuset controller", io[] = "the io controller and a block device below the store",
			  io_v1[] = "cgroup v2: blkio v1 does not see buffered writes";
	const struct {
		bool asked;
		enum knob knob;
		const char *name, *needs;
	} wants[] = {
		{true, KNOB_MEMORY_MAX, "memory_bytes", memory},
		/* Where there is swap, keeping a job out of it needs the knob as much as letting it in. */
		{limits->swap_bytes > 0 || host->has_swap, KNOB_SWAP_MAX, "swap_bytes", swap},
		{true, KNOB_PIDS_MAX, "pids", pids},
		{limits->cpus_milli > 0, KNOB_CPU_MAX, "cpus", cpu},
		{limits->cpuset[0] != '\0', KNOB_CPUSET, "cpuset", cpuset},
		{limits->io.rbps > 0, KNOB_IO_MAX, "io.rbps", io},
		{limits->io.wbps > 0, leaf->driver == POOL_DRIVER_V2 ? KNOB_IO_MAX : KNOB_IO_WBPS, "io.wbps", io},
		{limits->io.riops > 0, leaf->driver == POOL_DRIVER_V2 ? KNOB_IO_MAX : KNOB_IO_RIOPS, "io.riops", io},
		{limits->io.wiops > 0, leaf->driver == POOL_DRIVER_V2 ? KNOB_IO_MAX : KNOB_IO_WIOPS, "io.wiops", io},
	};
	while (*at < ARRAY_SIZE(wants)) {
		size_t i = (*at)++;
		if (!wants[i].asked)
			continue;
		bool is_io = strncmp(wants[i].name, "io.", 3) == 0;
		/* On the hybrid driver writes are bounded only where no job can reach a disk with them: tmpfs scratch. */
		bool leaky = is_io && wants[i].name[3] == 'w' && leaf->driver == POOL_DRIVER_HYBRID &&
			host->scratch != POOL_SCRATCH_TMPFS;
		if (leaf->fd[wants[i].knob] >= 0 && (!is_io || host->ndevices > 0) && !leaky)
			continue;
		*ret_needs = leaky ? io_v1 : wants[i].needs;
		return wants[i].name;
	}
	return NULL;
}

static int put(const struct leaf *leaf, enum knob knob, struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static int put(const struct leaf *leaf, enum knob knob, struct err *err, const char *fmt, ...)
{
	char text[320];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(text))
		return err_set(err, E2BIG, "write %s", files[knob][leaf->driver]);
	if (pwrite(leaf->fd[knob], text, (size_t)n, 0) < 0)
		return err_set(err, errno, "write '%s' to %s", text, files[knob][leaf->driver]);
	return 0;
}

static int apply_memory_v1(struct leaf *leaf, const struct leaf_limits *limits, struct err *err)
{
	/* memsw may never be below memory: raise memsw before memory, lower memory before memsw. */
	uint64_t total = limits->memory_bytes + limits->swap_bytes;
	uint64_t held = leaf->held.memory_bytes + leaf->held.swap_bytes;
	bool raise = !leaf->fresh && total >= held, has_swap = leaf->fd[KNOB_SWAP_MAX] >= 0;
	int r = 0;
	if (leaf->fresh && has_swap) /* what a renewed leaf holds is not known here */
		r = put(leaf, KNOB_SWAP_MAX, err, V1_UNLIMITED);
	if (raise && has_swap)
		r = put(leaf, KNOB_SWAP_MAX, err, "%" PRIu64, total);
	if (r == 0)
		r = put(leaf, KNOB_MEMORY_MAX, err, "%" PRIu64, limits->memory_bytes);
	if (r == 0 && !raise && has_swap)
		r = put(leaf, KNOB_SWAP_MAX, err, "%" PRIu64, total);
	return r;
}

static int apply_memory(struct leaf *leaf, const struct leaf_limits *limits, struct err *err)
{
	if (!leaf->fresh && leaf->held.memory_bytes == limits->memory_bytes && leaf->held.swap_bytes == limits->swap_bytes)
		return 0;
	if (leaf->driver == POOL_DRIVER_HYBRID)
		return apply_memory_v1(leaf, limits, err);
	int r = put(leaf, KNOB_MEMORY_MAX, err, "%" PRIu64, limits->memory_bytes);
	if (r == 0 && leaf->fd[KNOB_SWAP_MAX] >= 0)
		r = put(leaf, KNOB_SWAP_MAX, err, "%" PRIu64, limits->swap_bytes);
	return r;
}

/* Only for jobs that can have sockets: the first limit of the kind on a machine makes the kernel patch its network code. */
static int apply_sockets(struct leaf *leaf, const struct leaf_limits *limits, struct err *err)
{
	if (limits->sockets_bytes == 0 || leaf->fd[KNOB_SOCKETS_MAX] < 0)
		return 0;
	if (!leaf->fresh && leaf->held.sockets_bytes == limits->sockets_bytes)
		return 0;
	return put(leaf, KNOB_SOCKETS_MAX, err, "%" PRIu64, limits->sockets_bytes);
}

static int apply_cpu(struct leaf *leaf, const struct leaf_limits *limits, struct err *err)
{
	if (!leaf->fresh && !leaf->quota_lifted && leaf->held.cpus_milli == limits->cpus_milli)
		return 0;
	if (leaf->fd[KNOB_CPU_MAX] < 0)
		return 0; /* leaf_supports() refused every job that asks */
	/* The kernel's least quota is 1 ms; job_limits allow no less than a hundredth of a CPU. */
	uint64_t quota = MAX(limits->cpus_milli * CPU_PERIOD_US / 1000, 1000ULL);
	leaf->quota_lifted = false;
	if (limits->cpus_milli == 0)
		return leaf->driver == POOL_DRIVER_V2 ? put(leaf, KNOB_CPU_MAX, err, "max %llu", CPU_PERIOD_US)
						      : put(leaf, KNOB_CPU_MAX, err, V1_UNLIMITED);
	return leaf->driver == POOL_DRIVER_V2 ? put(leaf, KNOB_CPU_MAX, err, "%" PRIu64 " %llu", quota, CPU_PERIOD_US)
					      : put(leaf, KNOB_CPU_MAX, err, "%" PRIu64, quota);
}

static int put_io_v2(struct leaf *leaf, unsigned major, unsigned minor, const struct leaf_limits *l, struct err *err)
{
	const struct {
		const char *key;
		uint64_t value;
	} parts[] = {{"rbps", l->io.rbps}, {"wbps", l->io.wbps}, {"riops", l->io.riops}, {"wiops", l->io.wiops}};
	char text[256];
	int n = snprintf(text, sizeof(text), "%u:%u", major, minor);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (parts[i].value)
			n += snprintf(text + n, sizeof(text) - (size_t)n, " %s=%" PRIu64, parts[i].key, parts[i].value);
		else
			n += snprintf(text + n, sizeof(text) - (size_t)n, " %s=max", parts[i].key);
	}
	return put(leaf, KNOB_IO_MAX, err, "%s", text);
}

static int apply_io(struct leaf *leaf, const struct wire_host *host, const struct leaf_limits *limits, struct err *err)
{
	/* A fresh leaf has no limits, so nothing is written for the common job that asks for none. One that does ask writes them
	 * to a fresh leaf in any case: what a renewed leaf's blkio group holds may be older than the group. */
	static const struct leaf_limits none;
	bool wanted = memcmp(&limits->io, &none.io, sizeof(none.io)) != 0;
	if (memcmp(&leaf->held.io, &limits->io, sizeof(limits->io)) == 0 && !(leaf->fresh && wanted))
		return 0;
	/* Not known until the whole is through: should it fail, or the CPU set that comes after it, the next job's is written, also if it asks for none. */
	memset(&leaf->held.io, 0xff, sizeof(leaf->held.io));
	for (uint32_t i = 0; i < host->ndevices; i++) {
		unsigned major = host->devices[i].major, minor = host->devices[i].minor;
		int r;
		if (leaf->driver == POOL_DRIVER_V2) {
			r = put_io_v2(leaf, major, minor, limits, err);
		} else {
			/* v1: 0 removes the limit. */
			r = put(leaf, KNOB_IO_MAX, err, "%u:%u %" PRIu64, major, minor, limits->io.rbps);
			if (r == 0)
				r = put(leaf, KNOB_IO_WBPS, err, "%u:%u %" PRIu64, major, minor, limits->io.wbps);
			if (r == 0)
				r = put(leaf, KNOB_IO_RIOPS, err, "%u:%u %" PRIu64, major, minor, limits->io.riops);
			if (r == 0)
				r = put(leaf, KNOB_IO_WIOPS, err, "%u:%u %" PRIu64, major, minor, limits->io.wiops);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int apply_cpuset(struct leaf *leaf, const struct leaf_limits *limits, struct err *err)
{
	if (strcmp(leaf->held.cpuset, limits->cpuset) == 0)
		return 0;
	if (limits->cpuset[0])
		return put(leaf, KNOB_CPUSET, err, "%s", limits->cpuset);
	if (leaf->driver == POOL_DRIVER_V2)
		return put(leaf, KNOB_CPUSET, err, "\n"); /* empty: the parent's */
	/* v1 has no "inherit": ask for a fresh leaf instead of guessing the machine's list. */
	return err_say(err, ESTALE, "the leaf holds the CPU set of an earlier job");
}

int leaf_apply(struct leaf *leaf, const struct wire_host *host, const struct leaf_limits *limits, struct err *err)
{
	int r = apply_memory(leaf, limits, err);
	if (r == 0)
		r = apply_sockets(leaf, limits, err);
	if (r == 0)
		r = apply_cpu(leaf, limits, err);
	if (r == 0 && (leaf->fresh || leaf->held.pids != limits->pids))
		r = put(leaf, KNOB_PIDS_MAX, err, "%" PRIu64, limits->pids + leaf_own_tasks(leaf));
	if (r == 0)
		r = apply_io(leaf, host, limits, err);
	if (r == 0)
		r = apply_cpuset(leaf, limits, err);
	if (r < 0) {
		leaf->fresh = true; /* unknown mixture: write everything next time */
		return r;
	}
	leaf->held = *limits;
	leaf->fresh = false;
	return 0;
}

static uint64_t number(const struct leaf *leaf, enum knob knob)
{
	uint64_t v = 0;
	if (leaf->fd[knob] < 0 || fd_pread_u64(leaf->fd[knob], &v) < 0)
		return 0;
	return v;
}

static uint64_t keyed(const struct leaf *leaf, enum knob knob, const char *key)
{
	uint64_t v = 0;
	if (leaf->fd[knob] < 0 || fd_pread_key(leaf->fd[knob], key, &v) < 0)
		return 0;
	return v;
}

/* io.stat: "8:0 rbytes=1 wbytes=2 …" a line; blkio: "8:0 Read 1" and "8:0 Write 2" lines. */
static void read_io(const struct leaf *leaf, uint64_t *ret_read, uint64_t *ret_write)
{
	char buf[4096];
	*ret_read = *ret_write = 0;
	if (leaf->fd[KNOB_IO_STAT] < 0)
		return;
	ssize_t n = pread(leaf->fd[KNOB_IO_STAT], buf, sizeof(buf) - 1, 0);
	if (n <= 0)
		return;
	buf[n] = '\0';
	const char *rkey = leaf->driver == POOL_DRIVER_V2 ? " rbytes=" : " Read ";
	const char *wkey = leaf->driver == POOL_DRIVER_V2 ? " wbytes=" : " Write ";
	uint64_t v;
	for (const char *p = buf; (p = strstr(p, rkey)); p += strlen(rkey))
		if (sscanf(p + strlen(rkey), "%" SCNu64, &v) == 1)
			*ret_read += v;
	for (const char *p = buf; (p = strstr(p, wkey)); p += strlen(wkey))
		if (sscanf(p + strlen(wkey), "%" SCNu64, &v) == 1)
			*ret_write += v;
}

/* One read for both. */
static void read_cpu(const struct leaf *leaf, uint64_t *user_us, uint64_t *system_us)
{
	char buf[1024];
	*user_us = *system_us = 0;
	ssize_t n = leaf->fd[KNOB_CPU_STAT] < 0 ? -1 : pread(leaf->fd[KNOB_CPU_STAT], buf, sizeof(buf) - 1, 0);
	if (n <= 0)
		return;
	buf[n] = '\0';
	const char *user = strstr(buf, "user_usec "), *system = strstr(buf, "system_usec ");
	if (user)
		(void)sscanf(user, "user_usec %" SCNu64, user_us);
	if (system)
		(void)sscanf(system, "system_usec %" SCNu64, system_us);
}

static uint64_t read_throttled(const struct leaf *leaf)
{
	return leaf->driver == POOL_DRIVER_HYBRID ? keyed(leaf, KNOB_THROTTLE, "throttled_time") / 1000 /* v1 counts nanoseconds */
						  : keyed(leaf, KNOB_CPU_STAT, "throttled_usec");
}

/* Everything but the peaks. */
static void read_raw(const struct leaf *leaf, struct leaf_usage *u)
{
	memset(u, 0, sizeof(*u));
	read_cpu(leaf, &u->cpu_user_us, &u->cpu_system_us);
	u->throttled_us = read_throttled(leaf);
	u->pids_limit_hits = keyed(leaf, KNOB_PIDS_EVENTS, "max");
	u->oom_kills = keyed(leaf, KNOB_MEMORY_EVENTS, "oom_kill");
	read_io(leaf, &u->io_read_bytes, &u->io_write_bytes);
}

int leaf_begin(struct leaf *leaf, struct err *err)
{
	/* v1's peak is set back by any write; v2's by a write through the same fd from Linux 6.12 on, -EINVAL or
	 * -EBADF before: such a leaf is new for every job, so its peak is this zygote's own. */
	if (leaf->fd[KNOB_MEMORY_PEAK] >= 0)
		leaf->peak_stale = pwrite(leaf->fd[KNOB_MEMORY_PEAK], "0", 1, 0) < 0;
	(void)err;
	/* Also what a zygote's making does not move: while it waited, the machine may have run out of memory and taken the one before it,
	 * and writes of the last job may have reached the disk. */
	read_raw(leaf, &leaf->base);
	return 0;
}

bool leaf_disturbed(struct leaf *leaf)
{
	leaf_lift_quota(leaf);
	return leaf->peak_stale || number(leaf, KNOB_PIDS_PEAK) > leaf_own_tasks(leaf) + 1;
}

static uint64_t since(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0;
}

int leaf_read(const struct leaf *leaf, struct leaf_usage *ret, struct err *err)
{
	struct leaf_usage u;
	(void)err;
	read_raw(leaf, &u);
	u.memory_peak_bytes = number(leaf, KNOB_MEMORY_PEAK);
	u.pids_peak = number(leaf, KNOB_PIDS_PEAK);
	u.cpu_user_us = since(u.cpu_user_us, leaf->base.cpu_user_us);
	u.cpu_system_us = since(u.cpu_system_us, leaf->base.cpu_system_us);
	u.throttled_us = since(u.throttled_us, leaf->base.throttled_us);
	u.pids_limit_hits = since(u.pids_limit_hits, leaf->base.pids_limit_hits);
	u.oom_kills = since(u.oom_kills, leaf->base.oom_kills);
	u.io_read_bytes = since(u.io_read_bytes, leaf->base.io_read_bytes);
	u.io_write_bytes = since(u.io_write_bytes, leaf->base.io_write_bytes);
	u.pids_peak = since(u.pids_peak, leaf_own_tasks(leaf));
	*ret = u;
	return 0;
}

uint64_t leaf_cpu_us(const struct leaf *leaf)
{
	uint64_t user, system;
	read_cpu(leaf, &user, &system);
	return since(user + system, leaf->base.cpu_user_us + leaf->base.cpu_system_us);
}

uint64_t leaf_oom_kills(const struct leaf *leaf)
{
	return since(keyed(leaf, KNOB_MEMORY_EVENTS, "oom_kill"), leaf->base.oom_kills);
}

void leaf_lift_quota(struct leaf *leaf)
{
	if (leaf->fd[KNOB_CPU_MAX] < 0 || leaf->quota_lifted)
		return;
	const char *open = leaf->driver == POOL_DRIVER_V2 ? "max 100000" : V1_UNLIMITED;
	leaf->quota_lifted = pwrite(leaf->fd[KNOB_CPU_MAX], open, strlen(open), 0) > 0;
}

int leaf_kill(struct leaf *leaf)
{
	/* Should this fail, the kill below still works; it is only slower. */
	leaf_lift_quota(leaf);
	leaf->killed = true;
	return pwrite(leaf->fd[KNOB_KILL], "1", 1, 0) < 0 ? -errno : 0;
}

bool leaf_was_throttled(const struct leaf *leaf)
{
	return read_throttled(leaf) > leaf->base.throttled_us;
}

unsigned leaf_own_tasks(const struct leaf *leaf)
{
	return leaf->driver == POOL_DRIVER_HYBRID ? 1 + POOL_KEEPER_TASKS : 1;
}

void leaf_relax(struct leaf *leaf, const struct leaf_usage *last)
{
	/* On a hybrid host the next zygote is cloned in this leaf, and the nursery waits for it. Of a whole CPU one task takes no more. */
	bool tight = leaf->held.cpus_milli > 0 && leaf->held.cpus_milli < 1000;
	if (last->throttled_us > 0 || tight)
		leaf_lift_quota(leaf);
	if (leaf->held.memory_bytes < ZYGOTE_MEMORY) {
		struct leaf_limits more = leaf->held;
		more.memory_bytes = ZYGOTE_MEMORY;
		if (apply_memory(leaf, &more, NULL) == 0)
			leaf->held.memory_bytes = more.memory_bytes;
	}
}

bool leaf_is_spent(const struct leaf *leaf, const struct leaf_usage *last)
{
	/* pids.peak only ever rises: after more tasks than the waiting zygote's own, the next job's could not be told. */
	return leaf->killed || last->pids_peak > 1;
}

int leaf_populated(const struct leaf *leaf)
{
	uint64_t v = 1;
	int r = fd_pread_key(leaf->fd[KNOB_EVENTS], "populated", &v);
	return r < 0 ? r : v != 0;
}
