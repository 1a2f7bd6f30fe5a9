/* Commits of what a job left behind: a slot's uids, hostile entries, bounds, the pack. */
#include "test_layers_util.h"

#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "base/pack.h"
#include "base/sys.h"

#define SLOT_BASE (STORE_UID_BASE + 3 * 65536u)

struct job {
	struct fixture f;
	int work;
};

static void own(int dir, const char *path)
{
	cr_assert_eq(fchownat(dir, path, SLOT_BASE + 1000, SLOT_BASE + 1000, AT_SYMLINK_NOFOLLOW), 0);
}

static void job_open(struct job *j)
{
	fixture_open(&j->f, true);
	cr_assert_eq(mkdirat(j->f.dirfd, "work", 0700), 0);
	j->work = openat(j->f.dirfd, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own(j->work, ".");
}

static void job_close(struct job *j)
{
	close(j->work);
	fixture_close(&j->f);
}

static void job_file(struct job *j, const char *path, const char *text, mode_t mode)
{
	write_at(j->work, path, text, mode);
	own(j->work, path);
	cr_assert_eq(fchmodat(j->work, path, mode, 0), 0); /* the change of owner took set-id bits */
}

static void job_dir(struct job *j, const char *path, mode_t mode)
{
	cr_assert_eq(mkdirat(j->work, path, 0700), 0);
	own(j->work, path);
	cr_assert_eq(fchmodat(j->work, path, mode, 0), 0);
}

static int commit(struct job *j, const char *prefix, uint64_t bytes, uint64_t entries, struct layer_info *info,
	struct err *err)
{
	struct layer_commit args = {
		.dirfd = j->work, .prefix = prefix, .uid_base = SLOT_BASE, .max_bytes = bytes, .max_entries = entries};
	return layer_commit(j->f.store, &args, info, err);
}

static struct layer_info commit_ok(struct job *j, const char *prefix)
{
	struct layer_info info = {0};
	struct err err = ERR_INIT;
	cr_assert_eq(commit(j, prefix, 1 << 20, 1000, &info, &err), 0, "%s", err_msg(&err));
	return info;
}

/* A pack as text: "d /path 755\nf /path 644 content\n". */
static char *pack_text(struct job *j, const struct layer_info *info)
{
	struct err err = ERR_INIT;
	static char text[8192];
	static char data[65536];
	int fd = layer_open_pack(j->f.store, info->id, &err);
	cr_assert(fd >= 0, "%s", err_msg(&err));
	ssize_t n = fd_read_all(fd, data, sizeof(data));
	close(fd);
	cr_assert(n > PACK_MAGIC_LEN && memcmp(data, PACK_MAGIC, PACK_MAGIC_LEN) == 0);
	size_t at = PACK_MAGIC_LEN, len = 0;
	for (;;) {
		struct pack_entry e;
		cr_assert_leq(at + sizeof(e), (size_t)n);
		memcpy(&e, data + at, sizeof(e));
		at += sizeof(e);
		if (e.type == PACK_END)
			break;
		cr_assert_eq(e.source, PACK_INLINE);
		cr_assert_leq(at + e.path_len + e.size, (size_t)n);
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%c %.*s %o", e.type == PACK_DIR ? 'd' : 'f',
			(int)e.path_len, data + at, e.mode);
		at += e.path_len;
		if (e.type == PACK_FILE)
			len += (size_t)snprintf(text + len, sizeof(text) - len, " %.*s", (int)e.size, data + at);
		at += e.size;
		text[len++] = '\n';
	}
	cr_expect_eq(at, (size_t)n, "bytes follow the end");
	text[len] = '\0';
	return text;
}

