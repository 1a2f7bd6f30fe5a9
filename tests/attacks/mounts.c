/*
 * Tries: mount and umount: filesystems of every kind that might be mountable (cgroup, sysfs, proc, debugfs, binfmt_misc, overlay of its
 * own, FUSE), binds of what is hidden, remounting writable and with setuid, making mounts shared, and taking off the mounts that
 * cover /tmp, /proc, /dev/shm and the masked files.
 * Must: be refused with EPERM, or the job ends by violation.
 * Stopped by: the policies; beneath them CAP_SYS_ADMIN, which nothing of a job's has.
 * Without it: (policies that allow everything, and capabilities kept) "BROKEN: tmpfs: went through", 76 in all; without
 * capabilities default holds, and judge ends by no violation.
 */
// expect judge: violation mount
#include <sys/mount.h>
#include <sys/syscall.h>

#include "reach.h"

static void new_ones(void)
{
	static const char *const types[] = {"tmpfs", "proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "debugfs",
		"tracefs", "bpf", "securityfs",
		"configfs", "binfmt_misc", "fusectl", "fuse", "overlay", "ramfs", "hugetlbfs", "ext4", "xfs", "9p", "nfs", "autofs",
		"pstore", "efivarfs"};
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		must_fail_as(types[i], mount("none", "/tmp", types[i], 0, ""), EPERM);
	must_fail(mount("overlay", "/tmp", "overlay", 0, "lowerdir=/usr,upperdir=/work/u,workdir=/work/w"), EPERM);
}

static void changes(void)
{
	static const char *const places[] = {"/", "/usr", "/proc", "/tmp", "/work", "/dev/shm", "/proc/kcore"};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		const char *p = places[i];
		must_fail_as(p, mount("none", p, NULL, MS_REMOUNT, ""), EPERM);
		must_fail_as(p, mount("none", p, NULL, MS_REMOUNT | MS_BIND, ""), EPERM);
		must_fail_as(p, mount("none", p, NULL, MS_REC | MS_SHARED, ""), EPERM);
		must_fail_as(p, mount("none", p, NULL, MS_REC | MS_SLAVE, ""), EPERM);
		must_fail_as(p, mount(p, "/tmp", NULL, MS_BIND | MS_REC, ""), EPERM);
		must_fail_as(p, mount(p, "/work", NULL, MS_MOVE, ""), EPERM);
		must_fail_as(p, umount2(p, MNT_DETACH), EPERM);
		must_fail_as(p, umount2(p, UMOUNT_NOFOLLOW), EPERM);
		must_fail_as(p, umount2(p, MNT_FORCE), EPERM);
	}
	must_fail(syscall(SYS_pivot_root, ".", "."), EPERM);
	must_fail(syscall(SYS_pivot_root, "/work", "/work"), EPERM);
}

int main(void)
{
	new_ones();
	changes();
	return finish();
}
