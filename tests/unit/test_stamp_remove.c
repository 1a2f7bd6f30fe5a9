/* Removing the worst that a job can leave in its scratch, on whatever filesystem /tmp lies on. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "layers/stamp.h"

static char dir[40];

static int make_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/test-remove-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(mkdirat(fd, "tree", 0700), 0);
	return fd;
}

static void touch(int at, const char *name)
{
	int fd = openat(at, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0, "%s: %s", name, strerror(errno));
	close(fd);
}

static void gone(int top)
{
	struct err err = ERR_INIT;
	cr_assert_eq(scratch_remove_tree(top, "tree", false, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(rmdir(dir), 0, "something was left behind");
	close(top);
}

/* A file beside each directory on the way down, so that nothing goes by rmdir alone. */
static void nest(int top, int levels)
{
	int at = openat(top, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < levels; i++) {
		char name[101];
		memset(name, 'd', 100);
		name[100] = '\0';
		cr_assert_eq(mkdirat(at, name, 0700), 0);
		touch(at, "file");
		int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		cr_assert_geq(next, 0);
		close(at);
		at = next;
	}
	close(at);
}

Test(remove_tree, ten_thousand_levels_with_few_files_open)
{
	struct rlimit files = {48, 48}, memory = {64 << 20, 64 << 20};
	int top = make_dir();
	nest(top, 10000);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
#ifdef __SANITIZE_ADDRESS__
	(void)memory; /* its own shadow is larger */
#else
	cr_assert_eq(setrlimit(RLIMIT_DATA, &memory), 0);
#endif
	gone(top);
}

Test(remove_tree, wide_and_deep_at_once)
{
	int top = make_dir();
	for (int i = 0; i < 300; i++) {
		char path[64];
		snprintf(path, sizeof(path), "tree/%d", i);
		cr_assert_eq(mkdirat(top, path, 0), 0);
		for (int j = 0; j < 20; j++) {
			snprintf(path, sizeof(path), "tree/%d/%d", i, j);
			if (j % 2)
				touch(top, path);
			else
				cr_assert_eq(mkdirat(top, path, 0), 0);
		}
	}
	nest(top, 200);
	gone(top);
}

Test(remove_tree, names_of_any_bytes)
{
	int top = make_dir();
	char name[8] = "tree/x";
	for (int byte = 1; byte < 256; byte++) {
		name[5] = (char)byte;
		if (byte != '/' && byte != '.')
			touch(top, name);
	}
	touch(top, "tree/...");
	touch(top, "tree/..x");
	touch(top, "tree/-rf");
	cr_assert_eq(mkdirat(top, "tree/trash-tree", 0700), 0);
	cr_assert_eq(mkdirat(top, "tree/t0", 0700), 0);
	char longest[5 + 255 + 1] = "tree/";
	memset(longest + 5, 0xff, 255);
	longest[260] = '\0';
	cr_assert_eq(mkdirat(top, longest, 0700), 0);
	gone(top);
}

Test(remove_tree, every_kind_of_file)
{
	int top = make_dir();
	touch(top, "tree/file");
	for (int i = 0; i < 500; i++) {
		char name[32];
		snprintf(name, sizeof(name), "tree/hard-%d", i);
		cr_assert_eq(linkat(top, "tree/file", top, name, 0), 0);
	}
	int huge = openat(top, "tree/sparse", O_CREAT | O_WRONLY | O_CLOEXEC, 0);
	cr_assert_geq(huge, 0);
	(void)!ftruncate(huge, 1ll << 43); /* and it stays open */
	cr_assert_eq(mkfifoat(top, "tree/fifo", 0), 0);
	cr_assert_eq(symlinkat("/etc/passwd", top, "tree/link"), 0);
	cr_assert_eq(symlinkat("tree", top, "tree/loop"), 0);
	(void)mknodat(top, "tree/null", S_IFCHR | 0600, 0); /* a whiteout of the overlay's: any user may make one */
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	snprintf(name.sun_path, sizeof(name.sun_path), "%s/tree/socket", dir);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(sock, (struct sockaddr *)&name, sizeof(name)), 0);
	gone(top);
	close(sock);
	close(huge);
	cr_assert_eq(access("/etc/passwd", F_OK), 0);
}

static bool set_flags(int at, const char *name, unsigned flags)
{
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC);
	bool good = fd >= 0 && ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
	close(fd);
	return good;
}