Test(layers_commit, small_outputs_become_a_pack)
{
	struct job j;
	job_open(&j);
	job_file(&j, "a.out", "binary", 0755);
	job_file(&j, "secret", "mine", 0000);
	job_dir(&j, "lib", 0700);
	job_file(&j, "lib/m", "module", 0640);
	job_dir(&j, "empty", 0755);
	struct layer_info info = commit_ok(&j, "/work");
	cr_expect(info.has_pack);
	cr_expect_eq(info.bytes, 16);
	cr_expect_eq(info.entries, 7);
	cr_expect_str_eq(pack_text(&j, &info), "f /work/a.out 755 binary\nd /work/empty 755\nd /work/lib 700\n"
					       "f /work/lib/m 640 module\nf /work/secret 0 mine\n");
	int d = layer_dir(&j.f, &info, "diff");
	struct stat st = stat_at(d, "work");
	cr_expect_eq(st.st_mode, S_IFDIR | 0755);
	cr_expect_eq(st.st_uid, STORE_UID_BASE + STORE_JOB_UID);
	st = stat_at(d, "work/secret");
	cr_expect_eq(st.st_mode, S_IFREG);
	cr_expect_eq(st.st_uid, STORE_UID_BASE + STORE_JOB_UID);
	content_is(d, "work/lib/m", "module");
	close(d);
	job_close(&j);
}

Test(layers_commit, same_outputs_are_one_layer_with_a_salted_id)
{
	struct job j;
	struct err err = ERR_INIT;
	struct layer_info up;
	job_open(&j);
	job_file(&j, "out", "x", 0644);
	struct layer_info a = commit_ok(&j, "/work");
	struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	cr_assert_eq(utimensat(j.work, "out", times, 0), 0);
	struct layer_info b = commit_ok(&j, "/work");
	cr_expect_arr_eq(a.id, b.id, 16);
	cr_expect_eq(b.has_pack, true);
	/* The very same tree from an operator has another id. */
	int d = layer_dir(&j.f, &a, "diff");
	struct stat st = stat_at(d, "work");
	int tar = TAR({"./", '5', .mode = 0755},
		{"work", '5', .mode = 0755, .uid = 1000, .gid = 1000, .mtime = st.st_mtime},
		{"work/out", '0', .data = "x", .mode = 0644, .uid = 1000, .gid = 1000, .mtime = st.st_mtime});
	cr_assert_eq(layer_import_tar(j.f.store, tar, &up, &err), 0, "%s", err_msg(&err));
	cr_expect_arr_neq(up.id, a.id, 16);
	char sha[65], up_sha[65];
	cr_assert_eq(layer_sha256(j.f.store, a.id, sha, &err), 0);
	cr_assert_eq(layer_sha256(j.f.store, up.id, up_sha, &err), 0);
	cr_expect_str_eq(sha, up_sha, "the trees were to be the same");
	cr_expect_eq(count_in(store_layers_fd(j.f.store), "tmp"), 0);
	close(tar);
	close(d);
	job_close(&j);
}

Test(layers_commit, links_stay_links_and_cancel_the_pack)
{
	struct job j;
	char link[64];
	job_open(&j);
	cr_assert_eq(symlinkat("/etc/shadow", j.work, "l"), 0);
	cr_assert_eq(symlinkat("../state/secret", j.work, "up"), 0);
	own(j.work, "l");
	struct layer_info info = commit_ok(&j, "/work");
	cr_expect(!info.has_pack);
	int d = layer_dir(&j.f, &info, "diff/work");
	cr_expect_eq(readlinkat(d, "l", link, sizeof(link)), 11);
	cr_expect_eq(readlinkat(d, "up", link, sizeof(link)), 15);
	struct err err = ERR_INIT;
	cr_expect_eq(layer_open_pack(j.f.store, info.id, &err), -ENOENT);
	int top = layer_dir(&j.f, &info, ".");
	cr_expect_neq(faccessat(top, "pack", F_OK, 0), 0);
	close(top);
	close(d);
	job_close(&j);
}

Test(layers_commit, skips_devices_copies_hard_links_drops_set_id)
{
	struct job j;
	job_open(&j);
	cr_assert_eq(mkfifoat(j.work, "fifo", 0666), 0);
	cr_assert_eq(mknodat(j.work, "null", S_IFCHR | 0666, makedev(1, 3)), 0);
	cr_assert_eq(mknodat(j.work, "sock", S_IFSOCK | 0666, 0), 0);
	job_file(&j, "su", "x", 06755);
	cr_assert_eq(linkat(j.work, "su", j.work, "again", 0), 0);
	struct layer_info info = commit_ok(&j, "/work");
	cr_expect_eq(info.bytes, 2);
	int d = layer_dir(&j.f, &info, "diff/work");
	cr_expect_eq(count_in(d, "."), 2);
	cr_expect_eq(stat_at(d, "su").st_mode & 07777, 0755);
	cr_expect_eq(stat_at(d, "su").st_nlink, 1);
	close(d);
	job_close(&j);
}

