/* The operator's directory as a layer. */
#include "test_layers_util.h"

#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static int source(struct fixture *f)
{
	fixture_open(f, true);
	cr_assert_eq(mkdirat(f->dirfd, "src", 0755), 0);
	return openat(f->dirfd, "src", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

Test(layers_dir, copies_what_only_root_may_read)
{
	struct fixture f;
	struct layer_info info;
	struct err err = ERR_INIT;
	char link[8];
	int s = source(&f);
	write_at(s, "shadow", "root:*", 0600);
	cr_assert_eq(mkdirat(s, "closed", 0700), 0);
	write_at(s, "closed/f", "inside", 0400);
	cr_assert_eq(fchownat(s, "closed/f", 1000, 33, 0), 0);
	cr_assert_eq(symlinkat("../..", s, "closed/up"), 0);
	cr_assert_eq(linkat(s, "shadow", s, "closed/again", 0), 0);
	struct timespec times[2] = {{.tv_sec = 111, .tv_nsec = 999}, {.tv_sec = 111, .tv_nsec = 999}};
	cr_assert_eq(utimensat(s, "closed", times, 0), 0);
	cr_assert_eq(layer_import_dir(f.store, s, &info, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(info.entries, 6);
	cr_expect_eq(info.bytes, 12);
	int d = layer_dir(&f, &info, "diff");
	content_is(d, "shadow", "root:*");
	content_is(d, "closed/f", "inside");
	cr_expect_eq(stat_at(d, "shadow").st_mode & 07777, 0600);
	cr_expect_eq(stat_at(d, "shadow").st_uid, STORE_UID_BASE);
	cr_expect_eq(stat_at(d, "shadow").st_ino, stat_at(d, "closed/again").st_ino);
	cr_expect_eq(stat_at(d, "closed/f").st_uid, STORE_UID_BASE + 1000);
	cr_expect_eq(stat_at(d, "closed/f").st_gid, STORE_UID_BASE + 33);
	cr_expect_eq(stat_at(d, "closed").st_mtim.tv_sec, 111);
	cr_expect_eq(stat_at(d, "closed").st_mtim.tv_nsec, 0);
	cr_expect_eq(readlinkat(d, "closed/up", link, sizeof(link)), 5);
	close(d);
	struct layer_info again;
	cr_assert_eq(layer_import_dir(f.store, s, &again, &err), 0, "%s", err_msg(&err));
	cr_expect_arr_eq(again.id, info.id, 16);
	close(s);
	fixture_close(&f);
}

Test(layers_dir, same_id_as_the_same_tree_in_a_tar)
{
	struct fixture f;
	struct layer_info a, b;
	struct err err = ERR_INIT;
	struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 5}};
	int s = source(&f);
	write_at(s, "f", "text", 0644);
	cr_assert_eq(utimensat(s, "f", times, 0), 0);
	cr_assert_eq(futimens(s, times), 0);
	cr_assert_eq(layer_import_dir(f.store, s, &a, &err), 0, "%s", err_msg(&err));
	int tar = TAR({"./", '5', .mode = 0755, .mtime = 5}, {"./f", '0', .data = "text", .mode = 0644, .mtime = 5});
	cr_assert_eq(layer_import_tar(f.store, tar, &b, &err), 0, "%s", err_msg(&err));
	cr_expect_arr_eq(a.id, b.id, 16);
	close(tar);
	close(s);
	fixture_close(&f);
}

Test(layers_dir, skips_what_a_layer_cannot_hold)
{
	struct fixture f;
	struct layer_info info;
	struct err err = ERR_INIT;
	int s = source(&f);
	cr_assert_eq(mkfifoat(s, "fifo", 0644), 0);
	cr_assert_eq(mknodat(s, "null", S_IFCHR | 0666, makedev(1, 3)), 0);
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/src/socket", f.dir);
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(bind(sock, (struct sockaddr *)&sun, sizeof(sun)), 0);
	write_at(s, "su", "x", 04755);
	cr_assert_eq(layer_import_dir(f.store, s, &info, &err), 0, "%s", err_msg(&err));
	int d = layer_dir(&f, &info, "diff");
	cr_expect_eq(count_in(d, "."), 1);
	cr_expect_eq(stat_at(d, "su").st_mode & 07777, 0755);
	close(d);
	close(sock);
	close(s);
	fixture_close(&f);
}

Test(layers_dir, refuses_owners_out_of_range)
{
	struct fixture f;
	struct layer_info info;
	struct err err = ERR_INIT;
	int s = source(&f);
	write_at(s, "mine", "x", 0644);
	cr_assert_eq(fchownat(s, "mine", 70000, 0, 0), 0);
	cr_expect_eq(layer_import_dir(f.store, s, &info, &err), -EINVAL);
	cr_expect(strstr(err_msg(&err), "entry 'mine': owner 70000:0"), "%s", err_msg(&err));
	cr_expect_eq(count_in(store_layers_fd(f.store), "tmp"), 0);
	close(s);
	fixture_close(&f);
}

Test(layers_dir, a_file_is_no_directory)
{
	struct fixture f;
	struct layer_info info;
	struct err err = ERR_INIT;
	int s = source(&f);
	write_at(s, "f", "x", 0644);
	int fd = openat(s, "f", O_RDONLY);
	cr_expect_eq(layer_import_dir(f.store, fd, &info, &err), -ENOTDIR, "%s", err_msg(&err));
	close(fd);
	close(s);
	fixture_close(&f);
}

/* Many more bytes than any buffer between the two processes, and a failure while they flow. */
Test(layers_dir, a_failing_helper_stops_the_walk)
{
	struct fixture f;
	struct layer_info info;
	struct err err = ERR_INIT;
	char name[16];
	int s = source(&f);
	write_at(s, "aaa", "x", 0644);
	cr_assert_eq(fchownat(s, "aaa", 70000, 0, 0), 0);
	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "big%d", i);
		write_at(s, name, "", 0644);
		int fd = openat(s, name, O_WRONLY);
		cr_assert_eq(ftruncate(fd, 4 << 20), 0);
		close(fd);
	}
	cr_expect_eq(layer_import_dir(f.store, s, &info, &err), -EINVAL, "%s", err_msg(&err));
	cr_expect(strstr(err_msg(&err), "'aaa'"), "%s", err_msg(&err));
	close(s);
	fixture_close(&f);
}

