/* The worker's hold on a leaf, on ordinary files in the place of the kernel's. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "pool/leaf.h"
#include "pool/steps.h"

static char dir[64];

static void make_leaf(struct leaf *leaf, enum pool_driver driver)
{
	int fds[KNOB_MAX];
	uint32_t knobs = 0;
	size_t n = 0;
	snprintf(dir, sizeof(dir), "/tmp/test-leaf-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	for (unsigned k = 0; k < KNOB_MAX; k++) {
		char path[160];
		const char *file = leaf_knob_file(driver, k);
		if (!file)
			continue;
		snprintf(path, sizeof(path), "%s/%u", dir, k);
		fds[n] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		cr_assert_geq(fds[n], 0);
		n++;
		knobs |= 1u << k;
	}
	leaf_init(leaf);
	leaf_take(leaf, driver, knobs, fds);
}

static void set(struct leaf *leaf, enum knob knob, const char *text)
{
	cr_assert_eq(ftruncate(leaf->fd[knob], 0), 0);
	cr_assert_eq(pwrite(leaf->fd[knob], text, strlen(text), 0), (ssize_t)strlen(text));
}

static const char *get(struct leaf *leaf, enum knob knob)
{
	static char text[512];
	ssize_t n = pread(leaf->fd[knob], text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void clear(struct leaf *leaf)
{
	char command[128];
	leaf_close(leaf);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	cr_assert_eq(system(command), 0);
}

static const struct wire_host host_v2 = {.driver = POOL_DRIVER_V2, .ndevices = 1, .devices = {{8, 16}}};
static const struct wire_host host_hybrid = {.driver = POOL_DRIVER_HYBRID, .ndevices = 1, .devices = {{8, 0}}};

Test(leaf, limits_on_v2)
{
	struct leaf leaf;
	struct leaf_limits limits = {.memory_bytes = 64 << 20, .swap_bytes = 0, .pids = 10, .cpus_milli = 500, .io = {.rbps = 1000000, .wiops = 50}, .cpuset = "0-1"};
	make_leaf(&leaf, POOL_DRIVER_V2);
	cr_assert_eq(leaf_apply(&leaf, &host_v2, &limits, NULL), 0);
	cr_assert_str_eq(get(&leaf, KNOB_MEMORY_MAX), "67108864");
	cr_assert_str_eq(get(&leaf, KNOB_SWAP_MAX), "0");
	cr_assert_str_eq(get(&leaf, KNOB_PIDS_MAX), "11", "petri's init is not one of the job's tasks");
	cr_assert_str_eq(get(&leaf, KNOB_CPU_MAX), "50000 100000");
	cr_assert_str_eq(get(&leaf, KNOB_IO_MAX), "8:16 rbps=1000000 wbps=max riops=max wiops=50");
	cr_assert_str_eq(get(&leaf, KNOB_CPUSET), "0-1");
	clear(&leaf);
}

Test(leaf, only_differences_are_written)
{
	struct leaf leaf;
	struct leaf_limits limits = {.memory_bytes = 64 << 20, .pids = 10, .cpus_milli = 500};
	make_leaf(&leaf, POOL_DRIVER_V2);
	cr_assert_eq(leaf_apply(&leaf, &host_v2, &limits, NULL), 0);
	set(&leaf, KNOB_MEMORY_MAX, "untouched");
	set(&leaf, KNOB_CPU_MAX, "untouched");
	set(&leaf, KNOB_IO_MAX, "untouched");
	limits.pids = 20;
	cr_assert_eq(leaf_apply(&leaf, &host_v2, &limits, NULL), 0);
	cr_assert_str_eq(get(&leaf, KNOB_MEMORY_MAX), "untouched");
	cr_assert_str_eq(get(&leaf, KNOB_CPU_MAX), "untouched");
	cr_assert_str_eq(get(&leaf, KNOB_IO_MAX), "untouched");
	cr_assert_str_eq(get(&leaf, KNOB_PIDS_MAX), "21");
	clear(&leaf);
}

Test(leaf, limits_on_hybrid)
{
	struct leaf leaf;
	struct leaf_limits limits = {.memory_bytes = 64 << 20, .swap_bytes = 1 << 20, .pids = 10, .cpus_milli = 0, .io = {.wbps = 4096}};
	make_leaf(&leaf, POOL_DRIVER_HYBRID);
	cr_assert_eq(leaf_apply(&leaf, &host_hybrid, &limits, NULL), 0);
	cr_assert_str_eq(get(&leaf, KNOB_MEMORY_MAX), "67108864");
	cr_assert_str_eq(get(&leaf, KNOB_SWAP_MAX), "68157440", "memory and swap together");
	cr_assert_str_eq(get(&leaf, KNOB_PIDS_MAX), "13", "the init, the keeper and the room");
	cr_assert_str_eq(get(&leaf, KNOB_CPU_MAX), "-1");
	cr_assert_str_eq(get(&leaf, KNOB_IO_WBPS), "8:0 4096");
	clear(&leaf);
}

/* A CPU that is not there, say. Without the memset() in apply_io(): "the next job has the last one's". */
Test(leaf, limits_of_a_job_that_did_not_run)
{
	const enum pool_driver drivers[] = {POOL_DRIVER_V2, POOL_DRIVER_HYBRID};
	for (size_t i = 0; i < 2; i++) {
		struct leaf leaf;
		const struct wire_host *host = drivers[i] == POOL_DRIVER_V2 ? &host_v2 : &host_hybrid;
		struct leaf_limits limits = {.memory_bytes = 64 << 20, .pids = 10, .io = {.rbps = 1000000}, .cpuset = "7"};
		const struct leaf_limits next = {.memory_bytes = 64 << 20, .pids = 10};
		make_leaf(&leaf, drivers[i]);
		int cpuset = leaf.fd[KNOB_CPUSET];
		leaf.fd[KNOB_CPUSET] = -1;
		cr_assert_lt(leaf_apply(&leaf, host, &limits, NULL), 0);
		leaf.fd[KNOB_CPUSET] = cpuset;
		set(&leaf, KNOB_IO_MAX, "");
		cr_assert_eq(leaf_apply(&leaf, host, &next, NULL), 0);
		cr_assert_str_eq(get(&leaf, KNOB_IO_MAX), i == 0 ? "8:16 rbps=max wbps=max riops=max wiops=max" : "8:0 0", "the next job has the last one's");
		clear(&leaf);
	}
}

