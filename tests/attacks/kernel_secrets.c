/*
 * Tries: to read what tells about the kernel, the machine and its users: /proc/kcore, kallsyms, keys, kmsg, interrupts, slabinfo, page
 * flags and frame numbers, the timer list, loaded modules with addresses, by several paths and by file descriptors of /proc; the
 * kernel's own addresses in stat, wchan, stack and in /proc/net.
 * Must: get nothing: refused, empty, or zeros.
 * Stopped by: masks over what a job's user could read; what belongs to the machine's root stays so, since no id of a job's is mapped to it.
 * Without it: (no masks) "BROKEN: /proc/keys", /proc/key-users, /proc/interrupts; (no hidepid) "BROKEN: /proc/1/cmdline",
 * /proc/1/mounts.
 */
#include <sys/syscall.h>

#include "reach.h"

static void must_be_empty(int dir, const char *prefix, const char *name)
{
	char byte;
	int fd = openat(dir, name, O_RDONLY | O_NONBLOCK);
	long n = fd < 0 ? -1 : read(fd, &byte, 1);
	must(n <= 0, "%s%s", prefix, name);
	if (fd >= 0)
		(void)close(fd);
}

static void frames(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY), seen = 0;
	static char page[8192];
	memset(page, 1, sizeof(page));
	unsigned long entry = 0;
	if (fd >= 0 && pread(fd, &entry, sizeof(entry), (off_t)((unsigned long)page / (unsigned long)sysconf(_SC_PAGESIZE) * sizeof(entry))) == sizeof(entry))
		seen = (entry & 0x7fffffffffffffUL) != 0;
	must(!seen, "frame numbers of its own pages");
}

static void addresses(void)
{
	static const char *const names[] = {"/proc/net/unix", "/proc/net/netlink", "/proc/net/packet", "/proc/modules", "/proc/self/wchan",
		"/proc/self/stat"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char text[8192];
		if (read_text(names[i], text, sizeof(text)) < 0)
			continue;
		must(!strstr(text, "ffff8") && !strstr(text, "ffffffff8"), "kernel addresses in %s", names[i]);
	}
}

int main(void)
{
	static const char *const names[] = {"kcore", "keys", "key-users", "kallsyms", "kmsg", "interrupts", "slabinfo", "kpagecount",
		"kpageflags", "kpagecgroup",
		"timer_list", "timer_stats", "sched_debug", "latency_stats", "vmallocinfo", "pagetypeinfo", "iomem_", "sysrq-trigger",
		"1/stack", "self/stack", "1/environ",
		"1/maps", "1/smaps", "1/auxv", "1/io", "1/syscall", "1/wchan", "1/cmdline", "1/status", "1/stat", "1/limits", "1/mounts",
		"1/fdinfo/0"};
	static const char *const prefixes[] = {"/proc/", "/proc/self/root/proc/", "/proc/self/../", "/proc/self/task/../../",
		"/work/../proc/./"};
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		int dir = open(prefixes[i], O_PATH | O_DIRECTORY);
		for (size_t j = 0; j < sizeof(names) / sizeof(names[0]); j++)
			must_be_empty(dir, prefixes[i], names[j]);
		(void)close(dir);
	}
	static const char *const dirs[] = {"/proc/acpi", "/proc/scsi", "/proc/driver", "/proc/asound", "/sys", "/sys/kernel"};
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		DIR *dir = opendir(dirs[i]);
		int entries = 0;
		for (struct dirent *e; dir && (e = readdir(dir));)
			entries += e->d_name[0] != '.';
		must(entries == 0, "%d entries in %s", entries, dirs[i]);
	}
	frames();
	addresses();
	return finish();
}
