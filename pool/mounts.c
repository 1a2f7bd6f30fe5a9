/* The mounts that a zygote makes itself, inside its own user and mount namespace: its root and /usr, which the nursery
 * prepared, a /proc of its own pid namespace, and /dev/shm. Async-signal-safe. */
#include "pool/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "pool/steps.h"

static int mount_new(const char *fs, const char *mode, unsigned attrs)
{
	_cleanup_close_ int fd = sys_fsopen(fs, FSOPEN_CLOEXEC);
	if (fd < 0)
		return fd;
	int r = mode ? sys_fsconfig(fd, FSCONFIG_SET_STRING, "mode", mode, 0) : 0;
	if (r == 0)
		r = sys_fsconfig(fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	return r < 0 ? r : sys_fsmount(fd, FSMOUNT_CLOEXEC, attrs);
}

static int attach(int tree, const char *target)
{
	return sys_move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
}

/* What the OCI runtime specification's common defaults mask. A path that this kernel does not have needs no mask. */
static int mask_proc(void)
{
	static const char *const files[] = {"proc/kcore", "proc/keys", "proc/key-users", "proc/latency_stats",
		"proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/interrupts", "proc/sysrq-trigger",
		"proc/kallsyms", "proc/kpagecount", "proc/kpageflags", "proc/kpagecgroup", "proc/vmallocinfo"};
	static const char *const dirs[] = {"proc/acpi", "proc/asound", "proc/scsi", "proc/driver"};
	struct stat st;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (lstat(files[i], &st) < 0)
			continue;
		_cleanup_close_ int null = sys_open_tree(AT_FDCWD, "dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		int r = null < 0 ? null : attach(null, files[i]);
		if (r < 0)
			return r;
	}
	_cleanup_close_ int empty = -1;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		if (lstat(dirs[i], &st) < 0)
			continue;
		cleanup_close(&empty);
		empty = mount_new("tmpfs", "0555", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		int r = empty < 0 ? empty : attach(empty, dirs[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

int zygote_setup_mounts(int root, int usr, unsigned *ret_step)
{
	*ret_step = STEP_SETUP_ROOT;
	int r = attach(root, "/r");
	if (r < 0)
		return r;
	if (chdir("/r") < 0)
		return -errno;
	if (usr >= 0) {
		*ret_step = STEP_SETUP_USR;
		r = attach(usr, "usr");
		if (r < 0)
			return r;
	}
	*ret_step = STEP_SETUP_PROC;
	/* Wholly read-only, which covers the specification's read-only paths (bus, fs, irq, sys, sysrq-trigger). */
	_cleanup_close_ int proc = mount_new("proc", NULL,
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (proc < 0)
		return proc;
	r = attach(proc, "proc");
	if (r < 0)
		return r;
	*ret_step = STEP_SETUP_MASK;
	r = mask_proc();
	if (r < 0)
		return r;
	*ret_step = STEP_SETUP_SHM;
	_cleanup_close_ int shm = mount_new("tmpfs", "1777", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (shm < 0)
		return shm;
	r = attach(shm, "dev/shm");
	if (r < 0)
		return r;
	*ret_step = STEP_SETUP_PIVOT;
	r = sys_pivot_root(".", ".");
	if (r < 0)
		return r;
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}
