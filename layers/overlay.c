/* Overlay mounts by the new mount API, and idmapped lowers. petri-nursery; libc only. */
#include "layers/stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/sys.h"

#define AT_CLONE (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW)

/* What the kernel says about a failed fsconfig: the first message of its log. */
static void add_log(int fs, struct err *err)
{
	char line[200];
	ssize_t n = read(fs, line, sizeof(line) - 1);
	if (n <= 2 || !err)
		return;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	size_t len = strlen(err->msg);
	(void)snprintf(err->msg + len, sizeof(err->msg) - len, " (%.180s)", line + 2);
}

int overlay_make(const char *lowers, const char *upper, const char *work, bool read_only, struct err *err)
{
	_cleanup_close_ int fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return err_set(err, fs, "open the overlay filesystem (is it in the kernel?)");
	const struct {
		const char *key, *value;
	} strings[] = {
		{"source", "petri"},
		{"lowerdir", lowers},
		{"upperdir", upper},
		{"workdir", work},
		{"redirect_dir", "nofollow"},
		{"metacopy", "off"},
		{"index", "off"},
		/* Else the numbers of directories' inodes come from a counter, which tells what other jobs have looked at. */
		{"xino", "on"},
	};
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(strings); i++) {
		if (!strings[i].value)
			continue;
		r = sys_fsconfig(fs, FSCONFIG_SET_STRING, strings[i].key, strings[i].value, 0);
		if (r < 0)
			(void)err_set(err, r, "overlay: %s=%.200s", strings[i].key, strings[i].value);
	}
	/* Without `volatile` unmounting syncs the whole scratch filesystem; a job's upper is never needed after a crash. */
	if (r == 0 && upper) {
		r = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
		if (r < 0)
			(void)err_set(err, r, "overlay: volatile");
	}
	if (r == 0) {
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
		if (r < 0) {
			(void)err_set(err, r, "mount overlay of %.200s", lowers);
			add_log(fs, err);
		}
	}
	if (r < 0)
		return r;
	unsigned attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME | (read_only ? MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV : 0);
	int mount = sys_fsmount(fs, FSMOUNT_CLOEXEC, attrs);
	return mount < 0 ? err_set(err, mount, "fsmount overlay") : mount;
}

int overlay_attach_lower(const char *source, const char *target, int userns, bool *ret_idmapped, struct err *err)
{
	_cleanup_close_ int tree = sys_open_tree(AT_FDCWD, source, AT_CLONE);
	if (tree < 0)
		return err_set(err, tree, "open layer %s", source);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	bool idmapped = false;
	if (userns >= 0) {
		struct mount_attr mapped = attr;
		mapped.attr_set |= MOUNT_ATTR_IDMAP;
		mapped.userns_fd = (uint64_t)userns;
		idmapped = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &mapped) == 0;
	}
	/* A filesystem without idmapped mounts (overlay, tmpfs on 6.1): its owners show as nobody inside. */
	int r = idmapped ? 0 : sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
	if (r < 0)
		return err_set(err, r, "make layer %s read-only", source);
	r = sys_move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
	if (r < 0)
		return err_set(err, r, "attach layer %s", source);
	*ret_idmapped = idmapped;
	return 0;
}

static int write_map(pid_t pid, const char *which, uid_t inside, uid_t outside, unsigned count)
{
	char path[64], line[64];
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, which);
	(void)snprintf(line, sizeof(line), "%u %u %u\n", inside, outside, count);
	return fd_put(AT_FDCWD, path, line);
}

int overlay_userns(uid_t inside, uid_t outside, unsigned count, struct err *err)
{
	/* A user namespace lives in a process; this one only holds it until the fd does. It shares the nursery's fds rather than copy
	 * thousands, and ends with it; whoever reaps children takes it. */
	struct clone_args args = {.flags = CLONE_NEWUSER | CLONE_FILES, .exit_signal = SIGCHLD};
	pid_t parent = getpid(), pid = sys_clone3(&args);
	if (pid < 0)
		return err_set(err, pid, "make a user namespace (user.max_user_namespaces?)");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (getppid() != parent)
			_exit(0);
		for (;;)
			(void)pause();
	}
	int r = write_map(pid, "uid_map", inside, outside, count);
	if (r == 0)
		r = write_map(pid, "gid_map", inside, outside, count);
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	int fd = r < 0 ? r : open(path, O_RDONLY | O_CLOEXEC);
	if (r == 0 && fd < 0)
		r = -errno;
	(void)kill(pid, SIGKILL);
	return r < 0 ? err_set(err, r, "map a user namespace") : fd;
}
