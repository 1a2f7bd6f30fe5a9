/* Tars, honest and hostile. Nothing of a refused one may stay, and nothing may ever land outside. */
#include "test_layers_util.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/xattr.h>

#include "layers/import.h"

static struct layer_info import_ok(struct fixture *f, int fd)
{
	struct layer_info info = {0};
	struct err err = ERR_INIT;
	int r = layer_import_tar(f->store, fd, &info, &err);
	close(fd);
	cr_assert_eq(r, 0, "%s", err_msg(&err));
	return info;
}

/* Import must fail with this errno and a message that has the word, and leave nothing. */
static void refused(struct fixture *f, int fd, int code, const char *word)
{
	struct layer_info info = {0};
	struct err err = ERR_INIT;
	int r = layer_import_tar(f->store, fd, &info, &err);
	close(fd);
	cr_expect_eq(r, code, "%d: %s", r, err_msg(&err));
	cr_expect(strstr(err_msg(&err), word), "'%s' is not in: %s", word, err_msg(&err));
	cr_expect_eq(count_in(store_layers_fd(f->store), "."), 2, "something was stored");
	cr_expect_eq(count_in(store_layers_fd(f->store), "tmp"), 0, "something temporary was left");
	cr_expect_eq(count_in(f->dirfd, "."), 1, "something lies beside the store");
}

Test(layers_tar, keeps_modes_owners_times_and_links)
{
	struct fixture f;
	struct stat st;
	char link[16] = "";
	fixture_open(&f, true);
	int fd = TAR({"./", '5', .mode = 0711, .mtime = 77}, {"bin/", '5', .mode = 0750, .uid = 3, .gid = 4, .mtime = 1000},
		{"bin/tool", '0', .data = "#!/bin/sh\n", .mode = 0755, .uid = 1000, .gid = 65535, .mtime = 1234567890},
		{"bin/sh", '2', .link = "/usr/bin/dash", .mode = 0777, .mtime = 5},
		{"bin/alias", '1', .link = "bin/tool", .mode = 0755},
		{"a/b/c", '0', .data = "deep", .mode = 0600, .mtime = 9});
	struct layer_info info = import_ok(&f, fd);
	cr_expect_eq(info.bytes, 14); /* a hard link counts once */
	cr_expect_eq(info.entries, 8);
	cr_expect(!info.has_pack);
	int d = layer_dir(&f, &info, "diff");
	st = stat_at(d, ".");
	cr_expect_eq(st.st_mode, S_IFDIR | 0711);
	cr_expect_eq(st.st_mtime, 77);
	st = stat_at(d, "bin");
	cr_expect_eq(st.st_mode, S_IFDIR | 0750);
	cr_expect_eq(st.st_uid, STORE_UID_BASE + 3);
	cr_expect_eq(st.st_gid, STORE_UID_BASE + 4);
	cr_expect_eq(st.st_mtime, 1000, "a directory's time is set after its files");
	st = stat_at(d, "bin/tool");
	cr_expect_eq(st.st_mode, S_IFREG | 0755);
	cr_expect_eq(st.st_uid, STORE_UID_BASE + 1000);
	cr_expect_eq(st.st_gid, STORE_UID_BASE + 65535);
	cr_expect_eq(st.st_mtime, 1234567890);
	cr_expect_eq(st.st_nlink, 3, "two names, and the object");
	cr_expect_eq(stat_at(d, "bin/alias").st_ino, st.st_ino);
	cr_assert_eq(readlinkat(d, "bin/sh", link, sizeof(link)), 13);
	cr_expect_eq(memcmp(link, "/usr/bin/dash", 13), 0);
	st = stat_at(d, "a/b");
	cr_expect_eq(st.st_mode, S_IFDIR | 0755, "a parent that was not in the archive");
	cr_expect_eq(st.st_uid, STORE_UID_BASE);
	cr_expect_eq(st.st_mtime, 0);
	content_is(d, "a/b/c", "deep");
	close(d);
	fixture_close(&f);
}