Test(layers_commit, prefixes)
{
	static const char *const bad[] = {"", "work", "/", "//work", "/work/", "/work/../etc", "/./work", "/work//x"};
	struct job j;
	struct layer_info info;
	struct err err = ERR_INIT;
	job_open(&j);
	job_file(&j, "f", "x", 0644);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect_eq(commit(&j, bad[i], 1000, 10, &info, &err), -EINVAL, "%s", bad[i]);
	info = commit_ok(&j, "/work/out/deep");
	cr_expect_str_eq(pack_text(&j, &info), "d /work/out 755\nd /work/out/deep 755\nf /work/out/deep/f 644 x\n");
	info = commit_ok(&j, "/srv");
	cr_expect(!info.has_pack, "only what lies under /work is delivered as files");
	int d = layer_dir(&j.f, &info, "diff/srv");
	content_is(d, "f", "x");
	close(d);
	info = commit_ok(&j, "/workshop");
	cr_expect(!info.has_pack);
	job_close(&j);
}

Test(layers_commit, bounds_are_kept)
{
	struct job j;
	struct layer_info info;
	struct err err = ERR_INIT;
	job_open(&j);
	job_file(&j, "a", "12345", 0644);
	job_file(&j, "b", "12345", 0644);
	cr_expect_eq(commit(&j, "/work", 10, 2, &info, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(commit(&j, "/work", 9, 2, &info, &err), -EFBIG);
	cr_expect_str_eq(err_msg(&err), "the commit is larger than 9 bytes");
	cr_expect_eq(commit(&j, "/work", 10, 1, &info, &err), -EFBIG);
	cr_expect(strstr(err_msg(&err), "more than 1 entries"), "%s", err_msg(&err));
	int fd = openat(j.work, "b", O_WRONLY);
	cr_assert_eq(ftruncate(fd, 10000000000000), 0);
	close(fd);
	cr_expect_eq(commit(&j, "/work", 1 << 30, 1000, &info, &err), -EFBIG, "%s", err_msg(&err));
	cr_expect_eq(count_in(store_layers_fd(j.f.store), "tmp"), 0);
	job_close(&j);
}

Test(layers_commit, too_much_for_a_pack)
{
	struct job j;
	struct layer_info info;
	struct err err = ERR_INIT;
	char name[16];
	job_open(&j);
	for (unsigned i = 0; i < LAYER_PACK_MAX_ENTRIES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		job_file(&j, name, "x", 0644);
	}
	info = commit_ok(&j, "/work");
	cr_expect(info.has_pack);
	job_file(&j, "one more", "x", 0644);
	info = commit_ok(&j, "/work");
	cr_expect(!info.has_pack);
	cr_assert_eq(tree_remove(j.f.dirfd, "work", &err), 0);
	close(j.work);
	cr_assert_eq(mkdirat(j.f.dirfd, "work", 0700), 0);
	j.work = openat(j.f.dirfd, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own(j.work, ".");
	job_file(&j, "big", "x", 0644);
	int fd = openat(j.work, "big", O_WRONLY);
	cr_assert_eq(ftruncate(fd, LAYER_PACK_MAX_BYTES), 0);
	close(fd);
	cr_expect_eq(commit(&j, "/work", 1 << 30, 10, &info, &err), 0, "%s", err_msg(&err));
	cr_expect(!info.has_pack);
	job_dir(&j, "closed", 0500);
	cr_expect_eq(unlinkat(j.work, "big", 0), 0);
	info = commit_ok(&j, "/work");
	cr_expect(!info.has_pack, "the job's user could make nothing in that directory");
	job_close(&j);
}

Test(layers_commit, a_cut_off_pack_is_refused)
{
	struct job j;
	struct err err = ERR_INIT;
	job_open(&j);
	job_file(&j, "f", "x", 0644);
	struct layer_info info = commit_ok(&j, "/work");
	int d = layer_dir(&j.f, &info, ".");
	cr_expect_eq(stat_at(d, "pack").st_mode & 07777, 0444);
	write_at(d, "pack", "", 0444);
	cr_expect_eq(layer_open_pack(j.f.store, info.id, &err), -EUCLEAN, "%s", err_msg(&err));
	close(d);
	job_close(&j);
}

Test(layers_commit, files_of_others_are_not_readable)
{
	struct job j;
	struct layer_info info;
	struct err err = ERR_INIT;
	job_open(&j);
	write_at(j.work, "roots", "x", 0600); /* as if a bug had let the machine's root write there */
	cr_expect_eq(commit(&j, "/work", 100, 10, &info, &err), -EACCES, "%s", err_msg(&err));
	struct layer_commit args = {.dirfd = j.work, .prefix = "/work", .uid_base = 0, .max_bytes = 1, .max_entries = 1};
	cr_expect_eq(layer_commit(j.f.store, &args, &info, &err), -EINVAL);
	args.uid_base = STORE_UID_BASE;
	cr_expect_eq(layer_commit(j.f.store, &args, &info, &err), -EINVAL);
	args.uid_base = SLOT_BASE + 1;
	cr_expect_eq(layer_commit(j.f.store, &args, &info, &err), -EINVAL);
	job_close(&j);
}

Test(layers_commit, is_quick)
{
	struct job j;
	static char text[20001];
	job_open(&j);
	store_warm();
	memset(text, 'x', 20000);
	uint64_t best = UINT64_MAX;
	for (int i = 0; i < 20; i++) {
		snprintf(text, 8, "%d", i);
		text[strlen(text)] = 'x';
		job_file(&j, "a.out", text, 0755);
		uint64_t start = now_us();
		struct layer_info info = commit_ok(&j, "/work");
		best = MIN(best, now_us() - start);
		cr_expect(info.has_pack);
	}
	fprintf(stderr, "commit of 20 KB: %lu us at best\n", (unsigned long)best);
	cr_expect_lt(best, 20000, "%lu us", (unsigned long)best);
	job_close(&j);
}

Test(layers_commit, the_worker_reads_the_pack)
{
	struct job j;
	job_open(&j);
	job_file(&j, "f", "x", 0644);
	struct layer_info info = commit_ok(&j, "/work");
	pid_t pid = fork();
	if (pid == 0) {
		if (setgid(STORE_WORKER_UID) || setuid(STORE_WORKER_UID))
			_exit(9);
		_exit(layer_open_pack(j.f.store, info.id, NULL) >= 0 ? 0 : 1);
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	job_close(&j);
}

/* The machine stopped before the disk had it: a mark of another boot. */
Test(layers_commit, what_a_power_cut_overtook)
{
	struct job j;
	struct layer_info info, again;
	char hex[33], path[80];
	job_open(&j);
	job_file(&j, "f", "content", 0644);
	info = commit_ok(&j, "/work");
	format_hex(info.id, 16, hex);
	(void)snprintf(path, sizeof(path), "%s/unsynced", hex);
	int layers = store_layers_fd(j.f.store);
	cr_assert_eq(faccessat(layers, path, F_OK, 0), 0);
	cr_assert_eq(layer_load(j.f.store, info.id, &again, NULL), 0);

	int fd = openat(layers, path, O_WRONLY | O_TRUNC);
	cr_assert_geq(fd, 0); /* cut off: as good as another boot's */
	close(fd);
	cr_assert_eq(layer_load(j.f.store, info.id, &again, NULL), -EUCLEAN);
	layer_info_release(&info);
	info = commit_ok(&j, "/work"); /* the same outputs again: made anew */
	cr_assert_eq(layer_load(j.f.store, info.id, &again, NULL), 0);

	store_settle(j.f.store);
	cr_assert_lt(faccessat(layers, path, F_OK, 0), 0, "durable by now");
	cr_assert_eq(layer_load(j.f.store, info.id, &again, NULL), 0);
	layer_info_release(&info);

	job_file(&j, "g", "more", 0644);
	info = commit_ok(&j, "/work");
	layer_info_release(&info);
	format_hex(info.id, 16, hex);
	(void)snprintf(path, sizeof(path), "%s/unsynced", hex);
	fd = openat(layers, path, O_WRONLY | O_TRUNC);
	cr_assert_eq(write(fd, "00000000-0000-0000-0000-000000000000", 36), 36);
	close(fd);
	store_settle(j.f.store);
	cr_assert_eq(layer_load(j.f.store, info.id, &again, NULL), -ENOENT);
	job_close(&j);
}
