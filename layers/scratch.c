/*
 * Scratch: the writable part of a job's root, with a hard limit on bytes and inodes. Two kinds behind one set of
 * calls: a tmpfs of its own, or a directory under a project quota (XFS, or ext4 with -O project,quota), chosen by what
 * the state directory's filesystem really enforces. petri-nursery; libc only.
 */
#include "layers/stamp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/quota.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"

/* Inodes that petri's own directories take before the job starts: the tmpfs root, upper, work and what overlay keeps
 * in it (work, work/incompat, work/incompat/volatile, index), /work and /tmp. */
#define TMPFS_OWN_INODES 13
#define OWN_DEPTH 8
#define QUOTA_OWN_INODES 16 /* until scratch_settle() has counted them */
#define QUOTA_OWN_BYTES 131072

bool scratch_quota_usable(int dirfd)
{
	/* "Accounting and enforcement are on" is asked of the quota code itself, never guessed from the mount options. */
	struct fs_quota_stat stat = {.qs_version = FS_QSTAT_VERSION};
	if (sys_quotactl_fd(dirfd, QCMD(Q_XGETQSTAT, PRJQUOTA), 0, &stat) < 0)
		return false;
	return (stat.qs_flags & FS_QUOTA_PDQ_ENFD) != 0;
}

static int set_tmpfs_limits(int fs, uint64_t bytes, uint64_t inodes)
{
	char text[32];
	/* size=0 would mean "no limit": a disk limit of 0 still leaves one page for the overlay's own needs. */
	(void)snprintf(text, sizeof(text), "%" PRIu64, MAX(bytes, (uint64_t)4096));
	int r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "size", text, 0);
	(void)snprintf(text, sizeof(text), "%" PRIu64, inodes + TMPFS_OWN_INODES);
	return r < 0 ? r : sys_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", text, 0);
}

int scratch_make_tmpfs(uid_t uid_base, uint64_t bytes, uint64_t inodes, struct err *err)
{
	(void)uid_base;
	_cleanup_close_ int fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return err_set(err, fs, "open tmpfs");
	int r = set_tmpfs_limits(fs, bytes, inodes);
	if (r == 0)
		r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0);
	if (r == 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r < 0)
		return err_set(err, r, "make a tmpfs of %" PRIu64 " bytes", bytes);
	int mount = sys_fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	return mount < 0 ? err_set(err, mount, "fsmount tmpfs") : mount;
}