/* Sizes around every buffer on the way, and more names in a directory than qsort(3) sorts in place. */
Test(layers_dir, sizes_of_all_kinds_and_many_names)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 65536, 131000, 131072, 131073, 200000, 262143, 262144, 262145, 524289,
		3000000};
	struct fixture f;
	struct layer_info info;
	struct err err = ERR_INIT;
	char name[32];
	int s = source(&f);
	char *data = malloc(3000000);
	uint64_t state = 1;
	for (size_t i = 0; i < 3000000; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		data[i] = (char)(state >> 56);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sizes) * 3; i++) {
		snprintf(name, sizeof(name), "f%zu", i);
		int fd = openat(s, name, O_WRONLY | O_CREAT, 0644);
		cr_assert_eq(fd_write_all(fd, data, sizes[i % ARRAY_SIZE(sizes)]), 0);
		close(fd);
	}
	cr_assert_eq(mkdirat(s, "many", 0755), 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "many/n%d", i);
		cr_assert_eq(symlinkat("x", s, name), 0);
	}
	cr_assert_eq(layer_import_dir(f.store, s, &info, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(info.entries, 1 + ARRAY_SIZE(sizes) * 3 + 1 + 1000);
	int d = layer_dir(&f, &info, "diff");
	for (size_t i = 0; i < ARRAY_SIZE(sizes) * 3; i++) {
		_cleanup_free_ char *got = NULL;
		size_t len, want = sizes[i % ARRAY_SIZE(sizes)];
		snprintf(name, sizeof(name), "f%zu", i);
		cr_assert_eq(fd_read_file(d, name, 3000000, &got, &len, &err), 0, "%s", err_msg(&err));
		cr_expect(len == want && memcmp(got, data, len) == 0, "%s differs", name);
	}
	free(data);
	close(d);
	close(s);
	fixture_close(&f);
}

Test(layers_dir, other_mounts_are_left_out)
{
	struct fixture f;
	struct layer_info info;
	struct err err = ERR_INIT;
	char path[100];
	int s = source(&f);
	cr_assert_eq(mkdirat(s, "mnt", 0755), 0);
	snprintf(path, sizeof(path), "%s/src/mnt", f.dir);
	if (mount("none", path, "tmpfs", 0, "size=64k") < 0)
		cr_skip_test("cannot mount here");
	write_at(s, "mnt/f", "x", 0644);
	int r = layer_import_dir(f.store, s, &info, &err);
	umount2(path, MNT_DETACH);
	cr_assert_eq(r, 0, "%s", err_msg(&err));
	cr_expect_eq(info.entries, 2);
	close(s);
	fixture_close(&f);
}
