/* The mounts inside a slot. The room's, once: the root and /usr that the nursery prepared, and hidden beneath /dev/shm, /tmp and /proc
 * what its zygotes take their own from. A zygote's, in a copy of the room's mount namespace: a /proc of its own pid namespace, /dev/shm,
 * /work and /tmp. Async-signal-safe. */
#include "pool/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "pool/gate.h"
#include "pool/steps.h"

static int mount_new(const char *fs, const char *key, const char *value, unsigned attrs)
{
	_cleanup_close_ int fd = (int)gate2(SYS_fsopen, fs, FSOPEN_CLOEXEC);
	if (fd < 0)
		return fd;
	long r = key ? gate5(SYS_fsconfig, fd, FSCONFIG_SET_STRING, key, value, 0) : 0;
	if (r == 0)
		r = gate5(SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	return (int)(r < 0 ? r : gate3(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attrs));
}

static int attach(int tree, const char *target)
{
	return (int)gate5(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
}

static int bind(const char *source, const char *target)
{
	_cleanup_close_ int tree = (int)gate3(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return tree < 0 ? tree : attach(tree, target);
}

static int attach_new(const char *fs, const char *key, const char *value, unsigned attrs, const char *target)
{
	_cleanup_close_ int fd = mount_new(fs, key, value, attrs);
	return fd < 0 ? fd : attach(fd, target);
}

/* ---- the room ---- */
int room_setup_mounts(int root, int usr, int scratch, unsigned *ret_step)
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
	*ret_step = STEP_SCRATCH;
	r = attach(scratch, &ROOM_SCRATCH[1]);
	if (r < 0)
		return r;
	*ret_step = STEP_SETUP_SHM;
	r = attach_new("tmpfs", "mode", "0755", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME, &ROOM_SHM[1]);
	if (r < 0)
		return r;
	/* A zygote may mount its own only where a whole one is there: mount_too_revealing(), fs/namespace.c. */
	*ret_step = STEP_SETUP_PROC;
	r = attach_new("proc", NULL, NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, "proc");
	if (r < 0)
		return r;
	*ret_step = STEP_SETUP_PIVOT;
	r = (int)gate2(SYS_pivot_root, ".", ".");
	if (r < 0)
		return r;
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

/* An empty directory that shows nobody's visit: read-only, so that not even its time of access changes. */
static int make_nothing(void)
{
	if (mkdir(ROOM_NOTHING, 0555) < 0)
		return -errno;
	_cleanup_close_ int tree = (int)gate3(SYS_open_tree, AT_FDCWD, ROOM_NOTHING, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
	int r = tree < 0 ? tree : sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
	return r < 0 ? r : attach(tree, ROOM_NOTHING);
}

/*
 * What the OCI runtime specification's common defaults mask: of those that this kernel has, those that a job's user could read or
 * write. The others belong to the machine's root, whom no id of a job's is mapped to. Beside them /proc/locks, which shows the locks of
 * open file descriptions (fcntl(2), F_OFD_SETLK) of the whole machine, with ranges that another job may choose.
 */
int room_choose_masks(struct zygote *z)
{
	static const char *const files[] = {"/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/locks", "/proc/interrupts", "/proc/sysrq-trigger", "/proc/kallsyms", "/proc/kpagecount",
		"/proc/kpageflags", "/proc/kpagecgroup", "/proc/vmallocinfo"};
	static const char *const dirs[] = {"/proc/acpi", "/proc/asound", "/proc/scsi", "/proc/driver"};
	struct stat st;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (lstat(files[i], &st) == 0 && (st.st_mode & (S_IROTH | S_IWOTH)))
			z->masks[z->nmasks++] = (struct mask){"/dev/null", files[i]};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (lstat(dirs[i], &st) == 0)
			z->masks[z->nmasks++] = (struct mask){ROOM_NOTHING, dirs[i]};
	return make_nothing();
}

/* ---- a zygote ---- */
static int take(const char *source)
{
	return (int)gate3(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

/* Taken before any is attached: each hides where another comes from. */
static int attach_places(bool work)
{
	_cleanup_close_ int own = work ? take(ROOM_SCRATCH "/j/work") : -1;
	_cleanup_close_ int tmp = take(ROOM_SCRATCH "/j/tmp");
	_cleanup_close_ int shm = take(ROOM_SHM "/shm");
	int r = work ? own : 0;
	if (r >= 0)
		r = tmp;
	if (r >= 0)
		r = shm;
	if (r < 0)
		return r;
	r = work ? attach(own, "/work") : 0;
	if (r == 0)
		r = attach(tmp, "/tmp");
	return r == 0 ? attach(shm, "/dev/shm") : r;
}

int zygote_setup_mounts(const struct zygote *z, unsigned *ret_step)
{
	int r = 0;
	*ret_step = STEP_SETUP_PROC;
	/* Wholly read-only, which covers the specification's read-only paths (bus, fs, irq, sys, sysrq-trigger). Of other users' processes,
	 * which is the init, only the number: its memory is the room's, whose size would tell of earlier jobs. */
	r = attach_new("proc", "hidepid", "noaccess", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, "/proc");
	*ret_step = STEP_SETUP_MASK;
	for (unsigned i = 0; r == 0 && i < z->nmasks; i++)
		r = bind(z->masks[i].with, z->masks[i].path);
	if (r < 0)
		return r;
	*ret_step = STEP_SCRATCH;
	return attach_places(z->work);
}
