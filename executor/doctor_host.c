/* Weaknesses of the host; see the header. `petri doctor`, as root, before anything is started. */
#include "executor/doctor_host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define TEXT_MAX 4096
#define KERNEL_MAJOR 6 /* the lowest that petri is made for */
#define KERNEL_MINOR 1

static struct weakness *add(struct weaknesses *ws, const char *name, const char *means, const char *todo)
{
	static struct weakness none;
	struct weakness *w = ws->n < WEAKNESSES_MAX ? &ws->items[ws->n++] : &none;
	*w = (struct weakness){.name = name, .means = means, .todo = todo};
	return w;
}

static void say(struct weakness *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct weakness *w, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(w->found, sizeof(w->found), fmt, ap);
	va_end(ap);
	log_defuse(w->found, strlen(w->found));
}

/* Return: its length without the newline at its end, or -errno. */
static ssize_t read_text(int root, const char *path, char ret[TEXT_MAX])
{
	/* Of sysfs and procfs one read gives all that there is of such files. */
	_cleanup_close_ int fd = openat(root, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t n = fd < 0 ? -errno : read(fd, ret, TEXT_MAX - 1);
	if (n < 0)
		return fd < 0 ? n : -errno;
	ret[n] = '\0';
	n = (ssize_t)strlen(ret);
	if (n > 0 && ret[n - 1] == '\n')
		ret[--n] = '\0';
	return n;
}

/* ---- switches ---- */
struct sysctl {
	const char *name, *path;
	long least, most; /* what is good */
	const char *means, *todo;
};

/* One that this kernel does not have is no finding: there is nothing to switch. */
static const struct sysctl sysctls[] = {
	{"unprivileged-bpf", "proc/sys/kernel/unprivileged_bpf_disabled", 1, 2,
		"every user may load BPF programs, a rich source of ways into the kernel; jobs and the worker may not, whatever this says",
		"sysctl kernel.unprivileged_bpf_disabled=1"},
	{"io-uring", "proc/sys/kernel/io_uring_disabled", 1, 2,
		"every user may use io_uring; jobs may not, and the worker's ring does only what its loop needs",
		"sysctl kernel.io_uring_disabled=1 (petri makes its ring before it gives its privileges up; not 2)"},
	{"user-namespaces", "proc/sys/kernel/unprivileged_userns_clone", 0, 0,
		"every user may make user namespaces, and so reach parts of the kernel that are else root's; jobs and the worker may not",
		"sysctl kernel.unprivileged_userns_clone=0 (petri itself does not need it)"},
	{"dmesg", "proc/sys/kernel/dmesg_restrict", 1, 1,
		"every user may read the kernel's log, with addresses in it; a job may under a policy that allows syslog(2)",
		"sysctl kernel.dmesg_restrict=1"},
	{"kernel-pointers", "proc/sys/kernel/kptr_restrict", 1, 2,
		"files show addresses of the kernel, which help an attack on it; most of them are hidden from jobs",
		"sysctl kernel.kptr_restrict=1"},
	{"perf-events", "proc/sys/kernel/perf_event_paranoid", 2, 9,
		"every user may measure the kernel; a job may under a policy that allows perf_event_open(2)",
		"sysctl kernel.perf_event_paranoid=2"},
	{"ptrace", "proc/sys/kernel/yama/ptrace_scope", 1, 3,
		"processes may trace others of their user; petri's own are not dumpable, which forbids it all the same",
		"sysctl kernel.yama.ptrace_scope=1"},
};

static void check_sysctl(int root, const struct sysctl *c, struct weaknesses *ws)
{
	char text[TEXT_MAX], *end;
	ssize_t n = read_text(root, c->path, text);
	if (n == -ENOENT || n == -ENOTDIR)
		return;
	errno = 0;
	long value = n > 0 ? strtol(text, &end, 10) : 0;
	bool unknown = n <= 0 || errno || *end != '\0';
	if (!unknown && value >= c->least && value <= c->most)
		return;
	struct weakness *w = add(ws, c->name, c->means, c->todo);
	w->unknown = unknown;
	if (n < 0)
		say(w, "/%s cannot be read: %s", c->path, strerror((int)-n));
	else
		say(w, unknown ? "/%s is '%.40s', which is no number" : "/%s is %.40s", c->path, text);
}

/* ---- the rest ---- */
static void check_kernel(const char *release, struct weaknesses *ws)
{
	int major = 0, minor = 0;
	bool known = sscanf(release, "%d.%d", &major, &minor) == 2;
	if (known && (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR)))
		return;
	struct weakness *w = add(ws, "kernel", "petri is made for and tested with Linux 6.1 and later: what older ones do differently is not known here", "run a newer kernel");
	w->unknown = !known;
	say(w, known ? "the kernel is %.100s" : "the kernel calls itself '%.100s'", release);
}

