/* What an import is told of its source, what it remembers of it, what it shares, and ids that collide. */
#include "test_layers_util.h"

#include <openssl/sha.h>
#include <sys/file.h>
#include <sys/xattr.h>

#include "layers/hash.h"
#include "layers/import.h"
#include "layers/layer.h"
#include "layers/share.h"

/* Every tree has the same id while this is set. */
static bool collide;

void hash_test_hook(uint8_t id[16])
{
	if (collide)
		memset(id, 0x11, 16);
}

static int import(struct fixture *f, const struct layer_source *source, struct layer_info *info, struct err *err)
{
	*info = (struct layer_info){.held = 0};
	return layer_import(f->store, source, info, err);
}

static void digest_of(int fd, char ret[65])
{
	uint8_t sha[32];
	off_t len = lseek(fd, 0, SEEK_END);
	char *all = malloc((size_t)len);
	cr_assert_eq(pread(fd, all, (size_t)len, 0), len);
	SHA256((const uint8_t *)all, (size_t)len, sha);
	format_hex(sha, sizeof(sha), ret);
	free(all);
}

Test(layers_source, a_crafted_collision_is_refused)
{
	struct fixture f;
	struct layer_info a, b, again;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	int one = TAR({"f", '0', .data = "honest", .mode = 0644}), two = TAR({"f", '0', .data = "crafted", .mode = 0644}),
	    same = TAR({"./f", '0', .data = "honest", .mode = 0644});
	collide = true;
	cr_assert_eq(layer_import_tar(f.store, one, &a, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(layer_import_tar(f.store, two, &b, &err), -EEXIST, "%s", err_msg(&err));
	cr_expect(strstr(err_msg(&err), "other content"), "%s", err_msg(&err));
	cr_assert_eq(layer_import_tar(f.store, same, &again, &err), 0, "%s", err_msg(&err));
	cr_expect(again.existed);
	cr_expect_eq(a.id[0], 0x11);
	int d = layer_dir(&f, &a, "diff");
	content_is(d, "f", "honest");
	cr_expect_eq(count_in(store_layers_fd(f.store), "tmp"), 0);
	close(d);
	close(one);
	close(two);
	close(same);
	fixture_close(&f);
}

static unsigned calls;
static uint64_t last_done, last_total;

static void progress(void *ctx, uint64_t done, uint64_t total)
{
	cr_assert(done >= last_done);
	calls++;
	last_done = done;
	last_total = total;
}

Test(layers_source, digests_are_compared)
{
	struct fixture f;
	struct layer_info info;
	struct err err = ERR_INIT;
	char sha[65], zero[65];
	fixture_open(&f, true);
	int fd = TAR({"f", '0', .data = "x", .mode = 0644});
	digest_of(fd, sha);
	memset(zero, '0', 64);
	zero[64] = '\0';
	struct layer_source source = {.fd = fd, .sha256 = zero, .progress = progress};
	cr_expect_eq(import(&f, &source, &info, &err), -EBADMSG, "%s", err_msg(&err));
	cr_expect(strstr(err_msg(&err), sha), "%s", err_msg(&err));
	source.sha256 = sha;
	source.diff_id = zero;
	cr_expect_eq(import(&f, &source, &info, &err), -EBADMSG, "%s", err_msg(&err));
	cr_expect_eq(count_in(store_layers_fd(f.store), "."), 2, "something was stored");
	source.diff_id = sha; /* of a plain tar they are one */
	last_done = calls = 0;
	cr_assert_eq(import(&f, &source, &info, &err), 0, "%s", err_msg(&err));
	cr_expect(!info.existed);
	cr_expect_eq(last_done, 2048);
	cr_expect_eq(last_total, 2048);
	layer_info_release(&info);
	/* Known by now: the same checks must hold. */
	last_done = calls = 0;
	cr_assert_eq(import(&f, &source, &info, &err), 0, "%s", err_msg(&err));
	cr_expect(info.existed);
	cr_expect_gt(calls, 0);
	layer_info_release(&info);
	source.diff_id = zero;
	last_done = 0;
	cr_expect_eq(import(&f, &source, &info, &err), -EBADMSG, "%s", err_msg(&err));
	source.diff_id = NULL;
	last_done = 0;
	cr_assert_eq(pwrite(fd, "y", 1, 512), 1);
	cr_expect_eq(import(&f, &source, &info, &err), -EBADMSG, "a changed blob passed as the known one");
	close(fd);
	fixture_close(&f);
}

/* An archive inside of another file, as blobs in an uncompressed image archive lie. */
Test(layers_source, reads_a_part_of_a_file)
{
	struct fixture f;
	struct layer_info a, b;
	struct err err = ERR_INIT;
	char block[2048];
	fixture_open(&f, true);
	int tar = TAR({"f", '0', .data = "x", .mode = 0644});
	cr_assert_eq(pread(tar, block, sizeof(block), 0), (ssize_t)sizeof(block));
	int fd = memfd_create("part", MFD_CLOEXEC);
	cr_assert_eq(pwrite(fd, block, sizeof(block), 777), (ssize_t)sizeof(block));
	cr_assert_eq(pwrite(fd, "rubbish", 7, 777 + sizeof(block)), 7);
	cr_assert_eq(layer_import_tar(f.store, tar, &a, &err), 0, "%s", err_msg(&err));
	struct layer_source source = {.fd = fd, .offset = 777, .size = sizeof(block)};
	cr_assert_eq(import(&f, &source, &b, &err), 0, "%s", err_msg(&err));
	cr_expect_arr_eq(a.id, b.id, 16);
	cr_expect(b.existed);
	source.size = 1 << 20;
	cr_expect_eq(import(&f, &source, &b, &err), -EINVAL, "%s", err_msg(&err));
	source.offset = UINT64_MAX;
	cr_expect_eq(import(&f, &source, &b, &err), -EINVAL, "%s", err_msg(&err));
	close(fd);
	close(tar);
	fixture_close(&f);
}

Test(layers_source, what_was_imported_is_held)
{
	struct fixture f;
	struct layer_info info, again;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	int fd = TAR({"f", '0', .data = "x", .mode = 0644});
	cr_assert_eq(layer_import_tar(f.store, fd, &info, &err), 0, "%s", err_msg(&err));
	cr_assert_gt(info.held, 2);
	int d = layer_dir(&f, &info, ".");
	cr_expect_eq(stat_at(d, "used").st_uid, STORE_WORKER_UID);
	cr_expect_eq(stat_at(d, "tree").st_mode, S_IFREG | 0444);
	int used = openat(d, "used", O_RDONLY);
	cr_expect_eq(flock(used, LOCK_EX | LOCK_NB), -1, "nobody holds it");
	cr_assert_eq(layer_import_tar(f.store, fd, &again, &err), 0, "%s", err_msg(&err));
	layer_info_release(&info);
	cr_expect_eq(flock(used, LOCK_EX | LOCK_NB), -1, "the second import does not hold it");
	layer_info_release(&again);
	layer_info_release(&again);
	cr_expect_eq(flock(used, LOCK_EX | LOCK_NB), 0);
	close(used);
	close(d);
	close(fd);
	fixture_close(&f);
}

Test(layers_source, equal_files_are_stored_once)
{
	struct fixture f;
	struct layer_info a, b;
	struct err err = ERR_INIT;
	static char big[100000];
	memset(big, 'b', sizeof(big) - 1);
	fixture_open(&f, true);
	const struct ustar large = {"d/large", '0', .data = big, .mode = 0644, .mtime = 5}, small = {"d/small", '0', .data = "s", .mode = 0600},
			   dir = {"d/", '5', .mode = 0755, .mtime = 777};
	int one = TAR(dir, large, small, {"mine", '0', .data = "1"}), two = TAR(dir, large, small, {"mine", '0', .data = "2"}, {"d/copy", '0', .data = big, .mode = 0640, .mtime = 5});
	cr_assert_eq(layer_import_tar(f.store, one, &a, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(layer_import_tar(f.store, two, &b, &err), 0, "%s", err_msg(&err));
	int x = layer_dir(&f, &a, "diff"), y = layer_dir(&f, &b, "diff");
	cr_expect_eq(stat_at(x, "d/small").st_ino, stat_at(y, "d/small").st_ino);
	cr_expect_eq(stat_at(x, "d/large").st_ino, stat_at(y, "d/large").st_ino);
	cr_expect_neq(stat_at(y, "d/copy").st_ino, stat_at(y, "d/large").st_ino, "another mode");
	cr_expect_neq(stat_at(x, "mine").st_ino, stat_at(y, "mine").st_ino);
	content_is(y, "mine", "2");
	content_is(y, "d/large", big);
	cr_expect_eq(stat_at(y, "d").st_mtim.tv_sec, 777, "making links has left a trace");
	cr_expect_eq(stat_at(y, "d").st_nlink, 2);
	close(x);
	close(y);
	close(one);
	close(two);
	fixture_close(&f);
}

/* An object that a failing disk (or a helper that lied) has changed must not get into the next layer. */
Test(layers_source, a_damaged_object_is_not_shared)
{
	struct fixture f;
	struct layer_info a, b;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	int one = TAR({"f", '0', .data = "content", .mode = 0644}), two = TAR({"f", '0', .data = "content", .mode = 0644}, {"g", '0'});
	cr_assert_eq(layer_import_tar(f.store, one, &a, &err), 0, "%s", err_msg(&err));
	int x = layer_dir(&f, &a, "diff");
	int fd = openat(x, "f", O_WRONLY);
	const struct timespec times[2] = {{.tv_sec = 0}, {.tv_sec = 0}};
	cr_assert_eq(pwrite(fd, "CONTENT", 7, 0), 7);
	cr_assert_eq(futimens(fd, times), 0);
	close(fd);
	cr_assert_eq(layer_import_tar(f.store, two, &b, &err), 0, "%s", err_msg(&err));
	int y = layer_dir(&f, &b, "diff");
	content_is(y, "f", "content");
	cr_expect_eq(stat_at(y, "f").st_nlink, 2, "it is the object now");
	close(x);
	close(y);
	close(one);
	close(two);
	fixture_close(&f);
}

Test(layers_source, a_layer_of_version_1_is_refused_with_advice)
{
	struct fixture f;
	struct layer_info info;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	int fd = TAR({"f", '0', .data = "x", .mode = 0644});
	cr_assert_eq(layer_import_tar(f.store, fd, &info, &err), 0, "%s", err_msg(&err));
	int d = layer_dir(&f, &info, ".");
	char id[ID128_TEXT_MAX], text[400];
	format_id128(info.id, id);
	snprintf(text, sizeof(text), "{\"id\": \"%s\", \"sha256\": \"%064d\", \"bytes\": 1, \"entries\": 2, \"pack_bytes\": 0, \"created\": 5}\n", id, 0);
	write_at(d, "layer.json", text, 0444);
	cr_expect_eq(layer_load(f.store, info.id, &info, &err), -ESTALE);
	cr_expect(strstr(err_msg(&err), "import it again"), "%s", err_msg(&err));
	layer_info_release(&info);
	cr_assert_eq(layer_import_tar(f.store, fd, &info, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(layer_load(f.store, info.id, &info, &err), 0, "%s", err_msg(&err));
	close(d);
	close(fd);
	fixture_close(&f);
}

/* The name of an archive's record. */
static void record_of(struct fixture *f, int fd, char ret[80])
{
	char sha[65];
	digest_of(fd, sha);
	snprintf(ret, 80, "by-source/%s.tar", sha);
	cr_assert_eq(faccessat(store_layers_fd(f->store), ret, F_OK, 0), 0);
}

/* gc takes a layer, its record stays (a crash, or a second import in between), and another tree takes the id. */
Test(layers_source, a_record_is_of_a_tree_and_not_of_an_id)
{
	struct fixture f;
	struct layer_info a, b;
	struct err err = ERR_INIT;
	char hex[33];
	fixture_open(&f, true);
	int one = TAR({"f", '0', .data = "honest", .mode = 0644}), two = TAR({"f", '0', .data = "crafted", .mode = 0644});
	collide = true;
	cr_assert_eq(layer_import_tar(f.store, one, &a, &err), 0, "%s", err_msg(&err));
	layer_info_release(&a);
	format_hex(a.id, 16, hex);
	cr_assert_eq(tree_remove(store_layers_fd(f.store), hex, &err), 0);
	cr_assert_eq(layer_import_tar(f.store, two, &b, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(layer_import_tar(f.store, one, &a, &err), -EEXIST, "the crafted layer passed as the honest archive's");
	layer_info_release(&b);
	close(one);
	close(two);
	fixture_close(&f);
}

Test(layers_source, a_record_of_an_earlier_petri_is_none)
{
	struct fixture f;
	struct layer_info a;
	struct err err = ERR_INIT;
	char path[80], id[ID128_TEXT_MAX], text[200], tree[65];
	_cleanup_free_ char *now = NULL;
	fixture_open(&f, true);
	int fd = TAR({"f", '0', .data = "x", .mode = 0644});
	cr_assert_eq(layer_import_tar(f.store, fd, &a, &err), 0, "%s", err_msg(&err));
	layer_info_release(&a);
	record_of(&f, fd, path);
	format_id128(a.id, id);
	snprintf(text, sizeof(text), "%s 2048 -\n", id);
	write_at(store_layers_fd(f.store), path, text, 0600);
	cr_assert_eq(layer_import_tar(f.store, fd, &a, &err), 0, "%s", err_msg(&err));
	cr_expect(a.existed);
	layer_info_release(&a);
	cr_assert_eq(layer_sha256(f.store, a.id, tree, &err), 0);
	snprintf(text, sizeof(text), "%s 2048 - %s\n", id, tree);
	cr_assert_eq(fd_read_file(store_layers_fd(f.store), path, 1000, &now, NULL, &err), 0);
	cr_expect_str_eq(now, text, "it was not imported anew");
	close(fd);
	fixture_close(&f);
}

/* A record in the making must not look like a leftover: none is begun while a sweep looks. */
Test(layers_source, a_record_holds_off_the_sweep)
{
	struct fixture f;
	struct import_known known = {.size = 1}, found;
	char sha[65];
	fixture_open(&f, true);
	memset(sha, 'a', 64);
	sha[64] = '\0';
	memcpy(known.tree, sha, sizeof(sha));
	int gate = openat(store_layers_fd(f.store), "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(flock(gate, LOCK_EX), 0);
	import_known_note(f.store, sha, false, &known);
	cr_expect_not(import_known_find(f.store, sha, false, &found), "it was written past the sweep");
	close(gate);
	import_known_note(f.store, sha, false, &known);
	cr_expect(import_known_find(f.store, sha, false, &found));
	cr_expect_str_eq(found.tree, sha);
	fixture_close(&f);
}

/* What a writer that was taken over leaves: an honest description, and another tree beside it. */
Test(layers_source, a_tree_unlike_its_description_is_replaced)
{
	struct fixture f;
	struct layer_info a, b;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	int one = TAR({"f", '0', .data = "honest", .mode = 0644, .mtime = 5}), same = TAR({"./f", '0', .data = "honest", .mode = 0644, .mtime = 5});
	cr_assert_eq(layer_import_tar(f.store, one, &a, &err), 0, "%s", err_msg(&err));
	int d = layer_dir(&f, &a, "diff"), fd = openat(d, "f", O_WRONLY | O_CLOEXEC);
	const struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 5}};
	cr_assert_eq(pwrite(fd, "wicked", 6, 0), 6);
	cr_assert_eq(futimens(fd, times), 0);
	close(fd);
	close(d);
	/* In use it stays, and is given to nobody. */
	cr_expect_eq(layer_import_tar(f.store, same, &b, &err), -EBUSY, "%s", err_msg(&err));
	cr_expect(strstr(err_msg(&err), "in use"), "%s", err_msg(&err));
	layer_info_release(&a);
	cr_assert_eq(layer_import_tar(f.store, same, &b, &err), 0, "%s", err_msg(&err));
	cr_expect_not(b.existed);
	cr_expect_eq(memcmp(a.id, b.id, 16), 0);
	d = layer_dir(&f, &b, "diff");
	content_is(d, "f", "honest");
	close(d);
	layer_info_release(&b);
	/* A sound one is shared as ever. */
	int third = TAR({".//f", '0', .data = "honest", .mode = 0644, .mtime = 5});
	cr_assert_eq(layer_import_tar(f.store, third, &b, &err), 0, "%s", err_msg(&err));
	cr_expect(b.existed);
	layer_info_release(&b);
	close(one);
	close(same);
	close(third);
	fixture_close(&f);
}

/* Attributes, such as an access control list, belong to the inode: they must not come along into another layer. */
Test(layers_source, a_file_with_attributes_is_not_shared)
{
	struct fixture f;
	struct layer_info a, b;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	const struct ustar file = {"f", '0', .data = "content", .mode = 0644};
	int one = TAR(file), two = TAR(file, {"g", '0'});
	cr_assert_eq(layer_import_tar(f.store, one, &a, &err), 0, "%s", err_msg(&err));
	int x = layer_dir(&f, &a, "diff"), fd = openat(x, "f", O_RDONLY | O_CLOEXEC);
	cr_assert_eq(fsetxattr(fd, "trusted.planted", "1", 1, 0), 0, "%s", strerror(errno));
	cr_assert_eq(layer_import_tar(f.store, two, &b, &err), 0, "%s", err_msg(&err));
	int y = layer_dir(&f, &b, "diff");
	cr_expect_neq(stat_at(x, "f").st_ino, stat_at(y, "f").st_ino, "the object's attribute came along");
	cr_expect_eq(stat_at(y, "f").st_nlink, 2, "it is the object now");
	close(fd);
	/* Nor does such a file become an object, or give way to one and lose what it has. */
	struct layer_temp temp = LAYER_TEMP_INIT;
	temp.fd = layer_dir(&f, &a, ".");
	temp.diff = x;
	temp.tree = openat(temp.fd, "tree", O_RDONLY | O_CLOEXEC);
	share_all(f.store, &temp);
	cr_expect_neq(stat_at(x, "f").st_ino, stat_at(y, "f").st_ino);
	cr_assert_eq(tree_remove(store_fd(f.store), "objects", &err), 0);
	cr_assert_eq(mkdirat(store_fd(f.store), "objects", 0700), 0);
	struct store *again;
	cr_assert_eq(store_open(f.state, &again, &err), 0, "%s", err_msg(&err));
	share_all(again, &temp);
	cr_expect_eq(stat_at(x, "f").st_nlink, 1, "it was offered to other layers");
	store_free(again);
	layer_info_release(&a);
	layer_info_release(&b);
	close(temp.tree);
	close(temp.fd);
	close(x);
	close(y);
	close(one);
	close(two);
	fixture_close(&f);
}
