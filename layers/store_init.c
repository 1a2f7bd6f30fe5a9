/*
 * `petri store init`: see the header. Runs as root, once per machine start at most. Each step records what it made, and
 * a failure takes back exactly that: an image that was there before stays.
 */
#include "layers/store_init.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/sys.h"
#include "layers/loop.h"
#include "layers/tree.h"

struct fs_kind {
	const char *name;
	const char *program, *package;
	const char *args[8];
	const char *needs;
};

static const struct fs_kind kinds[] = {
	{"xfs", "mkfs.xfs", "xfsprogs", {"-q", "-m", "reflink=1", "-K", NULL}, "CONFIG_XFS_FS and CONFIG_XFS_QUOTA"},
	{"ext4", "mkfs.ext4", "e2fsprogs",
		{"-q", "-F", "-O", "project,quota", "-E", "quotatype=prjquota,nodiscard", NULL},
		"CONFIG_EXT4_FS, CONFIG_QUOTA and CONFIG_QFMT_V2"},
};

struct init {
	const char *state;
	char image[PATH_MAX], fresh[PATH_MAX]; /* STATE.img, and its name until it is whole */
	const struct fs_kind *kind;
	uint64_t size;
	int dir; /* STATE */
	bool made_dir, made_image;
};

static const struct fs_kind *find_kind(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	return NULL;
}

static int check_args(struct init *in, const char *fs, uint64_t size, struct err *err)
{
	in->kind = find_kind(fs ? fs : "xfs");
	in->size = size ? size : STORE_INIT_SIZE;
	if (!in->kind)
		return err_say(err, EINVAL, "'%.50s' is no filesystem for a store: choose xfs or ext4", fs);
	if (in->size < STORE_INIT_SIZE_MIN || in->size > INT64_MAX)
		return err_say(err, EINVAL, "a store needs at least 512M");
	size_t len = strlen(in->state);
	if (in->state[0] != '/' || len < 2 || in->state[len - 1] == '/' || len > PATH_MAX - 16)
		return err_say(err, EINVAL, "'%.200s' is no absolute path of a directory", in->state);
	(void)snprintf(in->image, sizeof(in->image), "%s.img", in->state);
	(void)snprintf(in->fresh, sizeof(in->fresh), "%s.img.new", in->state);
	return 0;
}

/* ---- the directory ---- */

static int open_dir(struct init *in, struct err *err)
{
	struct stat st;
	if (mkdir(in->state, 0700) == 0)
		in->made_dir = true;
	else if (errno != EEXIST)
		return err_set(err, errno, "make %s", in->state);
	in->dir = open(in->state, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (in->dir < 0 || fstat(in->dir, &st) < 0)
		return err_set(err, errno, "open %s", in->state);
	if (st.st_uid != 0 || (st.st_mode & 022))
		return err_say(err, EPERM, "%s does not belong to root alone", in->state);
	if (flock(in->dir, LOCK_EX | LOCK_NB) < 0)
		return err_say(err, EBUSY, "another `petri store init` of %s is running", in->state);
	return 0;
}

/* Return: 0 when it is empty and can be mounted on, 1 when it is mounted from its image already, or -errno. */
static int look_at_dir(struct init *in, char *ret_driver, size_t cap, struct err *err)
{
	struct statx sx;
	struct stat st, image;
	char device[LOOP_NAME_MAX];
	if (statx(in->dir, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx) < 0 || fstat(in->dir, &st) < 0)
		return err_set(err, errno, "stat %s", in->state);
	if (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT) {
		if (lstat(in->image, &image) == 0 && loop_backs(st.st_dev, &image, device)) {
			(void)snprintf(ret_driver, cap, "mounted already from %s on %s", in->image, device);
			return 1;
		}
		return err_say(err, EBUSY, "%s is a mount point of something else", in->state);
	}
	struct tree_names names = TREE_NAMES_INIT;
	int r = tree_list(in->dir, 1, &names);
	bool empty = r == 0 && names.count == 0;
	tree_names_clear(&names);
	if (r < 0 && r != -EFBIG)
		return err_set(err, r, "list %s", in->state);
	return empty ? 0 : err_say(err, ENOTEMPTY, "%s is not empty; a store can only be made in an empty directory", in->state);
}

/* ---- the filesystem ---- */

static _Noreturn void exec_mkfs(const struct fs_kind *kind, const char *file, int messages)
{
	static const char *const dirs[] = {"/usr/sbin", "/sbin", "/usr/local/sbin"};
	char *argv[ARRAY_SIZE(kind->args) + 3], path[64];
	static char *const env[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", NULL};
	size_t n = 0;
	argv[n++] = (char *)kind->program;
	for (size_t i = 0; kind->args[i]; i++)
		argv[n++] = (char *)kind->args[i];
	argv[n++] = (char *)file;
	argv[n] = NULL;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(messages, 2) < 0)
		_exit(126);
	(void)sys_close_range(3, ~0u, 0);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dirs[i], kind->program);
		(void)execve(path, argv, env);
	}
	_exit(127);
}