static bool is_name(const char *name)
{
	return name[0] != '.' && strlen(name) < 40;
}

/* Names of those that the kernel calls vulnerable, as many as there is room for. */
static int list_vulnerable(int root, const char *path, char *ret, size_t cap)
{
	char text[TEXT_MAX];
	size_t n = 0;
	int fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return -errno;
	ret[0] = '\0';
	for (struct dirent *e; (e = readdir(dir));) {
		if (!is_name(e->d_name) || read_text(dirfd(dir), e->d_name, text) <= 0)
			continue;
		bool weak = strncmp(text, "Vulnerable", 10) == 0 || strstr(text, "SMT vulnerable");
		if (weak && n + strlen(e->d_name) + 3 < cap)
			n += (size_t)snprintf(ret + n, cap - n, "%s%s", n ? ", " : "", e->d_name);
	}
	return n > 0;
}

static void check_cpu(int root, struct weaknesses *ws)
{
	static const char means[] = "a job may read what others have on the same core or in the kernel, by timing it";
	static const char todo[] = "take mitigations=off from the kernel's command line, update the CPU's microcode; else see core scheduling and cpuset";
	char names[150], text[TEXT_MAX];
	int r = list_vulnerable(root, "sys/devices/system/cpu/vulnerabilities", names, sizeof(names));
	if (r != 0) {
		struct weakness *w = add(ws, "cpu-mitigations", means, todo);
		w->unknown = r < 0;
		say(w, r < 0 ? "the kernel does not tell its CPU's vulnerabilities (%.100s)" : "the kernel is vulnerable to: %s", r < 0 ? strerror(-r) : names);
	}
	if (read_text(root, "sys/devices/system/cpu/smt/active", text) > 0 && strcmp(text, "0") != 0)
		say(add(ws, "smt", "two jobs may run on one core at once, and each tell by timing what the other does",
			    "--core-sched require where the kernel has it, cpuset with whole cores, or nosmt on the kernel's command line"),
			"/sys/devices/system/cpu/smt/active is %.20s", text);
}

static void check_core_pattern(int root, struct weaknesses *ws)
{
	char text[TEXT_MAX];
	ssize_t n = read_text(root, "proc/sys/kernel/core_pattern", text);
	if (n >= 0 && text[0] != '|')
		return;
	struct weakness *w = add(ws, "core-pattern", "a program of root's gets the memory of whatever crashes. Not of jobs, whose core limit is 1: with 0 it would",
		"sysctl kernel.core_pattern=core, if nothing on this host needs the handler");
	w->unknown = n < 0;
	say(w, n < 0 ? "/proc/sys/kernel/core_pattern cannot be read: %.60s" : "kernel.core_pattern is a pipe: %.60s", n < 0 ? strerror((int)-n) : text);
}