Test(layers_tar, description_and_directory_are_roots)
{
	struct fixture f;
	struct layer_info loaded;
	struct err err = ERR_INIT;
	char sha[65];
	fixture_open(&f, true);
	struct layer_info info = import_ok(&f, TAR({"f", '0', .data = "x", .mode = 0644}));
	cr_assert_eq(layer_load(f.store, info.id, &loaded, &err), 0, "%s", err_msg(&err));
	cr_expect_arr_eq(loaded.id, info.id, 16);
	cr_expect_eq(loaded.bytes, 1);
	cr_expect_eq(loaded.entries, 2);
	cr_expect_eq(layer_sha256(f.store, info.id, sha, &err), 0, "%s", err_msg(&err));
	int d = layer_dir(&f, &info, ".");
	cr_expect_eq(stat_at(d, ".").st_uid, 0);
	cr_expect_eq(stat_at(d, ".").st_mode & 07777, 0755);
	cr_expect_eq(stat_at(d, "layer.json").st_uid, 0);
	cr_expect_eq(stat_at(d, "diff").st_uid, STORE_UID_BASE);
	cr_expect_eq(layer_open_pack(f.store, info.id, &err), -ENOENT);
	cr_expect_eq(count_in(store_layers_fd(f.store), "tmp"), 0);
	close(d);
	uint8_t none[16] = {9};
	cr_expect_eq(layer_load(f.store, none, &loaded, &err), -ENOENT);
	fixture_close(&f);
}

Test(layers_tar, ids_depend_on_the_tree_alone)
{
	struct fixture f;
	fixture_open(&f, true);
	struct layer_info a = import_ok(&f, TAR({"d/", '5', .mode = 0755}, {"d/x", '0', .data = "1", .mode = 0644}, {"d/y", '0', .data = "2", .mode = 0644}));
	struct layer_info b = import_ok(&f, TAR({"d/y", '0', .data = "2", .mode = 0644}, {"./d//x", '0', .data = "old"}, {"d/x", '0', .data = "1", .mode = 0644}, {"d", '5', .mode = 0755}));
	cr_expect_arr_eq(a.id, b.id, 16);
	cr_expect_eq(count_in(store_layers_fd(f.store), "."), 3, "one tree is stored twice");
	const struct ustar other[] = {
		{"d/y", '0', .data = "3", .mode = 0644}, {"d/y", '0', .data = "2", .mode = 0600},
		{"d/y", '0', .data = "2", .mode = 0644, .uid = 1}, {"d/y", '0', .data = "2", .mode = 0644, .gid = 1},
		{"d/z", '0', .data = "2", .mode = 0644}, {"d/y", '1', .link = "d/x"}, {"d/y", '2', .link = "x"}};
	for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
		struct layer_info c = import_ok(
			&f, TAR({"d/", '5', .mode = 0755}, {"d/x", '0', .data = "1", .mode = 0644}, other[i]));
		cr_expect_arr_neq(a.id, c.id, 16, "variant %zu has the same id", i);
	}
	cr_expect_eq(count_in(store_layers_fd(f.store), "."), 3 + ARRAY_SIZE(other));
	fixture_close(&f);
}

