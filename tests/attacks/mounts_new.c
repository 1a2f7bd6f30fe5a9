/*
 * Tries: the newer calls of mounting, open_tree first, without a clone too, which needs no privilege by itself; a detached copy of each
 * mount, whose files beneath would be uncovered; fsopen and fspick; statmount and listmount, which tell of mounts.
 * Must: be refused with EPERM (what a policy does not list: ENOSYS), or the job ends by violation.
 * Stopped by: the policies; beneath them CAP_SYS_ADMIN.
 * Without it: (policies that allow everything) "BROKEN: /: went through", open_tree without a clone, and listmount; with
 * capabilities kept all 59.
 */
// expect judge: violation open_tree
#include <linux/mount.h>
#include <sys/syscall.h>

#include "reach.h"

#ifndef SYS_statmount
#define SYS_statmount 457
#define SYS_listmount 458
#endif
#define SYS_open_tree_attr_ 467

static void ask(void)
{
	unsigned long long request[4] = {24, (unsigned long long)-1, 0, 0}, ids[64];
	must_fail(syscall(SYS_listmount, request, ids, 64, 0), ENOSYS);
	request[1] = 1;
	must_fail(syscall(SYS_statmount, request, ids, sizeof(ids), 0), ENOSYS);
}

static void trees(void)
{
	static const char *const places[] = {"/", "/usr", "/proc", "/tmp", "/work", "/dev/shm", "/dev"};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		static const unsigned flags[] = {0, OPEN_TREE_CLONE, OPEN_TREE_CLONE | AT_RECURSIVE};
		for (size_t j = 0; j < sizeof(flags) / sizeof(flags[0]); j++)
			must_fail_as(places[i], syscall(SYS_open_tree, AT_FDCWD, places[i], flags[j]), EPERM);
		struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
		must_fail_as(places[i], syscall(SYS_mount_setattr, AT_FDCWD, places[i], AT_RECURSIVE, &attr, sizeof(attr)), EPERM);
		must_fail_as(places[i], syscall(SYS_fspick, AT_FDCWD, places[i], 0), EPERM);
		must_fail_as(places[i], syscall(SYS_move_mount, AT_FDCWD, places[i], AT_FDCWD, "/work", 0), EPERM);
		must_fail_as(places[i], syscall(SYS_open_tree_attr_, AT_FDCWD, places[i], 0, &attr, sizeof(attr)), EPERM, ENOSYS);
	}
}

int main(void)
{
	ask();
	trees();
	static const char *const types[] = {"tmpfs", "proc", "sysfs", "cgroup", "cgroup2", "overlay", "bpf", "mqueue"};
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		must_fail_as(types[i], syscall(SYS_fsopen, types[i], 0), EPERM);
	return finish();
}
