/*
 * Tries: to change the machine: files of /proc/sys, /proc/sysrq-trigger, /proc/irq, /proc/bus, /proc/fs, binfmt_misc, by their names, by
 * /proc/self/root, by an fd that was opened with O_PATH and reopened through /proc/self/fd, with truncation and by truncate;
 * their modes and owners; memory by MADV_HWPOISON; its clocks by clock_adjtime and adjtimex; then the host's and domain name.
 * Must: be refused: EACCES, EPERM, EROFS, ENOENT; then the job ends by violation.
 * Stopped by: /proc is mounted read-only, and belongs to a root that no id of the job's is mapped to; calls by the policies, and beneath them
 * capabilities of the host's.
 * Without it: (/proc not read-only) "BROKEN: 318 of 1338 attempts to open a setting"; (policies that allow everything) other
 * errnos of the calls.
 */
// expect judge: violation setdomainname
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>

#include "reach.h"

static const char *const names[] = {"sys/kernel/core_pattern", "sys/kernel/hostname", "sys/kernel/domainname", "sys/kernel/modprobe",
	"sys/kernel/poweroff_cmd", "sys/kernel/sysrq",
	"sys/kernel/ns_last_pid", "sys/kernel/yama/ptrace_scope", "sys/kernel/unprivileged_bpf_disabled", "sys/kernel/io_uring_disabled",
	"sys/kernel/perf_event_paranoid",
	"sys/kernel/shmmax", "sys/kernel/msgmax", "sys/kernel/sem", "sys/kernel/randomize_va_space", "sys/kernel/keys/maxkeys",
	"sys/kernel/usermodehelper/bset", "sys/kernel/panic", "sys/kernel/pid_max", "sys/kernel/threads-max",
	"sys/vm/overcommit_memory", "sys/vm/drop_caches", "sys/vm/compact_memory", "sys/vm/swappiness", "sys/vm/nr_hugepages",
	"sys/vm/mmap_min_addr", "sys/vm/unprivileged_userfaultfd",
	"sys/fs/file-max", "sys/fs/suid_dumpable", "sys/fs/protected_symlinks", "sys/fs/protected_hardlinks", "sys/fs/mqueue/queues_max",
	"sys/fs/inotify/max_user_watches", "sys/fs/pipe-user-pages-soft",
	"sys/fs/binfmt_misc/register", "sys/fs/binfmt_misc/status", "sys/net/ipv4/ip_forward", "sys/net/ipv4/ip_unprivileged_port_start",
	"sys/net/ipv4/ping_group_range", "sys/net/core/somaxconn", "sys/net/unix/max_dgram_qlen",
	"sys/user/max_user_namespaces", "sys/user/max_net_namespaces", "sys/user/max_inotify_watches", "sys/debug/exception-trace",
	"sys/dev/cdrom/info", "sysrq-trigger", "irq/default_smp_affinity", "timer_list", "mtrr", "kcore", "kmsg", "scsi/scsi",
	"acpi/wakeup", "fs/ext4", "bus/pci/devices", "self/loginuid", "self/sessionid", "self/oom_score_adj", "self/oom_adj",
	"self/attr/current", "self/attr/exec", "self/attr/fscreate", "self/coredump_filter", "self/clear_refs",
	"self/timerslack_ns",
	"self/autogroup", "self/sched", "self/comm", "self/setgroups", "self/uid_map", "self/gid_map", "self/projid_map",
	"self/timens_offsets", "self/mem", "self/fail-nth", "self/make-it-fail", "self/net/rpc", "self/latency"};

static int refused, opened;

static void count(const char *path, int fd)
{
	if (fd < 0) {
		refused++;
		return;
	}
	opened++;
	broken("%s opened for writing", path);
	(void)close(fd);
}

static void attempt(const char *prefix, const char *name)
{
	char path[128], link[64];
	(void)snprintf(path, sizeof(path), "%s/%s", prefix, name);
	count(path, open(path, O_WRONLY | O_NONBLOCK));
	count(path, open(path, O_RDWR | O_NONBLOCK));
	count(path, open(path, O_WRONLY | O_TRUNC | O_NONBLOCK));
	count(path, open(path, O_WRONLY | O_APPEND | O_CREAT, 0666));
	int at = open(path, O_PATH);
	if (at >= 0) {
		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
		count(path, open(link, O_WRONLY | O_NONBLOCK));
		count(path, open(link, O_RDWR | O_NONBLOCK));
		if (chmod(link, 0666) == 0 || fchownat(at, "", getuid(), getgid(), AT_EMPTY_PATH) == 0)
			broken("mode or owner of %s changed", path);
		(void)close(at);
	}
	if (truncate(path, 0) == 0 || chmod(path, 0666) == 0 || chown(path, getuid(), getgid()) == 0 || unlink(path) == 0 || utimensat(AT_FDCWD, path, NULL, 0) == 0)
		broken("%s was changed", path);
}

static void clocks(void)
{
	struct timex set = {.modes = ADJ_FREQUENCY | ADJ_OFFSET | ADJ_TICK, .tick = 10001}, step = {.modes = ADJ_SETOFFSET, .time = {3600, 0}};
	must_fail(syscall(SYS_adjtimex, &set), EPERM);
	must_fail(syscall(SYS_adjtimex, &step), EPERM);
	static const int ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_TAI, CLOCK_BOOTTIME};
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		must_fail_as("clock_adjtime", syscall(SYS_clock_adjtime, ids[i], &step), EPERM);
}

/* Pages that the machine's memory would lose: MADV_HWPOISON, MADV_SOFT_OFFLINE. */
static void poison(void)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page[0] = 1;
	must_fail(madvise(page, 4096, 100), EPERM, EINVAL);
	must_fail(madvise(page, 4096, 101), EPERM, EINVAL);
}

int main(void)
{
	static const char *const prefixes[] = {"/proc", "/proc/self/root/proc", "/proc/self/cwd/../proc"};
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		for (size_t j = 0; j < sizeof(names) / sizeof(names[0]); j++)
			attempt(prefixes[i], names[j]);
	must(opened == 0 && refused > 500, "%d of %d attempts to open a setting", opened, opened + refused);
	must_fail(mkdir("/proc/x", 0777), EROFS, EACCES, ENOENT, EPERM);
	clocks();
	poison();
	must_fail(setdomainname("owned", 5), EPERM);
	must_fail(sethostname("owned", 5), EPERM);
	struct timespec now = {0, 0};
	must_fail(clock_settime(CLOCK_REALTIME, &now), EPERM);
	must_fail(syscall(SYS_syslog, 5, NULL, 0), EPERM);
	must_fail(syscall(SYS_swapon, "/work/attack", 0), EPERM);
	must_fail(syscall(SYS_acct, "/work/attack"), EPERM);
	must_fail(syscall(SYS_delete_module, "loop", O_NONBLOCK), EPERM);
	must_fail(syscall(SYS_finit_module, open("/work/attack", O_RDONLY), "", 0), EPERM);
	must_fail(syscall(SYS_kexec_file_load, 0, 0, 0UL, "", 0UL), EPERM);
	return finish();
}