Test(layers_tar, an_id_taken_by_another_tree_is_refused)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct layer_info again;
	fixture_open(&f, true);
	struct layer_info info = import_ok(&f, TAR({"f", '0', .data = "x", .mode = 0644}));
	int d = layer_dir(&f, &info, ".");
	_cleanup_free_ char *text = NULL;
	cr_assert_eq(fd_read_file(d, "layer.json", 4096, &text, NULL, &err), 0);
	char *sha = strstr(text, "\"sha256\": \"") + 11;
	sha[0] = sha[0] == '0' ? '1' : '0';
	write_at(d, "layer.json", text, 0444);
	int fd = TAR({"./f", '0', .data = "x", .mode = 0644}); /* other bytes: the first ones are on record */
	cr_expect_eq(layer_import_tar(f.store, fd, &again, &err), -EEXIST, "%s", err_msg(&err));
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	/* One whose description a power cut emptied is replaced. */
	write_at(d, "layer.json", "", 0444);
	cr_expect_eq(layer_load(f.store, info.id, &again, &err), -EUCLEAN);
	cr_expect_eq(layer_import_tar(f.store, fd, &again, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(layer_load(f.store, info.id, &again, &err), 0, "%s", err_msg(&err));
	close(fd);
	close(d);
	fixture_close(&f);
}

Test(layers_tar, refuses_paths_that_lead_out)
{
	struct fixture f;
	fixture_open(&f, true);
	refused(&f, TAR({"/etc/petri-test", '0', .data = "x"}), -EINVAL, "absolute");
	refused(&f, TAR({"../out", '0', .data = "x"}), -EINVAL, "'..'");
	refused(&f, TAR({"a/../../out", '0', .data = "x"}), -EINVAL, "'..'");
	refused(&f, TAR({"a/..", '5', .mode = 0755}), -EINVAL, "'..'");
	refused(&f, TAR({"l", '1', .link = "../../secret"}), -EINVAL, "'..'");
	refused(&f, TAR({"l", '1', .link = "/etc/passwd"}), -EINVAL, "absolute");
	fixture_close(&f);
}

Test(layers_tar, refuses_to_write_through_links)
{
	struct fixture f;
	char out[100];
	fixture_open(&f, true);
	snprintf(out, sizeof(out), "%s", f.dir);
	refused(&f, TAR({"l", '2', .link = out}, {"l/planted", '0', .data = "x"}), -ELOOP, "link");
	refused(&f, TAR({"l", '2', .link = ".."}, {"l/l/planted", '0', .data = "x"}), -ELOOP, "link");
	refused(&f, TAR({"d/", '5', .mode = 0755}, {"d/l", '2', .link = "/"}, {"d/l/tmp/x", '5', .mode = 0755}), -ELOOP,
		"link");
	refused(&f, TAR({"l", '2', .link = out}, {"h", '1', .link = "l/state/secret"}), -ENOENT, "not in the tree");
	refused(&f, TAR({"l", '2', .link = "/etc/passwd"}, {"h", '1', .link = "l"}), -EINVAL, "no regular file");
	refused(&f, TAR({"h", '1', .link = "none"}), -ENOENT, "not in the tree");
	refused(&f, TAR({"f", '0', .data = "x"}, {"f/g", '0', .data = "x"}), -ENOTDIR, "file");
	refused(&f, TAR({"./", '2', .link = "/"}), -EINVAL, "root");
	fixture_close(&f);
}

Test(layers_tar, replaces_links_and_files_in_place)
{
	struct fixture f;
	fixture_open(&f, true);
	write_at(f.dirfd, "victim", "safe", 0600);
	char victim[100];
	snprintf(victim, sizeof(victim), "%s/victim", f.dir);
	struct layer_info info =
		import_ok(&f, TAR({"l", '2', .link = victim}, {"l", '0', .data = "mine", .mode = 0644}, {"a", '0', .data = "shared", .mode = 0644}, {"b", '1', .link = "a"}, {"b", '0', .data = "own", .mode = 0644}, {"a", '1', .link = "a"}, {"e/", '5', .mode = 0755}, {"e", '0', .data = "was a directory", .mode = 0644}, {"g", '0', .data = "x"}, {"g/", '5', .mode = 0700}));
	int d = layer_dir(&f, &info, "diff");
	content_is(f.dirfd, "victim", "safe");
	content_is(d, "l", "mine");
	content_is(d, "a", "shared");
	content_is(d, "b", "own");
	content_is(d, "e", "was a directory");
	cr_expect(S_ISDIR(stat_at(d, "g").st_mode));
	close(d);
	cr_assert_eq(unlinkat(f.dirfd, "victim", 0), 0);
	int fd = TAR({"d/f", '0', .data = "x"}, {"d", '0', .data = "x"});
	struct err err = ERR_INIT;
	cr_expect_eq(layer_import_tar(f.store, fd, &info, &err), -EISDIR, "%s", err_msg(&err));
	close(fd);
	fixture_close(&f);
}

Test(layers_tar, drops_devices_and_set_id_bits)
{
	struct fixture f;
	fixture_open(&f, true);
	struct layer_info info = import_ok(&f,
		TAR({"sda", '4', .mode = 0666}, {"null", '3', .mode = 0666}, {"fifo", '6', .mode = 0666},
			{"su", '0', .data = "root", .mode = 06755}, {"sg/", '5', .mode = 02755}, {"tmp/", '5', .mode = 01777},
			{".wh.gone", '0', .data = "", .mode = 0644}));
	int d = layer_dir(&f, &info, "diff");
	cr_expect_eq(count_in(d, "."), 4);
	cr_expect_eq(stat_at(d, "su").st_mode & 07777, 0755);
	cr_expect_eq(stat_at(d, "sg").st_mode & 07777, 0755);
	cr_expect_eq(stat_at(d, "tmp").st_mode & 07777, 01777);
	cr_expect(S_ISREG(stat_at(d, ".wh.gone").st_mode), "a plain tar has no whiteouts");
	close(d);
	fixture_close(&f);
}

Test(layers_tar, refuses_owners_out_of_range)
{
	struct fixture f;
	fixture_open(&f, true);
	refused(&f, TAR({"big", '0', .data = "x", .uid = 65536}), -EINVAL, "entry 'big': owner 65536:0");
	refused(&f, TAR({"big", '5', .gid = 2000000}), -EINVAL, "owner 0:2000000");
	fixture_close(&f);
}

Test(layers_tar, refuses_sizes_that_lie)
{
	struct fixture f;
	fixture_open(&f, true);
	/* base 256: all ones is -1, then 2^62 */
	refused(&f, TAR({"neg", '0', .raw_size = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}), -EINVAL, "");
	refused(&f, TAR({"huge", '0', .raw_size = "\x80\0\0\0\x40\0\0\0\0\0\0\0"}), -EFBIG, "more than");
	refused(&f, TAR({"short", '0', .data = "x", .raw_size = "00000010000"}), -EINVAL, "damaged");
	fixture_close(&f);
}

/* The bounds themselves, in this process. */
static int unpack_here(struct fixture *f, int tar, uint64_t bytes, uint64_t entries)
{
	const struct unpack_options options = {.max_bytes = bytes, .max_entries = entries, .keep_owner = true};
	struct unpack *u;
	struct err err = ERR_INIT;
	cr_assert_eq(mkdirat(f->dirfd, "tree", 0700), 0);
	int root = openat(f->dirfd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(unpack_new(root, &options, &u, &err), 0);
	const struct import_sink sink = import_sink_unpack(u);
	int r = import_tar_parse(tar, false, bytes, &sink, NULL, &err);
	unpack_free(u);
	close(root);
	close(tar);
	cr_assert_eq(tree_remove(f->dirfd, "tree", &err), 0, "%s", err_msg(&err));
	return r;
}

Test(layers_tar, bounds_count_everything)
{
	struct fixture f;
	fixture_open(&f, false);
	cr_expect_eq(unpack_here(&f, TAR({"a/b", '0', .data = "12345"}, {"n", '3'}), 5, 3), 0);
	cr_expect_eq(unpack_here(&f, TAR({"a/b", '0', .data = "12345"}, {"n", '3'}), 5, 2), -EFBIG, "a device is free");
	cr_expect_eq(unpack_here(&f, TAR({"a/b/c/d", '0', .data = "12345"}), 5, 3), -EFBIG, "a parent is free");
	cr_expect_eq(unpack_here(&f, TAR({"a", '0', .data = "12345"}), 4, 9), -EFBIG);
	cr_expect_eq(unpack_here(&f, TAR({"a", '0', .data = "123"}, {"a", '0', .data = "123"}), 5, 9), -EFBIG,
		"what was replaced is free");
	fixture_close(&f);
}

Test(layers_tar, refuses_rubbish_and_cut_off_archives)
{
	struct fixture f;
	fixture_open(&f, true);
	int fd = memfd_create("rubbish", MFD_CLOEXEC);
	cr_assert_eq(write(fd, "this is no archive at all", 25), 25);
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	refused(&f, fd, -EINVAL, "damaged");
	fd = TAR({"f", '0', .data = "0123456789", .mode = 0644});
	cr_assert_eq(ftruncate(fd, 514), 0);
	refused(&f, fd, -EINVAL, "damaged");
	/* A pax record whose length is wrong: what it meant to say is unknown. */
	refused(&f, TAR({"pax", 'x', .data = "99 path=other\n"}, {"f", '0', .data = "x"}), -EINVAL, "damaged");
	fixture_close(&f);
}

Test(layers_tar, refuses_names_that_are_too_long_or_deep)
{
	struct fixture f;
	char record[700], name[300];
	fixture_open(&f, true);
	memset(name, 'n', 256);
	name[256] = '\0';
	int len = snprintf(record, sizeof(record), "266 path=%s\n", name);
	cr_assert_eq(len, 266);
	refused(&f, TAR({"pax", 'x', .data = record}, {"short", '0', .data = "x"}), -ENAMETOOLONG, "too long");
	static char deep[6100];
	size_t at = (size_t)snprintf(deep, sizeof(deep), "6012 path=");
	for (; at < 6011; at++)
		deep[at] = at % 2 ? '/' : 'd';
	deep[at] = '\n';
	refused(&f, TAR({"pax", 'x', .data = deep}, {"short", '5', .mode = 0755}), -ENAMETOOLONG, "deeper");
	/* A NUL in a pax name: libarchive cuts it there. */
	struct layer_info info = import_ok(&f,
		TAR({"pax", 'x', .data = "19 path=ok\0/../out\n", .len = 19}, {"short", '0', .data = "x", .mode = 0644}));
	int d = layer_dir(&f, &info, "diff");
	cr_expect_eq(count_in(d, "."), 1);
	close(d);
	fixture_close(&f);
}

Test(layers_tar, keeps_the_bytes_of_names)
{
	struct fixture f;
	fixture_open(&f, true);
	const char *decomposed = "16 path=e\xcc\x81-pax\n", *latin = "x\xff\xe9";
	struct layer_info info = import_ok(&f, TAR({"pax", 'x', .data = decomposed}, {"s", '0', .data = "1", .mode = 0644}, {"e\xcc\x81-ustar", '0', .data = "2"}, {latin, '0', .data = "3"}, {"new\nline", '0', .data = "4"}));
	int d = layer_dir(&f, &info, "diff");
	content_is(d, "e\xcc\x81-pax", "1");
	content_is(d, "e\xcc\x81-ustar", "2");
	content_is(d, latin, "3");
	content_is(d, "new\nline", "4");
	close(d);
	fixture_close(&f);
}

/* One file of len bytes, written by libarchive with a filter; xattrs are added to see them dropped. */
static int archive_of(int filter, size_t len, bool sparse)
{
	int fd = memfd_create("tar", MFD_CLOEXEC);
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();
	archive_write_set_format_pax(a);
	cr_assert_eq(archive_write_add_filter(a, filter), ARCHIVE_OK);
	cr_assert_eq(archive_write_open_fd(a, fd), ARCHIVE_OK);
	archive_entry_set_pathname(e, "big");
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_size(e, (la_int64_t)len);
	archive_entry_xattr_add_entry(e, "trusted.overlay.opaque", "y", 1);
	archive_entry_xattr_add_entry(e, "user.overlay.redirect", "/etc", 4);
	archive_entry_xattr_add_entry(e, "security.capability", "\1\0\0\2\377\377\377\377\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	archive_entry_xattr_add_entry(e, "user.mine", "1", 1);
	if (sparse)
		archive_entry_sparse_add_entry(e, (la_int64_t)len - 1, 1);
	cr_assert_eq(archive_write_header(a, e), ARCHIVE_OK);
	static char zeros[1 << 16];
	for (size_t done = 0; done < len && !sparse; done += MIN(len - done, sizeof(zeros)))
		archive_write_data(a, zeros, MIN(len - done, sizeof(zeros)));
	if (sparse)
		for (size_t done = 0; done < len; done += MIN(len - done, (size_t)1 << 16))
			archive_write_data(a, zeros, MIN(len - done, sizeof(zeros)));
	archive_entry_free(e);
	cr_assert_eq(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

Test(layers_tar, reads_gzip_zstd_and_xz)
{
	struct fixture f;
	static const int filters[] = {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD, ARCHIVE_FILTER_XZ};
	struct layer_info first = {0};
	fixture_open(&f, true);
	for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
		struct layer_info info = import_ok(&f, archive_of(filters[i], 3000000, false));
		cr_expect_eq(info.bytes, 3000000);
		if (i == 0)
			first = info;
		cr_expect_arr_eq(info.id, first.id, 16, "filter %zu", i);
	}
	fixture_close(&f);
}

Test(layers_tar, keeps_only_harmless_extended_attributes)
{
	struct fixture f;
	fixture_open(&f, true);
	struct layer_info info = import_ok(&f, archive_of(ARCHIVE_FILTER_NONE, 1, false));
	int d = layer_dir(&f, &info, "diff");
	int fd = openat(d, "big", O_RDONLY);
	char list[256];
	cr_expect_eq(flistxattr(fd, list, sizeof(list)), sizeof("user.mine"));
	cr_expect_eq(fgetxattr(fd, "user.mine", list, sizeof(list)), 1);
	close(fd);
	close(d);
	fixture_close(&f);
}

Test(layers_tar, sparse_files_count_with_their_holes)
{
	struct fixture f;
	fixture_open(&f, true);
	struct layer_info info = import_ok(&f, archive_of(ARCHIVE_FILTER_NONE, 5 << 20, true));
	cr_expect_eq(info.bytes, 5 << 20);
	/* GNU's sparse format, ten terabytes with nothing in them. */
	const char *pax = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n38 GNU.sparse.realsize=10995116277760\n"
			  "24 GNU.sparse.name=bomb\n";
	static char map[512] = "1\n10995116277760\n0\n";
	int fd = TAR({"pax", 'x', .data = pax}, {"GNUSparseFile.0/bomb", '0', .data = map, .len = 512, .mode = 0644});
	struct err err = ERR_INIT;
	cr_expect_eq(layer_import_tar(f.store, fd, &info, &err), -EFBIG, "%s", err_msg(&err));
	close(fd);
	cr_expect_eq(count_in(store_layers_fd(f.store), "tmp"), 0);
	fixture_close(&f);
}

Test(layers_tar, the_source_may_be_a_pipe)
{
	struct fixture f;
	int p[2];
	char block[512 * 4];
	fixture_open(&f, true);
	int tar = TAR({"f", '0', .data = "x", .mode = 0644});
	cr_assert_eq(read(tar, block, sizeof(block)), (ssize_t)sizeof(block));
	close(tar);
	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(write(p[1], block, sizeof(block)), (ssize_t)sizeof(block));
	close(p[1]);
	struct layer_info info = import_ok(&f, p[0]);
	cr_expect_eq(info.entries, 2);
	fixture_close(&f);
}

Test(layers_tar, leaves_no_process_and_no_fd)
{
	struct fixture f;
	struct layer_info info;
	fixture_open(&f, true);
	size_t before = count_in(AT_FDCWD, "/proc/self/fd");
	info = import_ok(&f, TAR({"f", '0', .data = "x"}));
	layer_info_release(&info);
	int fd = TAR({"../f", '0', .data = "x"});
	cr_expect_lt(layer_import_tar(f.store, fd, &info, NULL), 0);
	close(fd);
	cr_expect_eq(count_in(AT_FDCWD, "/proc/self/fd"), before);
	_cleanup_free_ char *children = NULL;
	int self = open("/proc/thread-self", O_RDONLY | O_DIRECTORY);
	cr_assert_eq(fd_read_file(self, "children", 4096, &children, NULL, NULL), 0);
	cr_expect_str_eq(children, "");
	close(self);
	fixture_close(&f);
}