Test(remove_tree, immutable_and_append_only)
{
	int top = make_dir();
	touch(top, "tree/file");
	touch(top, "tree/log");
	cr_assert_eq(mkdirat(top, "tree/d", 0700), 0);
	cr_assert_eq(mkdirat(top, "tree/d/e", 0700), 0);
	touch(top, "tree/d/e/f");
	if (!set_flags(top, "tree/file", FS_IMMUTABLE_FL)) {
		gone(top);
		cr_skip_test("needs a filesystem with inode flags, and CAP_LINUX_IMMUTABLE");
	}
	cr_assert(set_flags(top, "tree/log", FS_APPEND_FL));
	cr_assert(set_flags(top, "tree/d/e/f", FS_IMMUTABLE_FL));
	cr_assert(set_flags(top, "tree/d/e", FS_IMMUTABLE_FL));
	cr_assert(set_flags(top, "tree/d", FS_APPEND_FL));
	cr_assert(set_flags(top, "tree", FS_IMMUTABLE_FL));
	gone(top);
}

Test(remove_tree, an_immutable_directory_too_deep_to_be_entered)
{
	int top = make_dir();
	char path[400] = "tree";
	for (int i = 0; i < 60; i++) {
		strcat(path, "/d");
		cr_assert_eq(mkdirat(top, path, 0700), 0);
	}
	if (!set_flags(top, path, FS_IMMUTABLE_FL)) {
		gone(top);
		cr_skip_test("needs a filesystem with inode flags, and CAP_LINUX_IMMUTABLE");
	}
	for (size_t len = strlen(path); len > 6; len -= 2) {
		path[len] = '\0';
		cr_assert(set_flags(top, path, FS_IMMUTABLE_FL));
	}
	gone(top);
}

Test(remove_tree, what_is_mounted_there_stays)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		cr_skip_test("needs root");
	int top = make_dir();
	char path[200], file[240];
	snprintf(path, sizeof(path), "%s/tree/mnt", dir);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_assert_eq(mount("none", path, "tmpfs", 0, "size=64k"), 0);
	snprintf(file, sizeof(file), "%s/precious", path);
	touch(AT_FDCWD, file);
	int inside = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct err err = ERR_INIT;
	cr_expect_lt(scratch_remove_tree(top, "tree", false, &err), 0);
	cr_expect(strstr(err_msg(&err), "mnt"), "%s", err_msg(&err));
	cr_expect_eq(faccessat(inside, "precious", F_OK, 0), 0, "a mount was entered");
	close(inside);
	/* It was moved aside all the same, and goes as soon as nothing is in the way. */
	cr_expect_eq(faccessat(top, "tree", F_OK, 0), -1);
	char name[96];
	snprintf(name, sizeof(name), "%s/trash-tree", dir);
	DIR *trash = opendir(name);
	cr_assert_not_null(trash);
	for (struct dirent *e; (e = readdir(trash));) {
		if (e->d_name[0] != 't')
			continue;
		snprintf(path, sizeof(path), "%s/%.20s/mnt", name, e->d_name);
		cr_assert_eq(umount(path), 0);
	}
	closedir(trash);
	gone(top);
}

Test(remove_tree, what_an_interrupted_removal_left)
{
	int top = make_dir();
	cr_assert_eq(mkdirat(top, "trash-tree", 0700), 0);
	cr_assert_eq(mkdirat(top, "trash-tree/t1", 0700), 0);
	cr_assert_eq(mkdirat(top, "trash-tree/t2", 0700), 0);
	touch(top, "trash-tree/t2/file");
	touch(top, "trash-tree/stray");
	touch(top, "tree/file");
	struct err err = ERR_INIT;
	cr_assert_eq(scratch_remove_tree(top, "tree", true, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(unlinkat(top, "trash-tree", AT_REMOVEDIR), 0, "kept, and empty");
	cr_assert_eq(scratch_remove_tree(top, "tree", true, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(unlinkat(top, "trash-tree", AT_REMOVEDIR), 0, "made in advance: there may be no room for it later");
	cr_assert_eq(scratch_remove_tree(top, "tree", false, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(rmdir(dir), 0);
	close(top);
}

Test(remove_tree, a_trash_that_is_none_is_an_error)
{
	int top = make_dir();
	struct err err = ERR_INIT;
	touch(top, "trash-tree");
	cr_assert_eq(scratch_remove_tree(top, "tree", true, &err), -ENOTDIR);
	cr_expect(strstr(err_msg(&err), "trash-tree"), "%s", err_msg(&err));
	cr_assert_eq(unlinkat(top, "trash-tree", 0), 0);
	gone(top);
}