int scratch_resize_tmpfs(int mount, uint64_t bytes, uint64_t inodes, struct err *err)
{
	_cleanup_close_ int fs = sys_fspick(mount, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
	if (fs < 0)
		return err_set(err, fs, "pick the tmpfs");
	int r = set_tmpfs_limits(fs, bytes, inodes);
	if (r == 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0);
	return r < 0 ? err_set(err, r, "resize the tmpfs to %" PRIu64 " bytes", bytes) : 0;
}

static int set_project(int dirfd, uint32_t project, struct err *err)
{
	struct fsxattr attr;
	if (ioctl(dirfd, FS_IOC_FSGETXATTR, &attr) < 0)
		return err_set(err, errno, "read the project id");
	attr.fsx_projid = project;
	attr.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	if (ioctl(dirfd, FS_IOC_FSSETXATTR, &attr) < 0)
		return err_set(err, errno, "set project id %u", project);
	return 0;
}

static int set_quota(int dirfd, uint32_t project, uint64_t bytes, uint64_t inodes, struct err *err)
{
	uint64_t blocks = (bytes + 511) / 512; /* basic blocks, quotactl(2) */
	struct fs_disk_quota quota = {
		.d_version = FS_DQUOT_VERSION,
		.d_flags = FS_PROJ_QUOTA,
		.d_id = project,
		.d_fieldmask = FS_DQ_BHARD | FS_DQ_IHARD | FS_DQ_BSOFT | FS_DQ_ISOFT,
		.d_blk_hardlimit = blocks,
		.d_ino_hardlimit = inodes,
	};
	int r = sys_quotactl_fd(dirfd, QCMD(Q_XSETQLIM, PRJQUOTA), (int)project, &quota);
	return r < 0 ? err_set(err, r, "set the quota of project %u", project) : 0;
}

int scratch_make_quota(int slots, unsigned number, unsigned generation, uint32_t project, uint64_t bytes, uint64_t inodes, struct err *err)
{
	char name[64];
	(void)snprintf(name, sizeof(name), "%u", number);
	if (mkdirat(slots, name, 0700) < 0 && errno != EEXIST)
		return err_set(err, errno, "make slots/%s", name);
	(void)snprintf(name, sizeof(name), "%u/g%u", number, generation);
	if (mkdirat(slots, name, 0755) < 0)
		return err_set(err, errno, "make slots/%s", name);
	_cleanup_close_ int dir = openat(slots, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return err_set(err, errno, "open slots/%s", name);
	int r = set_project(dir, project, err);
	if (r == 0)
		r = set_quota(dir, project, bytes + QUOTA_OWN_BYTES, inodes + QUOTA_OWN_INODES, err);
	return r < 0 ? r : TAKE_FD(dir);
}

bool scratch_project_is_free(int fd, uint32_t project)
{
	struct fs_disk_quota quota = {.d_version = FS_DQUOT_VERSION};
	int r = sys_quotactl_fd(fd, QCMD(Q_XGETQUOTA, PRJQUOTA), (int)project, &quota);
	return r == -ENOENT || (r == 0 && quota.d_bcount == 0 && quota.d_icount == 0);
}

/* @dirfd is this call's to close. What a job could have put there is not met: no job has seen this scratch yet. */
static int count_own(int dirfd, unsigned depth, struct stamp_own *own)
{
	_cleanup_closedir_ DIR *dir = fdopendir(dirfd);
	struct stat st;
	if (!dir) {
		int r = -errno;
		(void)close(dirfd);
		return r;
	}
	if (fstat(dirfd, &st) < 0)
		return -errno;
	own->bytes += (uint64_t)st.st_blocks * 512;
	own->inodes++;
	for (const struct dirent *e; (e = readdir(dir));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		int fd = openat(dirfd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		int r = fd < 0 ? -errno : depth == 0 ? (close(fd), -ELOOP)
						     : count_own(fd, depth - 1, own);
		if (r == -ENOTDIR && fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			own->bytes += (uint64_t)st.st_blocks * 512;
			own->inodes++;
		} else if (r < 0) {
			return r;
		}
	}
	return 0;
}

int scratch_settle(int dirfd, uint32_t project, struct stamp_own *own, uint64_t bytes, uint64_t inodes, struct err *err)
{
	/*
	 * Counted rather than known: XFS keeps small directories in the inode, ext4 gives each a block. And walked rather than asked of
	 * the quota, which still has what was deleted and XFS has not freed yet: overlay's own trials at its mount, /work and /tmp of
	 * the last job. The next job would have that beside its limit.
	 */
	if (!own->counted) {
		struct stamp_own now = {.counted = true};
		int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		int r = fd < 0 ? -errno : count_own(fd, OWN_DEPTH, &now);
		if (r < 0)
			return err_set(err, r, "count what an empty scratch takes");
		*own = now;
	}
	return set_quota(dirfd, project, bytes + own->bytes, inodes + own->inodes, err);
}

static int make_owned(int at, const char *name, mode_t mode, uid_t owner, struct err *err)
{
	if (mkdirat(at, name, 0700) < 0)
		return err_set(err, errno, "make %s", name);
	if (fchownat(at, name, owner, owner, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(at, name, mode, 0) < 0)
		return err_set(err, errno, "set the owner of %s", name);
	return 0;
}

int scratch_fill(int dirfd, const struct stamp_slot *slot, struct err *err)
{
	/* All of it belongs to a fresh filesystem or a fresh directory that no job has seen yet. */
	int r = make_owned(dirfd, "u", 0755, slot->uid_base, err);
	if (r == 0)
		r = make_owned(dirfd, "w", 0700, slot->uid_base, err);
	if (r == 0)
		r = make_owned(dirfd, "u/work", 0755, slot->uid_base + slot->job_uid, err);
	if (r == 0)
		r = make_owned(dirfd, "u/tmp", 01777, slot->uid_base, err);
	if (r == 0)
		r = make_owned(dirfd, "j", 0755, slot->uid_base, err);
	if (r == 0)
		r = make_owned(dirfd, "j/work", 0755, slot->uid_base + slot->job_uid, err);
	if (r == 0)
		r = make_owned(dirfd, "j/tmp", 01777, slot->uid_base, err);
	if (r < 0)
		return r;
	/* A layer's own /tmp stays hidden. */
	_cleanup_close_ int tmp = openat(dirfd, "u/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (tmp < 0 || fsetxattr(tmp, "trusted.overlay.opaque", "y", 1, 0) < 0)
		return err_set(err, errno, "mark /tmp opaque");
	return 0;
}
