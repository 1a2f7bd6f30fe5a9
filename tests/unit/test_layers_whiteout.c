/* Layers of OCI images: what hides what the layers below have. */
#include "test_layers_util.h"

#include <sys/sysmacros.h>
#include <sys/xattr.h>

static int import_oci(struct fixture *f, int fd, struct layer_info *info, struct err *err)
{
	const struct layer_source source = {.fd = fd, .oci = true};
	*info = (struct layer_info){.held = 0};
	int r = layer_import(f->store, &source, info, err);
	close(fd);
	return r;
}

static struct layer_info oci_ok(struct fixture *f, int fd)
{
	struct layer_info info;
	struct err err = ERR_INIT;
	cr_assert_eq(import_oci(f, fd, &info, &err), 0, "%s", err_msg(&err));
	layer_info_release(&info);
	return info;
}

static void oci_refused(struct fixture *f, int fd, int code, const char *word)
{
	struct layer_info info;
	struct err err = ERR_INIT;
	int r = import_oci(f, fd, &info, &err);
	cr_expect_eq(r, code, "%d: %s", r, err_msg(&err));
	cr_expect(strstr(err_msg(&err), word), "'%s' is not in: %s", word, err_msg(&err));
	cr_expect_eq(count_in(store_layers_fd(f->store), "."), 2, "something was stored");
	cr_expect_eq(count_in(store_layers_fd(f->store), "tmp"), 0, "something temporary was left");
}

static bool is_whiteout(int dir, const char *path)
{
	struct stat st;
	return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0);
}

static bool is_opaque(int dir, const char *path)
{
	char value[8];
	int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	cr_assert(fd >= 0, "%s", path);
	ssize_t n = fgetxattr(fd, "trusted.overlay.opaque", value, sizeof(value));
	close(fd);
	return n == 1 && value[0] == 'y';
}

Test(layers_oci, whiteouts_become_overlays_own)
{
	struct fixture f;
	fixture_open(&f, true);
	struct layer_info info = oci_ok(&f, TAR({"etc/", '5', .mode = 0755}, {"etc/.wh.gone", '0', .data = "", .mode = 0644}, {"etc/kept", '0', .data = "k", .mode = 0644}, {"opt/.wh..wh..opq", '0', .data = ""}, {"opt/new", '0', .data = "n"}, {".wh.top", '0'}, {"deep/er/.wh.x", '0'}, {"var/.wh..wh.plnk/5.6", '0', .data = "aufs"}, {".wh..wh.aufs", '0'}));
	int d = layer_dir(&f, &info, "diff");
	cr_expect(is_whiteout(d, "etc/gone"));
	cr_expect(is_whiteout(d, "top"));
	cr_expect(is_whiteout(d, "deep/er/x"));
	content_is(d, "etc/kept", "k");
	cr_expect(is_opaque(d, "opt"));
	cr_expect(!is_opaque(d, "etc"));
	cr_expect(!is_opaque(d, "."));
	cr_expect(!info.opaque);
	cr_expect_eq(count_in(d, "."), 4, "of what aufs kept for itself something came through");
	close(d);
	fixture_close(&f);
}

/* Whatever the order: what the layer has itself stays, and a directory of its own shows nothing from below. */
Test(layers_oci, order_does_not_matter)
{
	struct fixture f;
	fixture_open(&f, true);
	const struct ustar wf = {".wh.f", '0'}, ff = {"f", '0', .data = "mine", .mode = 0644}, wd = {".wh.d", '0'},
			   dd = {"d/", '5', .mode = 0700}, df = {"d/x", '0', .data = "x", .mode = 0600}, wx = {"d/.wh.y", '0'};
	struct layer_info a = oci_ok(&f, TAR(wf, ff, wd, dd, df, wx)), b = oci_ok(&f, TAR(wx, df, dd, wd, ff, wf)),
			  c = oci_ok(&f, TAR(dd, wd, wx, wd, df, wf, ff));
	cr_expect_arr_eq(a.id, b.id, 16);
	cr_expect_arr_eq(a.id, c.id, 16);
	int d = layer_dir(&f, &a, "diff");
	content_is(d, "f", "mine");
	cr_expect(is_opaque(d, "d"));
	cr_expect(is_whiteout(d, "d/y"));
	cr_expect_eq(stat_at(d, "d").st_mode & 07777, 0700);
	close(d);
	/* Without the whiteout of d it is another tree. */
	struct layer_info other = oci_ok(&f, TAR(wf, ff, dd, df, wx));
	cr_expect_arr_neq(a.id, other.id, 16);
	fixture_close(&f);
}

