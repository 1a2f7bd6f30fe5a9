/* Uses, pins, references and gc: what stays, what goes, and in which order; also while others use the store. */
#include "test_layers_util.h"

#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>

#include "layers/gc.h"
#include "layers/pin.h"
#include "layers/refs.h"
#include "layers/usage.h"
#include "layers/use.h"
#include "layers/verify.h"

#define DAY 86400

static struct layer_info import_text(struct fixture *f, const char *text)
{
	struct err err = ERR_INIT;
	struct layer_info info = {.held = 0};
	int fd = TAR({"f", '0', .data = text, .mode = 0644});
	cr_assert_eq(layer_import_tar(f->store, fd, &info, &err), 0, "%s", err_msg(&err));
	close(fd);
	layer_info_release(&info);
	return info;
}

static bool there(struct fixture *f, const struct layer_info *info)
{
	char hex[33];
	format_hex(info->id, 16, hex);
	return faccessat(store_layers_fd(f->store), hex, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Its last use was so many seconds ago. */
static void used_before(struct fixture *f, const struct layer_info *info, long seconds)
{
	char hex[33], path[64];
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - seconds}};
	format_hex(info->id, 16, hex);
	snprintf(path, sizeof(path), "%s/used", hex);
	cr_assert_eq(utimensat(store_layers_fd(f->store), path, times, 0), 0);
}

