/*
 * Tries: ioctls and calls that act on a filesystem rather than a file, on the places (which may be a quota filesystem's own), the root
 * and /usr: out of its project (FS_IOC_FSSETXATTR, file_setattr), immutable flags, freeze, shutdown, trim, resize, defragmentation,
 * XFS's handles, bulkstat and quota ways, encryption and verity, labels; then quotactl by path and by fd.
 * Must: be refused, each; then the job ends by violation, or with EPERM.
 * Stopped by: the policies' rules on FS_IOC_FSSETXATTR, FS_IOC_SETFLAGS, file_setattr and quotactl; the user namespace (a project id cannot
 * be changed in one); CAP_SYS_ADMIN of the host's for the others.
 * Without it: (policies that allow everything) 74 BROKEN, all of them other errnos than the policies', as file_setattr: EINVAL:
 * the second line holds.
 */
// expect judge: violation quotactl
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "reach.h"

static const struct {
	const char *name;
	unsigned long request;
} requests[] = {
	{"FS_IOC_FSSETXATTR", FS_IOC_FSSETXATTR},
	{"FS_IOC_SETFLAGS", FS_IOC_SETFLAGS},
	{"FS_IOC32_SETFLAGS", 0x40046602},
	{"FIFREEZE", FIFREEZE},
	{"FITHAW", FITHAW},
	{"FITRIM", FITRIM},
	{"FS_IOC_SHUTDOWN", _IOR('X', 125, unsigned)},
	{"FS_IOC_SETFSLABEL", _IOW(0x94, 50, char[256])},
	{"FIBMAP", FIBMAP},
	{"EXT4_IOC_SWAP_BOOT", _IO('f', 17)},
	{"EXT4_IOC_RESIZE_FS", _IOW('f', 16, unsigned long)},
	{"EXT4_IOC_GROUP_EXTEND", _IOW('f', 7, unsigned long)},
	{"XFS_IOC_FSBULKSTAT", _IOWR('X', 101, char[32])},
	{"XFS_IOC_OPEN_BY_HANDLE", _IOWR('X', 107, char[56])},
	{"XFS_IOC_READLINK_BY_HANDLE", _IOWR('X', 108, char[56])},
	{"XFS_IOC_FSGROWFSDATA", _IOW('X', 110, char[16])},
	{"XFS_IOC_FSGROWFSLOG", _IOW('X', 111, char[8])},
	{"XFS_IOC_SET_RESBLKS", _IOWR('X', 114, char[16])},
	{"XFS_IOC_ERROR_INJECTION", _IOW('X', 116, char[8])},
	{"XFS_IOC_GOINGDOWN", _IOR('X', 125, unsigned)},
	{"XFS_IOC_SCRUB_METADATA", _IOWR('X', 60, char[64])},
	{"XFS_IOC_BULKSTAT", _IOR('X', 127, char[72])},
	{"XFS_IOC_SWAPEXT", _IOWR('X', 109, char[192])},
	{"XFS_IOC_FREE_EOFBLOCKS", _IOR('X', 58, char[128])},
	{"BTRFS_IOC_SUBVOL_CREATE", _IOW(0x94, 14, char[4096])},
	{"BTRFS_IOC_SNAP_CREATE", _IOW(0x94, 1, char[4096])},
	{"LOOP_CLR_FD", 0x4c01},
	{"BLKDISCARD", 0x1277},
	{"TIOCSTI", 0x5412},
	{"TIOCLINUX", 0x541c},
	{"TIOCCONS", 0x541d},
	{"KDSETMODE", 0x4b3a},
};

static void on(const char *path)
{
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		static char arg[4096];
		char what[128];
		memset(arg, 0, sizeof(arg));
		struct fsxattr project = {.fsx_xflags = 0x200 /* FS_XFLAG_PROJINHERIT */, .fsx_projid = 4711};
		if (requests[i].request == FS_IOC_FSSETXATTR)
			memcpy(arg, &project, sizeof(project));
		if (requests[i].request == FS_IOC_SETFLAGS)
			arg[0] = 0x30; /* immutable, append only */
		(void)snprintf(what, sizeof(what), "%s of %s", requests[i].name, path);
		must_fail_as(what, ioctl(fd, requests[i].request, arg));
	}
	unsigned char attr[24] = {0, 0x02};
	must_fail_as("file_setattr", syscall(469, AT_FDCWD, path, attr, sizeof(attr), 0), EPERM, ENOSYS);
	must_fail_as("file_setattr by fd", syscall(469, fd, "", attr, sizeof(attr), 0x1000), EPERM, ENOSYS);
	(void)close(fd);
}

int main(void)
{
	static const char *const paths[] = {"/work", "/tmp", "/dev/shm", "/", "/usr", "/proc", "/dev/null", "/work/file", "/tmp/file",
		"/dev/shm/file"};
	for (size_t i = 7; i < sizeof(paths) / sizeof(paths[0]); i++)
		(void)close(open(paths[i], O_WRONLY | O_CREAT, 0644));
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		on(paths[i]);
	int fd = open("/work/again", O_RDWR | O_CREAT, 0644);
	must(fd >= 0 && write(fd, "x", 1) == 1, "its own directory is still writable");
	for (unsigned type = 0; type <= 2; type++)
		for (unsigned command = 0x800001; command <= 0x80000a; command++) {
			char buffer[256] = {0};
			must_fail_as("quotactl", syscall(SYS_quotactl, command << 8 | type, "/dev/vda", 0, buffer), EPERM);
			must_fail_as("quotactl_fd", syscall(443, fd, command << 8 | type, 0, buffer), EPERM);
		}
	return finish();
}
