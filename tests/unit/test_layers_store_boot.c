/* Entries for mounting a store at boot. The kind of filesystem is asked of the kernel, so /tmp must lie on one that fits. */
#include "test_layers_util.h"

#include "layers/store_boot.h"

static int open_fixture(struct fixture *f)
{
	char line[STORE_BOOT_MAX];
	struct err err = ERR_INIT;
	fixture_open(f, false);
	cr_assert_eq(mkdirat(f->dirfd, "state", 0700), 0);
	if (store_boot_fstab(f->state, line, &err) == 0)
		return 0;
	cr_expect(strstr(err_msg(&err), "neither xfs nor ext4"), "%s", err_msg(&err));
	fixture_close(f);
	return -1;
}

static char *in(const struct fixture *f, const char *name)
{
	static char path[700];
	snprintf(path, sizeof(path), "%.*s/%s", (int)(strrchr(f->state, '/') - f->state), f->state, name);
	return path;
}

Test(layers_store_boot, a_line_is_added_once)
{
	struct fixture f;
	struct err err = ERR_INIT;
	char line[STORE_BOOT_MAX], want[STORE_BOOT_MAX + 100];
	if (open_fixture(&f) < 0)
		cr_skip_test("needs xfs or ext4 below /tmp");
	write_at(f.dirfd, "fstab", "# the machine's\nUUID=1 / ext4 defaults 0 1", 0640);
	cr_assert_eq(store_boot_write(f.state, in(&f, "fstab"), &err), 0, "%s", err_msg(&err));
	cr_assert_eq(store_boot_fstab(f.state, line, &err), 0);
	cr_expect(strstr(line, "loop,prjquota,nosuid,nodev,nofail"), "%s", line);
	snprintf(want, sizeof(want), "# the machine's\nUUID=1 / ext4 defaults 0 1\n%s\n", line);
	content_is(f.dirfd, "fstab", want);
	cr_expect_eq(stat_at(f.dirfd, "fstab").st_mode & 07777, 0640);
	cr_expect_eq(store_boot_write(f.state, in(&f, "fstab"), &err), 1);
	content_is(f.dirfd, "fstab", want);
	cr_expect_eq(store_boot_write(f.state, in(&f, "new"), &err), 0);
	snprintf(want, sizeof(want), "%s\n", line);
	content_is(f.dirfd, "new", want);
	fixture_close(&f);
}

Test(layers_store_boot, what_is_there_stays)
{
	struct fixture f;
	struct err err = ERR_INIT;
	char table[1000];
	if (open_fixture(&f) < 0)
		cr_skip_test("needs xfs or ext4 below /tmp");
	snprintf(table, sizeof(table), "#/dev/sdb %s ext4\n/dev/sda\t%s ext4 defaults 0 0\n", f.state, f.state);
	write_at(f.dirfd, "fstab", table, 0644);
	cr_expect_eq(store_boot_write(f.state, in(&f, "fstab"), &err), -EEXIST);
	content_is(f.dirfd, "fstab", table);
	cr_assert_eq(symlinkat("fstab", f.dirfd, "link"), 0);
	cr_expect_eq(store_boot_write(f.state, in(&f, "link"), &err), -EINVAL);
	cr_expect_eq(store_boot_write(f.state, in(&f, "none/fstab"), &err), -ENOENT);
	cr_expect_eq(store_boot_write("/proc", in(&f, "fstab"), &err), -EINVAL);
	content_is(f.dirfd, "fstab", table);
	cr_expect_eq(count_in(f.dirfd, "."), 3, "a temporary file was left");
	fixture_close(&f);
}

Test(layers_store_boot, a_unit_has_the_name_that_systemd_wants)
{
	struct fixture f;
	struct err err = ERR_INIT;
	char name[300], *text;
	size_t len;
	if (open_fixture(&f) < 0)
		cr_skip_test("needs xfs or ext4 below /tmp");
	cr_expect_eq(store_boot_write(f.state, in(&f, "petri.mount"), &err), -EINVAL);
	const char *wanted = strstr(err_msg(&err), "called ");
	cr_assert_not_null(wanted, "%s", err_msg(&err));
	snprintf(name, sizeof(name), "%s", wanted + 7);
	cr_expect(strncmp(name, "tmp-", 4) == 0 && strchr(name, '/') == NULL && strstr(name, "-state.mount"), "%s", name);
	cr_assert_eq(store_boot_write(f.state, in(&f, name), &err), 0, "%s", err_msg(&err));
	cr_assert_eq(fd_read_file(f.dirfd, name, 4096, &text, &len, NULL), 0);
	cr_expect(strstr(text, "\nWhat=/tmp/") && strstr(text, "state.img\nWhere=/tmp/") && strstr(text, "Options=loop,prjquota,nosuid,nodev\n") &&
			strstr(text, "WantedBy=local-fs.target"),
		"%s", text);
	free(text);
	fixture_close(&f);
}

Test(layers_store_boot, odd_paths)
{
	struct fixture f;
	struct err err = ERR_INIT;
	char path[700], line[STORE_BOOT_MAX];
	if (open_fixture(&f) < 0)
		cr_skip_test("needs xfs or ext4 below /tmp");
	cr_assert_eq(mkdirat(f.dirfd, "a b#c-100%\\", 0700), 0);
	snprintf(path, sizeof(path), "%s", in(&f, "a b#c-100%\\"));
	cr_assert_eq(store_boot_fstab(path, line, &err), 0);
	cr_expect(strstr(line, "/a\\040b\\043c-100%\\134.img "), "%s", line);
	cr_expect_eq(store_boot_write(path, in(&f, "x.mount"), &err), -EINVAL);
	cr_expect(strstr(err_msg(&err), "-a\\x20b\\x23c\\x2d100\\x25\\x5c.mount"), "%s", err_msg(&err));
	/* With the right name, that last backslash would swallow the end of its line. */
	char name[300] = "";
	cr_assert_eq(sscanf(strstr(err_msg(&err), "called "), "called %299s", name), 1);
	cr_expect_eq(store_boot_write(path, in(&f, name), &err), -EINVAL);
	cr_expect(strstr(err_msg(&err), "backslash"), "%s", err_msg(&err));
	cr_assert_eq(mkdirat(f.dirfd, "new\nline", 0700), 0);
	cr_expect_eq(store_boot_fstab(in(&f, "new\nline"), line, &err), -EINVAL);
	fixture_close(&f);
}