/* proc_swaps(5): a heading, then a line for each area, which begins with its path. What zram compresses stays in memory. */
static void check_swap(int root, struct weaknesses *ws)
{
	char text[TEXT_MAX], *line = NULL;
	ssize_t n = read_text(root, "proc/swaps", text);
	if (n == -ENOENT) /* a kernel without swap */
		return;
	if (n >= 0)
		line = strchr(text, '\n');
	while (line && strncmp(line + 1, "/dev/zram", 9) == 0)
		line = strchr(line + 1, '\n');
	if (n >= 0 && (!line || line[1] == '\0'))
		return;
	struct weakness *w = add(ws, "swap", "what jobs and the worker have in memory may be written to a disk and stay there; jobs swap only where their limits say so",
		"encrypt the swap area, or do without");
	w->unknown = n < 0;
	say(w, n < 0 ? "/proc/swaps cannot be read: %.60s" : "swap is on: %.60s", n < 0 ? strerror((int)-n) : line + 1);
	w->found[strcspn(w->found, "\t\n")] = '\0';
}

static bool others_may_write(int root, const char *path, bool *ret_known)
{
	struct stat st;
	*ret_known = fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
	return *ret_known && S_ISDIR(st.st_mode) && (st.st_uid != 0 || (st.st_mode & 022));
}

/* The tree's root, what is mounted in it (v1), and petri's own group in each. */
static void check_cgroups(int root, struct weaknesses *ws)
{
	static const char top[] = "sys/fs/cgroup";
	char path[400] = "sys/fs/cgroup", found[400] = "";
	bool known, weak = others_may_write(root, top, &known);
	if (weak)
		(void)snprintf(found, sizeof(found), "%s", path);
	int fd = openat(root, top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	for (struct dirent *e; dir && !weak && (e = readdir(dir));) {
		bool there;
		if (!is_name(e->d_name))
			continue;
		/* On v2 a child may be somebody's to whom it was delegated; only petri's own counts. */
		(void)snprintf(path, sizeof(path), "%s/%s/cgroup.clone_children", top, e->d_name);
		bool v1 = faccessat(root, path, F_OK, 0) == 0;
		(void)snprintf(path, sizeof(path), "%s/%s", top, e->d_name);
		weak = (v1 || strcmp(e->d_name, "petri") == 0 || strcmp(e->d_name, "unified") == 0) && others_may_write(root, path, &there);
		if (!weak) {
			(void)snprintf(path, sizeof(path), "%s/%s/petri", top, e->d_name);
			weak = others_may_write(root, path, &there);
		}
		if (weak)
			(void)snprintf(found, sizeof(found), "%s", path);
	}
	if (known && !weak)
		return;
	struct weakness *w = add(ws, "cgroup-tree", "whoever may write there can move processes out of their limits, and lift these",
		"make it root's alone; delegate groups below it, not the tree");
	w->unknown = !known;
	say(w, known ? "/%.150s is not root's alone" : "/%.150s cannot be looked at", known ? found : top);
}

static void check_state(int state, struct weaknesses *ws)
{
	struct statvfs fs;
	if (state < 0)
		return;
	bool known = fstatvfs(state, &fs) == 0;
	bool suid = known && !(fs.f_flag & ST_NOSUID), dev = known && !(fs.f_flag & ST_NODEV);
	if (known && !suid && !dev)
		return;
	struct weakness *w = add(ws, "state-mount", "a setuid program or a device node in the store would work for whoever can reach it: petri puts none there, and mounts "
						    "layers without both in sandboxes",
		"petri store init, or mount the state directory's filesystem with nosuid,nodev");
	w->unknown = !known;
	say(w, known ? "the state directory lies on a mount without %s" : "the state directory's mount cannot be looked at%s",
		!known ? "" : suid && dev ? "nosuid,nodev"
			: suid		  ? "nosuid"
					  : "nodev");
}

void weaknesses_find(int root, const char *release, int state, struct weaknesses *ret)
{
	ret->n = 0;
	check_kernel(release, ret);
	check_cpu(root, ret);
	for (size_t i = 0; i < ARRAY_SIZE(sysctls); i++)
		check_sysctl(root, &sysctls[i], ret);
	check_core_pattern(root, ret);
	check_swap(root, ret);
	check_cgroups(root, ret);
	check_state(state, ret);
}
