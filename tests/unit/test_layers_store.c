/* store_open(): what it makes, whom it refuses, and that several may do it at once. */
#include "test_layers_util.h"

#include <sys/file.h>
#include <sys/wait.h>

static void owner_mode(struct fixture *f, const char *path, uid_t uid, mode_t mode)
{
	struct stat st = stat_at(store_fd(f->store), path);
	cr_expect_eq(st.st_uid, uid, "%s belongs to %u", path, st.st_uid);
	cr_expect_eq(st.st_gid, uid, "%s has the group %u", path, st.st_gid);
	cr_expect_eq(st.st_mode & 07777, mode, "%s has mode %o", path, st.st_mode & 07777);
}

Test(layers_store, makes_its_directories)
{
	struct fixture f;
	fixture_open(&f, true);
	owner_mode(&f, ".", 0, 0700);
	owner_mode(&f, "blobs", STORE_WORKER_UID, 0700);
	owner_mode(&f, "blobs/tmp", STORE_WORKER_UID, 0700);
	owner_mode(&f, "layers", 0, 0711);
	owner_mode(&f, "layers/tmp", 0, 0700);
	owner_mode(&f, "layers/by-source", 0, 0700);
	owner_mode(&f, "objects", 0, 0700);
	owner_mode(&f, "images", 0, 0755);
	owner_mode(&f, "slots", 0, 0700);
	owner_mode(&f, "pins", 0, 0700);
	owner_mode(&f, "secret", STORE_WORKER_UID, 0400);
	cr_expect_eq(stat_at(store_fd(f.store), "secret").st_size, 32);
	cr_expect_eq(count_in(store_fd(f.store), "."), 7, "something temporary was left");
	fixture_close(&f);
}

Test(layers_store, opens_again_with_the_same_secret)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct store *again = NULL;
	uint8_t a[16], b[16];
	fixture_open(&f, true);
	cr_assert_eq(blob_put_data(f.store, "x", 1, STORE_JOB, a, &err), 0, "%s", err_msg(&err));
	char slashed[100];
	snprintf(slashed, sizeof(slashed), "%s//", f.state);
	cr_assert_eq(store_open(slashed, &again, &err), 0, "%s", err_msg(&err));
	cr_expect_str_eq(store_path(again), f.state);
	cr_assert_eq(blob_put_data(again, "x", 1, STORE_JOB, b, &err), 0, "%s", err_msg(&err));
	cr_expect_arr_eq(a, b, 16);
	store_free(again);
	fixture_close(&f);
}

Test(layers_store, two_stores_salt_differently)
{
	struct fixture f, g;
	uint8_t a[16], b[16];
	fixture_open(&f, true);
	fixture_open(&g, true);
	cr_assert_eq(blob_put_data(f.store, "x", 1, STORE_JOB, a, NULL), 0);
	cr_assert_eq(blob_put_data(g.store, "x", 1, STORE_JOB, b, NULL), 0);
	cr_expect_arr_neq(a, b, 16);
	fixture_close(&f);
	fixture_close(&g);
}

static void refused(const char *path, int code, const char *word)
{
	struct err err = ERR_INIT;
	struct store *store = NULL;
	cr_expect_eq(store_open(path, &store, &err), code, "%s: %d %s", path, err.code, err_msg(&err));
	cr_expect(strstr(err_msg(&err), word), "%s", err_msg(&err));
	cr_expect_null(store);
}

Test(layers_store, refuses_a_link)
{
	struct fixture f;
	fixture_open(&f, false);
	char path[100];
	cr_assert_eq(mkdirat(f.dirfd, "real", 0700), 0);
	cr_assert_eq(symlinkat("real", f.dirfd, "link"), 0);
	snprintf(path, sizeof(path), "%s/link", f.dir);
	refused(path, -ENOTDIR, "symbolic link");
	snprintf(path, sizeof(path), "%s/link/", f.dir);
	refused(path, -ENOTDIR, "symbolic link");
	cr_expect_eq(count_in(f.dirfd, "real"), 0);
	fixture_close(&f);
}

Test(layers_store, refuses_a_directory_of_others)
{
	struct fixture f;
	fixture_open(&f, false);
	cr_assert_eq(mkdir(f.state, 0700), 0);
	cr_assert_eq(chown(f.state, 1234, 1234), 0);
	refused(f.state, -EPERM, "belongs to uid 1234");
	cr_assert_eq(chown(f.state, 0, 0), 0);
	cr_assert_eq(chmod(f.state, 0777), 0);
	refused(f.state, -EPERM, "written by others");
	fixture_close(&f);
}

Test(layers_store, refuses_a_directory_in_use)
{
	struct fixture f;
	fixture_open(&f, false);
	cr_assert_eq(mkdir(f.state, 0755), 0);
	int fd = open(f.state, O_RDONLY | O_DIRECTORY);
	write_at(fd, "letters", "dear", 0644);
	refused(f.state, -ENOTEMPTY, "letters");
	cr_expect_eq(stat_at(fd, ".").st_mode & 07777, 0755, "it was made private nevertheless");
	close(fd);
	fixture_close(&f);
}

