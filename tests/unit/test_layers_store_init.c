/* `petri store init`: refusals, and that a kernel without project quotas leaves nothing behind. */
#include "test_layers_util.h"

#include <sys/mount.h>
#include <sys/vfs.h>

#include "layers/loop.h"
#include "layers/store_init.h"

static int init(struct fixture *f, const char *fs, uint64_t size, struct err *err)
{
	char driver[128] = "";
	*err = ERR_INIT;
	return store_init(f->state, fs, size, driver, sizeof(driver), err);
}

Test(layers_store_init, refuses_bad_arguments)
{
	struct fixture f;
	struct err err;
	char driver[64];
	fixture_open(&f, false);
	cr_expect_eq(init(&f, "btrfs", 0, &err), -EINVAL);
	cr_expect(strstr(err_msg(&err), "xfs or ext4"), "%s", err_msg(&err));
	cr_expect_eq(init(&f, "xfs", 1 << 20, &err), -EINVAL);
	cr_expect_eq(store_init("relative", "xfs", 0, driver, sizeof(driver), &err), -EINVAL);
	cr_expect_eq(count_in(f.dirfd, "."), 0);
	fixture_close(&f);
}

Test(layers_store_init, refuses_what_is_in_use)
{
	struct fixture f;
	struct err err;
	fixture_open(&f, false);
	cr_assert_eq(mkdirat(f.dirfd, "state", 0700), 0);
	write_at(f.dirfd, "state/letters", "dear", 0600);
	cr_expect_eq(init(&f, "xfs", 0, &err), -ENOTEMPTY, "%s", err_msg(&err));
	cr_assert_eq(unlinkat(f.dirfd, "state/letters", 0), 0);
	cr_assert_eq(fchmodat(f.dirfd, "state", 0777, 0), 0);
	cr_expect_eq(init(&f, "xfs", 0, &err), -EPERM, "%s", err_msg(&err));
	cr_assert_eq(fchmodat(f.dirfd, "state", 0700, 0), 0);
	if (mount("none", f.state, "tmpfs", 0, "size=64k,mode=0700") == 0) {
		cr_expect_eq(init(&f, "xfs", 0, &err), -EBUSY, "%s", err_msg(&err));
		umount2(f.state, MNT_DETACH);
	}
	cr_assert_eq(unlinkat(f.dirfd, "state", AT_REMOVEDIR), 0);
	cr_assert_eq(symlinkat("/tmp", f.dirfd, "state"), 0);
	cr_expect_lt(init(&f, "xfs", 0, &err), 0);
	cr_expect_eq(count_in(f.dirfd, "."), 1);
	fixture_close(&f);
}

Test(layers_store_init, keeps_an_image_that_is_none)
{
	struct fixture f;
	struct err err;
	fixture_open(&f, false);
	write_at(f.dirfd, "state.img", "precious", 0600);
	cr_expect_eq(init(&f, "xfs", 0, &err), -EINVAL);
	cr_expect(strstr(err_msg(&err), "neither xfs nor ext4"), "%s", err_msg(&err));
	content_is(f.dirfd, "state.img", "precious");
	cr_assert_eq(fchmodat(f.dirfd, "state.img", 0644, 0), 0);
	cr_expect_eq(init(&f, "xfs", 0, &err), -EPERM);
	cr_assert_eq(unlinkat(f.dirfd, "state.img", 0), 0);
	cr_assert_eq(symlinkat("/dev/null", f.dirfd, "state.img"), 0);
	cr_expect_eq(init(&f, "xfs", 0, &err), -ELOOP);
	cr_expect_eq(count_in(f.dirfd, "."), 1);
	fixture_close(&f);
}

/* Where the kernel has project quotas this is the success path; elsewhere the refusal must leave nothing. */
static void try_kind(const char *fs)
{
	struct fixture f;
	struct err err;
	fixture_open(&f, false);
	int r = init(&f, fs, 0, &err);
	if (r == 0) {
		cr_expect_eq(init(&f, fs, 0, &err), 1);
		cr_expect_eq(stat_at(f.dirfd, "state.img").st_mode & 07777, 0600);
		struct err open_err = ERR_INIT;
		cr_expect_eq(store_open(f.state, &f.store, &open_err), 0, "%s", err_msg(&open_err));
		store_free(f.store);
		f.store = NULL;
		cr_expect_eq(umount2(f.state, MNT_DETACH), 0);
		cr_expect_eq(init(&f, fs, 0, &err), 0, "after a restart: %s", err_msg(&err));
		cr_expect_eq(umount2(f.state, MNT_DETACH), 0);
	} else if (r == -ENOENT && strstr(err_msg(&err), "install the package")) {
		cr_skip_test("mkfs is not installed");
	} else {
		cr_expect(strstr(err_msg(&err), "loop") || strstr(err_msg(&err), "needs CONFIG_"), "%s", err_msg(&err));
		cr_expect_eq(count_in(f.dirfd, "."), 0, "something was left");
	}
	fixture_close(&f);
}

Test(layers_store_init, xfs)
{
	try_kind("xfs");
}

Test(layers_store_init, ext4)
{
	try_kind("ext4");
}
