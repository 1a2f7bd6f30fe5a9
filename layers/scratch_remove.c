/*
 * Emptying a scratch: the worst that a job can leave. petri-nursery, mostly in a throw-away child of its; libc only. All processes of
 * the job are dead by then, so nothing changes meanwhile; but every name is a stranger's, and is only ever used relative to the
 * directory that it was read from.
 *
 * What is to go is first renamed into a directory beside it, `trash-NAME`, so that its own name is free at once and an interrupted
 * removal is found again. From there a plain walk deletes it, depth first. A directory that lies deeper than DEPTH_MAX is not entered
 * but moved up into the trash, where a later round finds it: neither stack nor fds nor the length of a path limit how deep a job may
 * nest, and a move is needed for one directory in DEPTH_MAX only, not for each as it would be without the walk.
 */
#include "layers/stamp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"

#define DEPTH_MAX 32
#define DEPTH_FULL_MAX 512 /* where the filesystem has no room for one more name in the trash */
#define ROUNDS_MAX 16	   /* over one directory, when names appear that were not there: never seen, but no reason to spin */

struct removal {
	int top;	  /* the trash */
	unsigned counter; /* of names in it */
	struct err *err;
};

static int empty_dir(struct removal *rm, int fd, unsigned depth);

static bool is_dot(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* What keeps even root from unlinking. Return: whether something was in the way, and is not any more. */
static bool clear_flags(int fd)
{
	unsigned flags = 0;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || !(flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)))
		return false;
	flags &= ~(unsigned)(FS_IMMUTABLE_FL | FS_APPEND_FL);
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

/*
 * No job can set these flags (CAP_LINUX_IMMUTABLE of the machine); this is for an operator's slip, and for the kernel's next surprise.
 * Only files and directories are opened for it: opening a device can do things.
 */
static bool unlock(int dir, const char *name)
{
	struct stat st;
	bool dir_too = clear_flags(dir);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return dir_too;
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return (fd >= 0 && clear_flags(fd)) || dir_too;
}

/* unlinkat(2), once more where a flag was in the way. Return: 0 or -errno; what is gone already is no error. */
static int unlink_one(int dir, const char *name, int flags)
{
	if (unlinkat(dir, name, flags) == 0 || errno == ENOENT)
		return 0;
	int error = errno;
	if (error != EPERM || !unlock(dir, name))
		return -error;
	return unlinkat(dir, name, flags) == 0 ? 0 : -errno;
}

static int move_up(struct removal *rm, int dir, const char *name)
{
	for (bool unlocked = false;;) {
		char up[16];
		(void)snprintf(up, sizeof(up), "t%u", rm->counter++);
		if (renameat2(dir, name, rm->top, up, RENAME_NOREPLACE) == 0)
			return 0;
		int error = errno; /* EEXIST: a name that an interrupted removal took */
		if (error == EPERM && !unlocked && unlock(dir, name))
			unlocked = true;
		else if (error != EEXIST)
			return -error;
	}
}

/* Into no other mount, whatever lies there. Return: an fd or -errno. */
static int open_dir(int at, const char *name)
{
	const struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
	return sys_openat2(at, name, &how);
}

static int remove_dir(struct removal *rm, int dir, const char *name, unsigned depth)
{
	int r = unlink_one(dir, name, AT_REMOVEDIR);
	for (int round = 0; r == -ENOTEMPTY || r == -EEXIST; round++) {
		if (round == ROUNDS_MAX)
			return r;
		if (depth >= DEPTH_MAX) {
			r = move_up(rm, dir, name);
			if (r != -ENOSPC || depth >= DEPTH_FULL_MAX)
				return r;
		}
		int fd = open_dir(dir, name);
		if (fd < 0)
			return fd;
		r = empty_dir(rm, fd, depth + 1);
		if (r == 0)
			r = unlink_one(dir, name, AT_REMOVEDIR);
	}
	return r;
}

static int remove_entry(struct removal *rm, int dir, const struct dirent *e, unsigned depth)
{
	/* Where the filesystem says that it is a directory, which all do that a scratch lies on, one call is saved. */
	int r = e->d_type == DT_DIR ? -EISDIR : unlink_one(dir, e->d_name, 0);
	if (r == -EISDIR)
		r = remove_dir(rm, dir, e->d_name, depth);
	if (r < 0 && rm->err && rm->err->msg[0] == '\0') /* where it happened, not on the way up */
		(void)err_set(rm->err, r, "remove '%.100s'", e->d_name);
	return r;
}

/* @fd is this call's to close. Return: 0 when nothing is left in it, or -errno. */
static int empty_dir(struct removal *rm, int fd, unsigned depth)
{
	_cleanup_closedir_ DIR *dir = fdopendir(fd);
	if (!dir) {
		int r = -errno;
		(void)close(fd);
		return r;
	}
	for (;;) {
		errno = 0;
		const struct dirent *e = readdir(dir);
		if (!e)
			return -errno;
		int r = is_dot(e->d_name) ? 0 : remove_entry(rm, dirfd(dir), e, depth);
		if (r < 0)
			return r;
	}
}

static bool is_empty(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (!is_dot(e->d_name))
			return false;
	return dir != NULL;
}

/* What is moved up while the trash is walked may be met at once or in the next round. Each round takes DEPTH_MAX levels at least. */
static int empty_top(struct removal *rm)
{
	do {
		int fd = openat(rm->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		int r = fd < 0 ? -errno : empty_dir(rm, fd, 0);
		if (r < 0)
			return r;
	} while (!is_empty(rm->top));
	return 0;
}

static bool is_absent(int dirfd, const char *name)
{
	return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

int scratch_remove_tree(int dirfd, const char *name, bool keep, struct err *err)
{
	char trash[64];
	(void)snprintf(trash, sizeof(trash), "trash-%.50s", name);
	/* The common case where scratch is a tmpfs: making and removing a directory on a disk is a tenth of a slot's start. One that
	 * is to be kept is made while there is room for it. */
	if (!keep && is_absent(dirfd, name) && is_absent(dirfd, trash))
		return 0;
	if (mkdirat(dirfd, trash, 0700) < 0 && errno != EEXIST)
		return err_set(err, errno, "make %s", trash);
	_cleanup_close_ int top = openat(dirfd, trash, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (top < 0)
		return err_set(err, errno, "open %s", trash);
	struct err why = ERR_INIT;
	struct removal rm = {.top = top, .counter = (unsigned)now_us(), .err = &why};
	int r = move_up(&rm, dirfd, name);
	if (r < 0 && r != -ENOENT)
		return err_set(err, r, "move %s away", name);
	r = empty_top(&rm);
	if (r < 0)
		return err_set(err, r, "empty %s (%.200s)", name, err_msg(&why));
	if (!keep && unlinkat(dirfd, trash, AT_REMOVEDIR) < 0)
		return err_set(err, errno, "remove %s", trash);
	return 0;
}
