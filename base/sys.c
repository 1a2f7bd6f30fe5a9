/* Raw system calls; see the header. */
#include "base/sys.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RET(call) \
	do { \
		long ret_ = (call); \
		return ret_ < 0 ? -errno : (int)ret_; \
	} while (0)

pid_t sys_clone3(struct clone_args *args)
{
	RET(syscall(SYS_clone3, args, sizeof(*args)));
}

int sys_pidfd_open(pid_t pid, unsigned flags)
{
	RET(syscall(SYS_pidfd_open, pid, flags));
}

int sys_pidfd_send_signal(int pidfd, int sig)
{
	RET(syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0));
}

int sys_openat2(int dirfd, const char *path, const struct open_how *how)
{
	RET(syscall(SYS_openat2, dirfd, path, how, sizeof(*how)));
}

int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
	RET(syscall(SYS_close_range, first, last, flags));
}

int sys_open_tree(int dirfd, const char *path, unsigned flags)
{
	RET(syscall(SYS_open_tree, dirfd, path, flags));
}

int sys_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags)
{
	RET(syscall(SYS_move_mount, from, from_path, to, to_path, flags));
}

int sys_fsopen(const char *fs, unsigned flags)
{
	RET(syscall(SYS_fsopen, fs, flags));
}

int sys_fspick(int dirfd, const char *path, unsigned flags)
{
	RET(syscall(SYS_fspick, dirfd, path, flags));
}

int sys_fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux)
{
	RET(syscall(SYS_fsconfig, fd, cmd, key, value, aux));
}

int sys_fsmount(int fd, unsigned flags, unsigned attrs)
{
	RET(syscall(SYS_fsmount, fd, flags, attrs));
}

int sys_mount_setattr(int dirfd, const char *path, unsigned flags, const struct mount_attr *attr)
{
	RET(syscall(SYS_mount_setattr, dirfd, path, flags, attr, sizeof(*attr)));
}

int sys_pivot_root(const char *new_root, const char *put_old)
{
	RET(syscall(SYS_pivot_root, new_root, put_old));
}

int sys_quotactl_fd(int fd, unsigned cmd, int id, void *addr)
{
	RET(syscall(SYS_quotactl_fd, fd, cmd, id, addr));
}

int sys_seccomp(unsigned op, unsigned flags, void *args)
{
	RET(syscall(SYS_seccomp, op, flags, args));
}

int sys_keyctl_join_session(void)
{
	RET(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL));
}

int sys_drop_bounding_set(void)
{
	return sys_bound_caps(0);
}

int sys_bound_caps(uint64_t keep)
{
	for (int cap = 0; cap < 64; cap++) {
		int held = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		if (held < 0) /* past cap_last_cap */
			break;
		/* What is gone already needs no CAP_SETPCAP to be dropped. */
		if (held == 1 && !(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -errno;
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

int sys_keep_caps(uint64_t keep)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	struct __user_cap_data_struct data[2] = {{0}, {0}};
	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		data[i].permitted &= (uint32_t)(keep >> (32 * i));
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	RET(syscall(SYS_capset, &header, data));
}

int sys_drop_caps(void)
{
	return sys_keep_caps(0);
}

uint64_t now_ns(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t now_us(void)
{
	return now_ns() / 1000;
}

uint64_t wall_us(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t wall_ms(void)
{
	return wall_us() / 1000;
}