Test(layers_oci, an_opaque_root_is_told)
{
	struct fixture f;
	struct layer_info loaded;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	struct layer_info info = oci_ok(&f, TAR({".wh..wh..opq", '0'}, {"f", '0', .data = "x"}));
	cr_expect(info.opaque);
	cr_assert_eq(layer_load(f.store, info.id, &loaded, &err), 0);
	cr_expect(loaded.opaque);
	fixture_close(&f);
}

Test(layers_oci, tricks_are_refused)
{
	struct fixture f;
	fixture_open(&f, true);
	oci_refused(&f, TAR({".wh.", '0'}), -EINVAL, "whiteout of nothing");
	oci_refused(&f, TAR({"a/.wh.", '0'}), -EINVAL, "whiteout of nothing");
	oci_refused(&f, TAR({"a/.wh.x", '0', .data = "x"}), -EINVAL, "'a/.wh.x': a whiteout with content");
	oci_refused(&f, TAR({"a/.wh..wh..opq", '0', .data = "x"}), -EINVAL, "whiteout with content");
	oci_refused(&f, TAR({".wh..", '0'}), -EINVAL, "whiteout of nothing");
	oci_refused(&f, TAR({"a/.wh...", '0'}), -EINVAL, "whiteout of nothing");
	oci_refused(&f, TAR({".wh.a/b", '0', .data = "x"}), -EINVAL, "lies in a whiteout");
	oci_refused(&f, TAR({".wh.a/", '5', .mode = 0755}), -EINVAL, "directory cannot be a whiteout");
	oci_refused(&f, TAR({"../.wh.a", '0'}), -EINVAL, "'..'");
	oci_refused(&f, TAR({"/etc/.wh.passwd", '0'}), -EINVAL, "absolute");
	oci_refused(&f, TAR({"l", '2', .link = "/etc"}, {"l/.wh.passwd", '0'}), -ELOOP, "link");
	oci_refused(&f, TAR({"l/.wh.passwd", '0'}, {"l", '2', .link = "/etc"}), -ELOOP, "link");
	oci_refused(&f, TAR({"l", '2', .link = "/"}, {"l/.wh..wh..opq", '0'}), -ELOOP, "link");
	oci_refused(&f, TAR({"f", '0', .data = "x"}, {"f/.wh.y", '0'}), -ENOTDIR, "file");
	oci_refused(&f, TAR({".wh.x", '0'}, {"h", '1', .link = "x"}), -ENOENT, "not in the tree");
	fixture_close(&f);
}

/* What is left out is decompressed all the same: a few KiB must not cost more than a file of that size may. */
Test(layers_oci, content_that_nobody_keeps_is_bounded)
{
	static const char huge[] = "\x80\0\0\0\x40\0\0\0\0\0\0";
	struct fixture f;
	fixture_open(&f, true);
	oci_refused(&f, TAR({".wh..wh.aufs", '0', .raw_size = huge}), -EFBIG, "'.wh..wh.aufs': it takes more than");
	oci_refused(&f, TAR({".wh..wh.plnk/1.2", '0', .raw_size = huge}), -EFBIG, "it takes more than");
	oci_refused(&f, TAR({".wh.x", '0', .raw_size = huge}), -EINVAL, "whiteout with content");
	fixture_close(&f);
}

/* A file in place of a directory with content: in the layer of an image the last one counts. */
Test(layers_oci, the_last_entry_counts)
{
	struct fixture f;
	fixture_open(&f, true);
	struct layer_info info = oci_ok(&f, TAR({"d/e/f", '0', .data = "old"}, {"d/g", '0', .data = "old"}, {"d", '0', .data = "now a file", .mode = 0644}, {"h/i", '0', .data = "x"}, {"h", '2', .link = "d"}, {"h/", '5', .mode = 0755}, {"h/j", '0', .data = "y"}));
	int d = layer_dir(&f, &info, "diff");
	content_is(d, "d", "now a file");
	content_is(d, "h/j", "y");
	cr_expect_eq(count_in(d, "h"), 1);
	close(d);
	fixture_close(&f);
}