Test(layers_store, refuses_planted_links_inside)
{
	struct fixture f;
	fixture_open(&f, false);
	cr_assert_eq(mkdir(f.state, 0700), 0);
	cr_assert_eq(mkdirat(f.dirfd, "elsewhere", 0700), 0);
	int fd = open(f.state, O_RDONLY | O_DIRECTORY);
	cr_assert_eq(symlinkat("../elsewhere", fd, "blobs"), 0);
	refused(f.state, -ENOTDIR, "blobs");
	cr_assert_eq(unlinkat(fd, "blobs", 0), 0);
	cr_assert_eq(symlinkat("../elsewhere/secret", fd, "secret"), 0);
	refused(f.state, -ELOOP, "secret");
	cr_expect_eq(count_in(f.dirfd, "elsewhere"), 0);
	close(fd);
	fixture_close(&f);
}

Test(layers_store, refuses_a_damaged_secret)
{
	struct fixture f;
	fixture_open(&f, true);
	cr_assert_eq(unlinkat(store_fd(f.store), "secret", 0), 0);
	write_at(store_fd(f.store), "secret", "short", 0400);
	refused(f.state, -EINVAL, "secret");
	write_at(store_fd(f.store), "secret", "0123456789abcdef0123456789abcdef", 0444);
	refused(f.state, -EINVAL, "not private");
	fixture_close(&f);
}

Test(layers_store, tells_a_plain_user_what_to_do)
{
	struct fixture f;
	fixture_open(&f, true);
	cr_assert_eq(chmod(f.dir, 0755), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct err err = ERR_INIT;
		struct store *store;
		if (setgid(12345) || setuid(12345))
			_exit(3);
		int r = store_open(f.state, &store, &err);
		_exit(r == -EACCES && strstr(err_msg(&err), "as root") ? 0 : 1);
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	fixture_close(&f);
}

Test(layers_store, many_open_it_at_once)
{
	struct fixture f;
	fixture_open(&f, false);
	uint8_t ids[8][16];
	int p[2];
	cr_assert_eq(pipe(p), 0);
	for (int i = 0; i < 8; i++) {
		if (fork() == 0) {
			struct store *store;
			struct {
				int r;
				uint8_t id[16];
			} out = {0};
			out.r = store_open(f.state, &store, NULL);
			if (out.r == 0)
				out.r = blob_put_data(store, "same", 4, STORE_JOB, out.id, NULL);
			(void)!write(p[1], &out, sizeof(out));
			_exit(0);
		}
	}
	for (int i = 0; i < 8; i++) {
		struct {
			int r;
			uint8_t id[16];
		} in;
		cr_assert_eq(read(p[0], &in, sizeof(in)), (ssize_t)sizeof(in));
		cr_expect_eq(in.r, 0, "%s", strerror(-in.r));
		memcpy(ids[i], in.id, 16);
		cr_expect_arr_eq(ids[i], ids[0], 16, "two secrets were in use");
	}
	while (wait(NULL) > 0)
		;
	close(p[0]);
	close(p[1]);
	fixture_close(&f);
}

Test(layers_store, sweep_takes_what_nobody_locks)
{
	struct fixture f;
	fixture_open(&f, true);
	int tmp = openat(store_layers_fd(f.store), "tmp", O_RDONLY | O_DIRECTORY);
	cr_assert_eq(mkdirat(tmp, "dead", 0700), 0);
	cr_assert_eq(mkdirat(tmp, "alive", 0700), 0);
	cr_assert_eq(symlinkat("alive", tmp, "link"), 0);
	int alive = openat(tmp, "alive", O_RDONLY | O_DIRECTORY);
	cr_assert_eq(flock(alive, LOCK_EX), 0);
	/* Whoever makes an entry holds the directory until it is locked: nothing is taken meanwhile. */
	int maker = openat(tmp, ".", O_RDONLY | O_DIRECTORY);
	cr_assert_eq(flock(maker, LOCK_SH), 0);
	cr_expect_eq(store_sweep(f.store), 0);
	cr_expect_eq(count_in(tmp, "."), 3);
	close(maker);
	cr_expect_eq(store_sweep(f.store), 2);
	cr_expect_eq(faccessat(tmp, "alive", F_OK, 0), 0, "one in use was swept away");
	cr_expect_eq(count_in(tmp, "."), 1);
	close(alive);
	cr_expect_eq(store_sweep(f.store), 1);
	close(tmp);
	fixture_close(&f);
}

Test(layers_store, removes_a_very_deep_tree)
{
	struct fixture f;
	struct err err = ERR_INIT;
	fixture_open(&f, false);
	cr_assert_eq(mkdirat(f.dirfd, "deep", 0700), 0);
	int fd = openat(f.dirfd, "deep", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 3000; i++) {
		cr_assert_eq(mkdirat(fd, "d", 0700), 0);
		cr_assert_eq(symlinkat("/", fd, "root"), 0);
		int next = openat(fd, "d", O_RDONLY | O_DIRECTORY);
		cr_assert(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	cr_expect_eq(tree_remove(f.dirfd, "deep", &err), 0, "%s", err_msg(&err));
	cr_expect_eq(count_in(f.dirfd, "."), 0);
	fixture_close(&f);
}