Test(leaf, usage_is_what_was_used_since)
{
	struct leaf leaf;
	struct leaf_usage u;
	make_leaf(&leaf, POOL_DRIVER_V2);
	set(&leaf, KNOB_CPU_STAT, "usage_usec 300\nuser_usec 100\nsystem_usec 200\nthrottled_usec 7\n");
	set(&leaf, KNOB_MEMORY_EVENTS, "low 0\noom 3\noom_kill 2\n");
	set(&leaf, KNOB_PIDS_EVENTS, "max 5\n");
	set(&leaf, KNOB_IO_STAT, "8:0 rbytes=4096 wbytes=0 rios=1\n8:16 rbytes=1 wbytes=2\n");
	cr_assert_eq(leaf_begin(&leaf, NULL), 0);
	set(&leaf, KNOB_CPU_STAT, "usage_usec 900\nuser_usec 400\nsystem_usec 500\nthrottled_usec 8\n");
	set(&leaf, KNOB_MEMORY_EVENTS, "low 0\noom 3\noom_kill 3\n");
	set(&leaf, KNOB_PIDS_EVENTS, "max 9\n");
	set(&leaf, KNOB_IO_STAT, "8:0 rbytes=8192 wbytes=10 rios=1\n8:16 rbytes=1 wbytes=2\n");
	set(&leaf, KNOB_MEMORY_PEAK, "12345\n");
	set(&leaf, KNOB_PIDS_PEAK, "4\n");
	cr_assert_eq(leaf_cpu_us(&leaf), 600);
	cr_assert_eq(leaf_oom_kills(&leaf), 1);
	cr_assert_eq(leaf_read(&leaf, &u, NULL), 0);
	cr_assert_eq(u.cpu_user_us, 300);
	cr_assert_eq(u.cpu_system_us, 300);
	cr_assert_eq(u.throttled_us, 1);
	cr_assert_eq(u.oom_kills, 1);
	cr_assert_eq(u.pids_limit_hits, 4);
	cr_assert_eq(u.pids_peak, 3);
	cr_assert_eq(u.memory_peak_bytes, 12345);
	cr_assert_eq(u.io_read_bytes, 4096);
	cr_assert_eq(u.io_write_bytes, 10);
	clear(&leaf);
}

Test(leaf, killing_lifts_the_quota_and_spends_the_leaf)
{
	struct leaf leaf;
	struct leaf_usage idle = {.pids_peak = 1}, busy = {.pids_peak = 2};
	make_leaf(&leaf, POOL_DRIVER_V2);
	cr_assert_not(leaf_is_spent(&leaf, &idle));
	cr_assert(leaf_is_spent(&leaf, &busy), "pids.peak cannot be set back");
	cr_assert_eq(leaf_kill(&leaf), 0);
	cr_assert_str_eq(get(&leaf, KNOB_CPU_MAX), "max 100000");
	cr_assert_str_eq(get(&leaf, KNOB_KILL), "1");
	cr_assert(leaf_is_spent(&leaf, &idle));
	clear(&leaf);
}

Test(leaf, what_cannot_be_enforced_is_named)
{
	struct leaf leaf;
	const char *needs = NULL;
	struct leaf_limits limits = {.memory_bytes = 1, .pids = 1, .io = {.wbps = 1}};
	const struct wire_host no_disk = {.driver = POOL_DRIVER_V2};
	const struct wire_host v1_disk = {.driver = POOL_DRIVER_HYBRID, .ndevices = 1, .scratch = POOL_SCRATCH_QUOTA};
	make_leaf(&leaf, POOL_DRIVER_V2);
	size_t at = 0;
	cr_assert_null(leaf_supports(&leaf, &host_v2, &limits, &at, &needs));
	at = 0;
	cr_assert_str_eq(leaf_supports(&leaf, &no_disk, &limits, &at, &needs), "io.wbps");
	cr_assert_null(leaf_supports(&leaf, &no_disk, &limits, &at, &needs));
	limits.io.wiops = 1;
	at = 0;
	cr_assert_str_eq(leaf_supports(&leaf, &no_disk, &limits, &at, &needs), "io.wbps");
	cr_assert_str_eq(leaf_supports(&leaf, &no_disk, &limits, &at, &needs), "io.wiops");
	cr_assert_null(leaf_supports(&leaf, &no_disk, &limits, &at, &needs));
	limits.io.wiops = 0;
	at = 0;
	leaf.driver = POOL_DRIVER_HYBRID;
	cr_assert_str_eq(leaf_supports(&leaf, &v1_disk, &limits, &at, &needs), "io.wbps");
	cr_assert_not_null(strstr(needs, "v2"));
	clear(&leaf);
}

Test(steps, each_has_a_phrase)
{
	for (unsigned i = 0; i < STEP_MAX; i++)
		cr_assert_str_neq(pool_step_name(i), "an unknown step", "step %u", i);
	cr_assert_str_eq(pool_step_name(STEP_MAX), "an unknown step");
	cr_assert_str_eq(pool_step_name(0xffffffff), "an unknown step");
}