static int run_mkfs(const struct fs_kind *kind, const char *file, struct err *err)
{
	int fds[2], status = 0;
	char message[256] = "";
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, errno, "make a pipe");
	_cleanup_close_ int ours = fds[0], theirs = fds[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_set(err, errno, "fork %s", kind->program);
	if (pid == 0)
		exec_mkfs(kind, file, theirs);
	cleanup_close(&theirs);
	(void)fd_read_all(ours, message, sizeof(message) - 1);
	for (char rest[256]; fd_read_all(ours, rest, sizeof(rest)) > 0;)
		; /* it must not block on a full pipe */
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_set(err, errno, "wait for %s", kind->program);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_say(err, ENOENT, "%s is missing: install the package %s", kind->program, kind->package);
	message[strcspn(message, "\n")] = '\0';
	return err_say(err, EIO, "%s failed: %s", kind->program, message);
}

static int make_image(struct init *in, struct err *err)
{
	if (unlink(in->fresh) < 0 && errno != ENOENT) /* what a crash left; the directory's lock is ours */
		return err_set(err, errno, "remove %s", in->fresh);
	_cleanup_close_ int fd = open(in->fresh, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, errno, "make %s", in->fresh);
	int r = 0;
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)in->size) < 0)
		r = err_set(err, errno, "make %s", in->fresh);
	if (r == 0)
		r = run_mkfs(in->kind, in->fresh, err);
	if (r == 0 && (fsync(fd) < 0 || renameat2(AT_FDCWD, in->fresh, AT_FDCWD, in->image, RENAME_NOREPLACE) < 0))
		r = err_set(err, errno, "finish %s", in->image);
	if (r < 0)
		(void)unlink(in->fresh);
	else
		in->made_image = true;
	return r;
}

/* The kind of filesystem that lies in the image. */
static const struct fs_kind *probe(int fd)
{
	unsigned char head[2048];
	if (pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head))
		return NULL;
	if (memcmp(head, "XFSB", 4) == 0)
		return find_kind("xfs");
	if (head[1024 + 56] == 0x53 && head[1024 + 57] == 0xef)
		return find_kind("ext4");
	return NULL;
}

static int open_image(struct init *in, struct err *err)
{
	struct stat st;
	_cleanup_close_ int fd = open(in->image, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		int r = make_image(in, err);
		if (r < 0)
			return r;
		fd = open(in->image, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "open %s", in->image);
	if (!S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & 077))
		return err_say(err, EPERM, "%s is no file of root's alone (0600)", in->image);
	in->kind = probe(fd);
	if (!in->kind)
		return err_say(err, EINVAL, "%s holds neither xfs nor ext4; move it away to start afresh", in->image);
	return TAKE_FD(fd);
}

/* ---- the mount ---- */

static int refused(const struct init *in, int code, struct err *err)
{
	return err_say(err, code,
		"this kernel does not mount %s with project quotas (%s); it needs %s. Without them petri limits a job's disk by "
		"a tmpfs of fixed size",
		in->kind->name, strerrordesc_np(-code), in->kind->needs);
}

static int mount_image(struct init *in, const char *device, struct err *err)
{
	_cleanup_close_ int fs = sys_fsopen(in->kind->name, FSOPEN_CLOEXEC);
	if (fs < 0)
		return fs == -ENODEV ? refused(in, fs, err) : err_set(err, fs, "prepare a mount of %s", in->kind->name);
	int r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", device, 0);
	if (r == 0)
		r = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "prjquota", NULL, 0);
	if (r == 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r == -EINVAL || r == -EOPNOTSUPP || r == -ENOSYS || r == -EROFS)
		return refused(in, r, err);
	if (r < 0)
		return err_set(err, r, "mount %s", in->image);
	_cleanup_close_ int mnt = sys_fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	if (mnt < 0)
		return err_set(err, mnt, "mount %s", in->image);
	_cleanup_close_ int top = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* fsmount's is an O_PATH fd */
	if (top < 0 || fchmod(top, 0700) < 0)
		return err_set(err, errno, "make the new filesystem private");
	r = sys_move_mount(mnt, "", in->dir, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	return r < 0 ? err_set(err, r, "mount %s on %s", in->image, in->state) : 0;
}

static int attach_and_mount(struct init *in, char *ret_driver, size_t cap, struct err *err)
{
	char device[LOOP_NAME_MAX];
	_cleanup_close_ int image = open_image(in, err);
	if (image < 0)
		return image;
	_cleanup_close_ int loop = loop_attach(image, device, err);
	if (loop < 0)
		return loop;
	int r = mount_image(in, device, err);
	if (r == 0)
		(void)snprintf(ret_driver, cap, "%s project quota on %s", in->kind->name, device);
	return r;
}

int store_init(const char *state, const char *fs, uint64_t size, char *ret_driver, size_t cap, struct err *err)
{
	_cleanup_free_ struct init *in = calloc(1, sizeof(*in));
	if (!in)
		return err_set(err, ENOMEM, "make a store");
	in->state = state;
	in->dir = -1;
	int r = check_args(in, fs, size, err);
	if (r == 0)
		r = open_dir(in, err);
	if (r == 0)
		r = look_at_dir(in, ret_driver, cap, err);
	if (r == 0)
		r = attach_and_mount(in, ret_driver, cap, err);
	cleanup_close(&in->dir);
	if (r < 0 && in->made_image)
		(void)unlink(in->image);
	if (r < 0 && in->made_dir)
		(void)rmdir(state);
	return r;
}
