/* Delegated cgroups; see the header. Supervisor and nursery, root; only the caller is ever moved. */
#include "pool/delegate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "pool/cgroup.h"

#define SELF "self"
#define PATH_TEXT_MAX 4096

static int open_group(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* This process's group in the v2 tree, relative to its root; cgroups(7), /proc/PID/cgroup: "0::/system.slice/x.service". */
static int own_path(char ret[PATH_TEXT_MAX])
{
	char line[PATH_TEXT_MAX + 8];
	_cleanup_fclose_ FILE *f = fopen("/proc/self/cgroup", "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		/* One outside of our cgroup namespace begins with "/..". */
		if (strncmp(line, "0::/", 4) != 0 || strncmp(line + 4, "..", 2) == 0)
			continue;
		(void)snprintf(ret, PATH_TEXT_MAX, "%.4000s", line + 4);
		return 0;
	}
	return -ENOENT;
}

static bool is_delegated(int group)
{
	char value[4] = "";
	return fgetxattr(group, "trusted.delegate", value, sizeof(value)) == 1 && value[0] == '1';
}

static bool has_controllers(int group)
{
	char list[256] = "";
	_cleanup_close_ int fd = openat(group, "cgroup.controllers", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof(list) - 1);
	list[n > 0 ? n : 0] = '\0';
	return strstr(list, "memory") && strstr(list, "pids") && strstr(list, "cpu");
}

int delegate_root(int mount)
{
	char path[PATH_TEXT_MAX];
	int r = own_path(path);
	char *slash = r < 0 ? NULL : strrchr(path, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	int group = open_group(mount, path);
	if (group >= 0 && !is_delegated(group)) {
		(void)close(group);
		group = -ENOENT;
	}
	return group;
}

/*
 * To enable this one takes the right to set the scheduling of every process in the groups below, this one's: petri-nursery, which enables the
 * others, has it over nobody with more capabilities than its own (cap_task_setscheduler(), security/commoncap.c). Where it fails, jobs
 * that ask for a CPU set are refused.
 */
static void enable_cpuset(int mount)
{
	_cleanup_close_ int root = delegate_root(mount);
	if (root >= 0)
		(void)fd_put(root, "cgroup.subtree_control", "+cpuset");
}

int delegate_enter(struct err *err)
{
	char path[PATH_TEXT_MAX];
	int r = 0;
	_cleanup_close_ int mount = cgroup_v2_mount();
	/* The root of the tree needs no delegation, and has no place for it. */
	if (mount < 0 || own_path(path) < 0 || !*path)
		return 0;
	_cleanup_close_ int group = open_group(mount, path);
	if (group >= 0 && is_delegated(group) && has_controllers(group)) {
		if (mkdirat(group, SELF, 0755) < 0 && errno != EEXIST)
			return err_set(err, errno, "make the group %s in the delegated %s", SELF, path);
		r = fd_put(group, SELF "/cgroup.procs", "0");
		if (r < 0)
			return err_set(err, r, "move into the group %s of the delegated %s", SELF, path);
		r = 1;
	}
	enable_cpuset(mount);
	return r;
}