static struct gc_sums collect(struct fixture *f, uint64_t keep_s, uint64_t max_bytes)
{
	struct err err = ERR_INIT;
	struct gc_sums sums;
	const struct gc_options options = {.keep_s = keep_s, .max_bytes = max_bytes};
	cr_assert_eq(gc_run(f->store, &options, &sums, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(sums.failed, 0);
	return sums;
}

static void make_image(struct fixture *f, const char *name, const char *text)
{
	struct err err = ERR_INIT;
	char path[80];
	snprintf(path, sizeof(path), "%s/%s.tar", f->dir, name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), tar = TAR({"f", '0', .data = text, .mode = 0644});
	char buf[8192];
	ssize_t n = fd_read_all(tar, buf, sizeof(buf));
	cr_assert(fd >= 0 && n > 0 && fd_write_all(fd, buf, (size_t)n) == 0);
	close(fd);
	close(tar);
	struct image image = {.nlayers = 0};
	cr_assert_eq(image_import(f->store, name, path, &image, &err), 0, "%s", err_msg(&err));
	image_clear(&image);
}

Test(layers_gc, age_image_and_pin_keep_a_layer)
{
	struct fixture f;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	struct layer_info old = import_text(&f, "old"), young = import_text(&f, "young"), pinned = import_text(&f, "pinned");
	struct layer_info named = import_text(&f, "named");
	make_image(&f, "img", "named");
	cr_assert_eq(pin_layer(f.store, pinned.id, &err), 0, "%s", err_msg(&err));
	used_before(&f, &old, 8 * DAY);
	used_before(&f, &pinned, 8 * DAY);
	used_before(&f, &named, 8 * DAY);
	used_before(&f, &young, 6 * DAY);
	struct gc_sums sums = collect(&f, 7 * DAY, UINT64_MAX);
	cr_expect(sums.layers == 1 && sums.bytes > 0 && !there(&f, &old));
	cr_expect(there(&f, &young) && there(&f, &pinned) && there(&f, &named));
	cr_assert_eq(pin_remove(f.store, pinned.id, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(pin_remove(f.store, pinned.id, &err), -ENOENT);
	cr_assert_eq(image_rm(f.store, "img", &err), 0, "%s", err_msg(&err));
	sums = collect(&f, 0, UINT64_MAX);
	cr_expect_eq(sums.layers, 3);
	cr_expect_eq(count_in(store_layers_fd(f.store), "tmp"), 0);
	fixture_close(&f);
}

Test(layers_gc, a_held_layer_stays)
{
	struct fixture f;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	struct layer_info info = import_text(&f, "x");
	int held = layer_hold(f.store, info.id, &err);
	cr_assert(held >= 0, "%s", err_msg(&err));
	cr_expect_eq(collect(&f, 0, 0).layers, 0);
	cr_expect_eq(gc_remove_layer(f.store, info.id, &err), -EBUSY);
	cr_expect(strstr(err_msg(&err), "running job"), "%s", err_msg(&err));
	cr_expect(there(&f, &info));
	close(held);
	cr_expect_eq(gc_remove_layer(f.store, info.id, &err), 0, "%s", err_msg(&err));
	cr_expect(!there(&f, &info));
	cr_expect_eq(layer_hold(f.store, info.id, &err), -ENOENT);
	cr_expect_eq(gc_remove_layer(f.store, info.id, &err), -ENOENT);
	cr_expect_eq(pin_layer(f.store, info.id, &err), -ENOENT);
	fixture_close(&f);
}

/* gc is what makes room: it needs none, not even in a store of an earlier petri, without pins/ and `used`. */
Test(layers_gc, works_without_free_inodes)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct gc_sums sums;
	const struct gc_options options = {.max_bytes = UINT64_MAX};
	char path[200], hex[33];
	cr_assert(unshare(CLONE_NEWNS) == 0 && mount("none", "/", "", MS_REC | MS_PRIVATE, NULL) == 0);
	fixture_open(&f, false);
	cr_assert_eq(mount("none", f.dir, "tmpfs", 0, "mode=700,nr_inodes=100"), 0);
	cr_assert_eq(store_open(f.state, &f.store, &err), 0, "%s", err_msg(&err));
	struct layer_info a = import_text(&f, "a"), b = import_text(&f, "b");
	format_hex(a.id, 16, hex);
	snprintf(path, sizeof(path), "%s/used", hex);
	cr_assert_eq(unlinkat(store_layers_fd(f.store), path, 0), 0);
	cr_assert_eq(unlinkat(store_fd(f.store), "pins", AT_REMOVEDIR), 0);
	for (int i = 0; i < 100; i++) {
		snprintf(path, sizeof(path), "slots/%d", i);
		(void)mkdirat(store_fd(f.store), path, 0700);
	}
	store_free(f.store);
	f.store = NULL;
	cr_assert_eq(store_open(f.state, &f.store, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(gc_run(f.store, &options, &sums, &err), 0, "%s", err_msg(&err));
	cr_expect(sums.layers == 2 && sums.failed == 0 && !there(&f, &a) && !there(&f, &b));
	store_free(f.store);
	f.store = NULL;
	cr_assert_eq(umount(f.dir), 0);
	fixture_close(&f);
}

/* gc has the lock while somebody begins to wait for it, and has moved the layer when that one gets it. */
Test(layers_gc, a_layer_that_went_while_its_lock_was_awaited)
{
	struct fixture f;
	struct err err = ERR_INIT;
	char hex[33], used[64];
	int status;
	const struct timespec pause = {.tv_nsec = 30000000};
	fixture_open(&f, true);
	struct layer_info info = import_text(&f, "x");
	int layers = store_layers_fd(f.store);
	format_hex(info.id, 16, hex);
	snprintf(used, sizeof(used), "%s/used", hex);
	int fd = openat(layers, used, O_RDONLY | O_CLOEXEC);
	cr_assert(fd >= 0 && flock(fd, LOCK_EX) == 0);
	cr_expect_eq(layer_hold(f.store, info.id, &err), -EBUSY, "%s", err_msg(&err));
	pid_t pid = fork();
	if (pid == 0) {
		close(fd);
		_exit(layer_hold(f.store, info.id, NULL) == -ENOENT ? 0 : 1);
	}
	nanosleep(&pause, NULL);
	cr_assert_eq(renameat(layers, hex, layers, "tmp/gone"), 0);
	close(fd);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	fixture_close(&f);
}

Test(layers_gc, removal_says_what_uses_the_layer)
{
	struct fixture f;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	make_image(&f, "first", "x");
	struct layer_info info = import_text(&f, "x");
	cr_expect_eq(gc_remove_layer(f.store, info.id, &err), -EBUSY);
	cr_expect(strstr(err_msg(&err), "image first"), "%s", err_msg(&err));
	cr_assert_eq(image_rm(f.store, "first", &err), 0);
	cr_assert_eq(pin_layer(f.store, info.id, &err), 0);
	cr_expect_eq(gc_remove_layer(f.store, info.id, &err), -EBUSY);
	cr_expect(strstr(err_msg(&err), "pinned"), "%s", err_msg(&err));
	fixture_close(&f);
}

Test(layers_gc, one_fd_a_layer_counted)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct layer_uses *uses;
	struct layer_use *a, *b, *c;
	fixture_open(&f, true);
	struct layer_info x = import_text(&f, "x"), y = import_text(&f, "y");
	used_before(&f, &x, DAY);
	size_t fds = count_in(AT_FDCWD, "/proc/self/fd");
	cr_assert_eq(layer_uses_new(f.store, &uses, &err), 0);
	cr_assert_eq(layer_uses_hold(uses, x.id, &a, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(layer_uses_hold(uses, x.id, &b, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(layer_uses_hold(uses, y.id, &c, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(count_in(AT_FDCWD, "/proc/self/fd"), fds + 2);
	layer_uses_drop(uses, a);
	layer_uses_drop(uses, c);
	cr_expect_eq(collect(&f, 0, UINT64_MAX).layers, 1);
	cr_expect(there(&f, &x) && !there(&f, &y));
	cr_expect_eq(layer_uses_hold(uses, y.id, &c, &err), -ENOENT);
	layer_uses_drop(uses, b);
	cr_expect_eq(count_in(AT_FDCWD, "/proc/self/fd"), fds);
	cr_expect_eq(collect(&f, 3600, UINT64_MAX).layers, 0, "the use was not noted");
	layer_uses_free(uses);
	fixture_close(&f);
}

Test(layers_gc, a_broken_image_stops_gc)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct gc_sums sums;
	const struct gc_options options = {.max_bytes = UINT64_MAX};
	fixture_open(&f, true);
	struct layer_info info = import_text(&f, "x");
	int images = openat(store_fd(f.store), "images", O_RDONLY | O_DIRECTORY);
	write_at(images, "broken.json", "{", 0644);
	cr_expect_lt(gc_run(f.store, &options, &sums, &err), 0);
	cr_expect(strstr(err_msg(&err), "broken"), "%s", err_msg(&err));
	cr_expect(there(&f, &info));
	close(images);
	fixture_close(&f);
}

Test(layers_gc, the_oldest_use_goes_first)
{
	struct fixture f;
	fixture_open(&f, true);
	static char text[4][5000];
	struct layer_info info[4];
	for (int i = 0; i < 4; i++) {
		memset(text[i], 'a' + i, sizeof(text[i]) - 1);
		info[i] = import_text(&f, text[i]);
		used_before(&f, &info[i], (i + 1) * 3600);
	}
	struct gc_sums before = collect(&f, 7 * DAY, UINT64_MAX - 1);
	cr_expect_eq(before.layers, 0);
	struct gc_sums sums = collect(&f, 7 * DAY, before.size_bytes - 1);
	cr_expect_eq(sums.layers, 1);
	cr_expect(!there(&f, &info[3]) && there(&f, &info[2]));
	cr_expect(sums.size_bytes + sums.bytes == before.size_bytes, "%lu + %lu != %lu", (unsigned long)sums.size_bytes,
		(unsigned long)sums.bytes, (unsigned long)before.size_bytes);
	sums = collect(&f, 7 * DAY, 0);
	cr_expect_eq(sums.layers, 3);
	fixture_close(&f);
}

Test(layers_gc, a_dry_run_removes_nothing)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct gc_sums sums;
	const struct gc_options options = {.max_bytes = UINT64_MAX, .dry_run = true};
	fixture_open(&f, true);
	struct layer_info info = import_text(&f, "x");
	cr_assert_eq(gc_run(f.store, &options, &sums, &err), 0, "%s", err_msg(&err));
	cr_expect(sums.layers == 1 && there(&f, &info));
	/* Really, the record of the import goes too. */
	uint64_t bytes = collect(&f, 0, UINT64_MAX).bytes;
	cr_expect(sums.bytes > 0 && bytes >= sums.bytes && bytes <= sums.bytes + 4096);
	fixture_close(&f);
}

Test(layers_gc, rests_go)
{
	struct fixture f;
	fixture_open(&f, true);
	int state = store_fd(f.store);
	cr_assert(mkdirat(state, "objects", 0700) == 0 || errno == EEXIST);
	cr_assert_eq(mkdirat(state, "objects/ab", 0700), 0);
	write_at(state, "objects/ab/lonely", "12345", 0444);
	write_at(state, "objects/ab/shared", "x", 0444);
	cr_assert_eq(linkat(state, "objects/ab/shared", state, "layers/link", 0), 0);
	cr_assert(mkdirat(state, "layers/by-source", 0700) == 0 || errno == EEXIST);
	write_at(state, "layers/by-source/dead.tar", "xxh128:00000000000000000000000000000000 1 -\n", 0600);
	write_at(state, "layers/by-source/torn.tar", "", 0600);
	write_at(state, "layers/by-source/new.tar", "xxh128:00000000000000000000000000000000 1 - "
						    "0000000000000000000000000000000000000000000000000000000000000000\n",
		0600);
	cr_assert_eq(mkdirat(state, "blobs/ab", 0700), 0);
	write_at(state, "blobs/ab/ab000000000000000000000000000000.sha256", "x", 0400);
	cr_assert_eq(mkdirat(state, "layers/tmp/dead", 0700), 0);
	write_at(state, "images/.0123456789abcdef0123456789abcdef", "{", 0600);
	struct gc_sums sums = collect(&f, DAY, UINT64_MAX);
	cr_expect_eq(sums.objects, 1);
	cr_expect_eq(sums.sources, 3);
	cr_expect_eq(sums.leftovers, 3);
	cr_expect_eq(faccessat(state, "objects/ab/shared", F_OK, 0), 0);
	cr_expect_eq(count_in(state, "images"), 0);
	fixture_close(&f);
}

/* ---- blobs ---- */
static void blob_path(const uint8_t id[16], char ret[80])
{
	char hex[33];
	format_hex(id, 16, hex);
	snprintf(ret, 80, "blobs/%.2s/%s", hex, hex);
}

static void blob_used_before(struct fixture *f, const uint8_t id[16], long seconds)
{
	char path[80];
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - seconds}};
	blob_path(id, path);
	cr_assert_eq(utimensat(store_fd(f->store), path, times, 0), 0);
}

Test(layers_gc, blobs_go_by_their_last_use)
{
	struct fixture f;
	struct err err = ERR_INIT;
	uint8_t a[16], b[16], c[16], d[16];
	fixture_open(&f, true);
	cr_assert_eq(blob_put_data(f.store, "a", 1, STORE_UPLOAD, a, &err), 0);
	cr_assert_eq(blob_put_data(f.store, "b", 1, STORE_JOB, b, &err), 0);
	cr_assert_eq(blob_put_data(f.store, "c", 1, STORE_UPLOAD, c, &err), 0);
	cr_assert_eq(blob_put_data(f.store, "d", 1, STORE_UPLOAD, d, &err), 0);
	cr_assert_eq(pin_blob(f.store, c, &err), 0, "%s", err_msg(&err));
	blob_used_before(&f, a, 8 * DAY);
	blob_used_before(&f, b, 8 * DAY);
	blob_used_before(&f, c, 8 * DAY);
	blob_used_before(&f, d, 8 * DAY);
	close(blob_open(f.store, b, NULL, &err)); /* a use */
	cr_assert_eq(blob_put_data(f.store, "d", 1, STORE_UPLOAD, d, &err), 0);
	struct gc_sums sums = collect(&f, 7 * DAY, UINT64_MAX);
	cr_expect_eq(sums.blobs, 1);
	cr_expect_eq(blob_open(f.store, a, NULL, &err), -ENOENT);
	char path[80];
	blob_path(a, path);
	strcat(path, ".sha256");
	cr_expect_eq(faccessat(store_fd(f.store), path, F_OK, 0), -1, "its record stayed");
	cr_expect_eq(pin_blob(f.store, a, &err), -ENOENT);
	fixture_close(&f);
}

/* A blob that is put while gc takes the old one of the same content is there afterwards. */
Test(layers_gc, sharing_a_blob_and_taking_it)
{
	struct fixture f;
	struct err err = ERR_INIT;
	uint8_t id[16];
	fixture_open(&f, true);
	store_warm();
	for (int i = 0; i < 200; i++) {
		cr_assert_eq(blob_put_data(f.store, "same", 4, STORE_JOB, id, &err), 0, "%s", err_msg(&err));
		blob_used_before(&f, id, DAY);
		pid_t pid = fork();
		if (pid == 0) {
			struct gc_sums sums;
			const struct gc_options options = {.keep_s = 3600, .max_bytes = UINT64_MAX};
			_exit(gc_run(f.store, &options, &sums, NULL) == 0 && sums.failed == 0 ? 0 : 1);
		}
		const struct timespec pause = {.tv_nsec = (i % 40) * 10000};
		nanosleep(&pause, NULL);
		cr_assert_eq(blob_put_data(f.store, "same", 4, STORE_JOB, id, &err), 0, "%s", err_msg(&err));
		int status;
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert_eq(status, 0);
		int fd = blob_open(f.store, id, NULL, &err);
		cr_assert(fd >= 0, "round %d: %s", i, err_msg(&err));
		close(fd);
	}
	fixture_close(&f);
}

/* ---- layers, at once ---- */
static _Noreturn void hold_and_look(struct fixture *f, const struct layer_info *info, int rounds)
{
	char hex[33], path[64];
	format_hex(info->id, 16, hex);
	snprintf(path, sizeof(path), "%s/diff/f", hex);
	for (int i = 0; i < rounds; i++) {
		int held = layer_hold(f->store, info->id, NULL);
		if (held == -ENOENT)
			continue;
		if (held < 0)
			_exit(2);
		for (int k = 0; k < 20; k++)
			if (faccessat(store_layers_fd(f->store), path, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
				_exit(3);
		close(held);
	}
	_exit(0);
}

Test(layers_gc, what_is_held_is_whole_while_others_import_and_collect, .timeout = 60)
{
	struct fixture f;
	fixture_open(&f, true);
	store_warm();
	struct layer_info info = import_text(&f, "contended");
	pid_t holders[2], collector = fork();
	if (collector == 0) {
		const struct gc_options options = {.max_bytes = UINT64_MAX};
		for (int i = 0; i < 400; i++) {
			struct gc_sums sums;
			if (gc_run(f.store, &options, &sums, NULL) < 0 || sums.failed > 0)
				_exit(1);
		}
		_exit(0);
	}
	for (int i = 0; i < 2; i++)
		if ((holders[i] = fork()) == 0)
			hold_and_look(&f, &info, 20000);
	/* An import's layer is there for as long as it is held, new or shared. */
	for (int i = 0; i < 100; i++) {
		struct err err = ERR_INIT;
		struct layer_info again = {.held = 0};
		int fd = TAR({"f", '0', .data = "contended", .mode = 0644});
		cr_assert_eq(layer_import_tar(f.store, fd, &again, &err), 0, "round %d: %s", i, err_msg(&err));
		cr_expect(there(&f, &again), "round %d: gone while it was held", i);
		layer_info_release(&again);
		close(fd);
	}
	for (int i = 0; i < 2; i++) {
		int status;
		cr_assert_eq(waitpid(holders[i], &status, 0), holders[i]);
		cr_expect_eq(status, 0, "a holder ended with %x", status);
	}
	int status;
	cr_assert_eq(waitpid(collector, &status, 0), collector);
	cr_expect_eq(status, 0, "the collector ended with %x", status);
	(void)collect(&f, 0, UINT64_MAX);
	cr_expect_eq(count_in(store_layers_fd(f.store), "tmp"), 0);
	fixture_close(&f);
}

/* What an image names while gc is at work elsewhere stays, though it was on gc's list. */
Test(layers_gc, images_are_looked_at_again)
{
	struct fixture f;
	fixture_open(&f, true);
	int layers = store_layers_fd(f.store), status;
	struct layer_info info = import_text(&f, "late");
	char path[64];
	for (int i = 0; i < 400; i++) { /* older, so that they go first */
		const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000 + i}};
		snprintf(path, sizeof(path), "%032x", i + 1);
		cr_assert_eq(mkdirat(layers, path, 0755), 0);
		strcat(path, "/used");
		write_at(layers, path, "", 0600);
		cr_assert_eq(utimensat(layers, path, times, 0), 0);
	}
	used_before(&f, &info, 3600);
	pid_t pid = fork();
	if (pid == 0) {
		struct gc_sums sums;
		const struct gc_options options = {.keep_s = 60, .max_bytes = UINT64_MAX};
		_exit(gc_run(f.store, &options, &sums, NULL) == 0 && sums.failed == 0 && sums.layers == 400 ? 0 : 1);
	}
	snprintf(path, sizeof(path), "%032x", 1);
	while (faccessat(layers, path, F_OK, 0) == 0)
		;
	/* Without a use: the name alone must do. */
	int images = openat(store_fd(f.store), "images", O_RDONLY | O_DIRECTORY);
	char hex[33], text[512];
	format_hex(info.id, 16, hex);
	snprintf(text, sizeof(text), "{\"name\": \"late\", \"host_usr\": false, \"layers\": [\"xxh128:%s\"], \"env\": null, \"entrypoint\": null,"
				     "\"cmd\": null, \"cwd\": null, \"user\": null, \"stamp\": null}",
		hex);
	write_at(images, ".new", text, 0644);
	cr_assert_eq(renameat(images, ".new", images, "late.json"), 0);
	close(images);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	cr_expect(there(&f, &info));
	fixture_close(&f);
}

/* ---- usage ---- */
Test(layers_gc, usage_counts_an_inode_once)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct usage usage = USAGE_INIT;
	static char block[4096];
	fixture_open(&f, false);
	memset(block, 'x', sizeof(block) - 1);
	cr_assert_eq(mkdirat(f.dirfd, "t", 0700), 0);
	write_at(f.dirfd, "t/a", block, 0600);
	cr_assert_eq(linkat(f.dirfd, "t/a", f.dirfd, "t/b", 0), 0);
	write_at(f.dirfd, "outside", block, 0600);
	cr_assert_eq(linkat(f.dirfd, "outside", f.dirfd, "t/c", 0), 0);
	cr_assert_eq(symlinkat("/", f.dirfd, "t/root"), 0);
	struct stat file = stat_at(f.dirfd, "t/a");
	cr_assert_eq(usage_add(&usage, f.dirfd, "t", &err), 0, "%s", err_msg(&err));
	uint64_t one = (uint64_t)file.st_blocks * 512;
	cr_expect_eq(usage.entries, 5);
	cr_expect_eq(usage_all(&usage) - usage.bytes, 2 * one);
	cr_expect_eq(usage_own(&usage, 0) - usage.bytes, one);
	cr_expect_eq(usage_add(&usage, f.dirfd, "absent", &err), 0);
	usage_clear(&usage);
	fixture_close(&f);
}

Test(layers_gc, usage_of_a_very_deep_tree)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct usage usage = USAGE_INIT;
	fixture_open(&f, false);
	cr_assert_eq(mkdirat(f.dirfd, "deep", 0700), 0);
	int fd = openat(f.dirfd, "deep", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 1500; i++) {
		cr_assert_eq(mkdirat(fd, "d", 0700), 0);
		int next = openat(fd, "d", O_RDONLY | O_DIRECTORY);
		cr_assert(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	cr_expect_eq(usage_add(&usage, f.dirfd, "deep", &err), 0, "%s", err_msg(&err));
	cr_expect_eq(usage.entries, 1501);
	usage_clear(&usage);
	fixture_close(&f);
}

/* ---- blobs, verified ---- */
static void count_difference(void *ctx, const char *what)
{
	(void)what;
	++*(int *)ctx;
}

Test(layers_gc, a_changed_blob_is_noticed)
{
	struct fixture f;
	struct err err = ERR_INIT;
	uint8_t upload[16], job[16];
	char path[80];
	int told = 0;
	struct verify verify = {.differs = count_difference, .ctx = &told};
	fixture_open(&f, true);
	cr_assert_eq(blob_put_data(f.store, "abc", 3, STORE_UPLOAD, upload, &err), 0);
	cr_assert_eq(blob_put_data(f.store, "abc", 3, STORE_JOB, job, &err), 0);
	cr_assert_eq(blob_verify(f.store, upload, &verify, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(blob_verify(f.store, job, &verify, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(told, 0);
	blob_path(job, path);
	cr_assert_eq(fchmodat(store_fd(f.store), path, 0600, 0), 0);
	write_at(store_fd(f.store), path, "abd", 0400);
	cr_assert_eq(blob_verify(f.store, job, &verify, &err), 0, "%s", err_msg(&err));
	cr_expect(verify.differences == 2 && told == 2);
	write_at(store_fd(f.store), path, "abcd", 0400); /* another size than its record says */
	cr_assert_eq(blob_verify(f.store, job, &verify, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(verify.differences, 1);
	fixture_close(&f);
}
