/*
 * Tries: to reach a cgroup filesystem: by its usual places, by every mount (by type), by the paths that /proc/PID/cgroup tells, through
 * descriptors, by a cgroup namespace of its own, and by clone3 into a cgroup.
 * Must: find none; what /proc tells of groups is "/" only.
 * Stopped by: no cgroup filesystem is mounted in the sandbox; the cgroup namespace is rooted at the leaf; clone3 is not there.
 * Without it: (no cgroup namespace of its own) "BROKEN: 0::/petri/jobs/slot-11/job"; (policies and fixed filter that allow
 * everything) clone3: EBADF instead of ENOSYS.
 */
// expect judge: violation unshare
#include <linux/magic.h>
#include <sched.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "reach.h"

static bool is_cgroup(const char *path)
{
	struct statfs fs;
	return statfs(path, &fs) == 0 && (fs.f_type == CGROUP_SUPER_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC);
}

static void mounts(void)
{
	static char text[65536];
	int seen = 0;
	(void)read_text("/proc/self/mounts", text, sizeof(text));
	char *rest = NULL;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char path[512];
		if (sscanf(line, "%*s %511s", path) == 1) {
			seen++;
			if (is_cgroup(path))
				broken("%s", line);
		}
	}
	must(seen > 3, "%d mounts, none with groups", seen);
}

static void groups(int pid)
{
	char path[64], text[4096];
	(void)snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (read_text(path, text, sizeof(text)) < 0)
		return;
	char *rest = NULL;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		const char *group = strrchr(line, ':');
		must(group && strcmp(group, ":/") == 0, "%s", line);
	}
}

int main(void)
{
	static const char *const places[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/cgroup", "/dev/cgroup",
		"/proc/1/root/sys/fs/cgroup", "/run/cgroup", "/mnt/cgroup",
		"/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/cgroup.procs"};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		must_fail_as(places[i], open(places[i], O_RDONLY), ENOENT, EACCES, EPERM);
	mounts();
	groups(getpid());
	groups(1);
	for (int fd = 0; fd < 256; fd++) {
		char path[32];
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (fcntl(fd, F_GETFD) >= 0 && is_cgroup(path))
			broken("descriptor %d is of a cgroup filesystem", fd);
	}
	unsigned long args[11] = {0x200000000UL /* CLONE_INTO_CGROUP */};
	args[10] = 3;
	must_fail(syscall(SYS_clone3, args, sizeof(args)), ENOSYS);
	must_fail(syscall(SYS_unshare, CLONE_NEWCGROUP), EPERM);
	return finish();
}
