/* The scratch on this machine: a tmpfs with limits, and removing what a hostile job left. Root only. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "layers/stamp.h"

static char dir[64];

static int make_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/test-scratch-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	return fd;
}

Test(scratch, a_tree_deeper_than_any_path_is_removed)
{
	int top = make_dir(), at = dup(top);
	for (int i = 0; i < 6000; i++) { /* 6000 names of 100 bytes: far beyond PATH_MAX */
		char name[101];
		memset(name, 'd', 100);
		name[100] = '\0';
		cr_assert_eq(mkdirat(at, i ? name : "tree", 0700), 0);
		int next = openat(at, i ? name : "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		cr_assert_geq(next, 0);
		close(at);
		at = next;
	}
	close(at);
	struct err err = ERR_INIT;
	cr_assert_eq(scratch_remove_tree(top, "tree", false, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(faccessat(top, "tree", F_OK, 0), -1);
	cr_assert_eq(rmdir(dir), 0, "something was left behind");
	close(top);
}

Test(scratch, links_are_removed_and_not_followed)
{
	int top = make_dir();
	cr_assert_eq(mkdirat(top, "precious", 0700), 0);
	close(openat(top, "precious/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	cr_assert_eq(mkdirat(top, "tree", 0700), 0);
	cr_assert_eq(symlinkat("../precious", top, "tree/link"), 0);
	cr_assert_eq(symlinkat("/", top, "tree/root"), 0);
	cr_assert_eq(mkfifoat(top, "tree/fifo", 0600), 0);
	cr_assert_eq(mkdirat(top, "tree/closed", 0), 0);
	cr_assert_eq(scratch_remove_tree(top, "tree", false, NULL), 0);
	cr_assert_eq(faccessat(top, "precious/file", F_OK, 0), 0, "followed a link");
	cr_assert_eq(scratch_remove_tree(top, "precious", false, NULL), 0);
	cr_assert_eq(scratch_remove_tree(top, "not-there", false, NULL), 0);
	cr_assert_eq(rmdir(dir), 0);
	close(top);
}

Test(scratch, a_tmpfs_has_the_size_that_was_asked)
{
	struct err err = ERR_INIT;
	struct statfs st;
	int mount = scratch_make_tmpfs(0, 8 << 20, 100, &err);
	if (mount == -EPERM)
		cr_skip_test("needs root");
	cr_assert_geq(mount, 0, "%s", err_msg(&err));
	cr_assert_eq(fstatfs(mount, &st), 0);
	cr_assert_eq((uint64_t)st.f_blocks * (uint64_t)st.f_bsize, 8u << 20);
	cr_assert_eq(scratch_resize_tmpfs(mount, 16 << 20, 200, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(fstatfs(mount, &st), 0);
	cr_assert_eq((uint64_t)st.f_blocks * (uint64_t)st.f_bsize, 16u << 20);
	cr_assert_geq(st.f_files, 200);
	cr_assert_lt(st.f_files, 240);
	close(mount);
}

Test(scratch, this_kernel_says_whether_it_has_project_quotas)
{
	/* A tmpfs, wherever this runs: never to be taken for a filesystem with project quotas. */
	int shm = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (shm < 0)
		cr_skip_test("needs /dev/shm");
	cr_assert_not(scratch_quota_usable(shm));
	close(shm);
}
