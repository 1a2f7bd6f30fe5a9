/* Blobs: ids, bounds, sharing, collisions, damage, and the worker without rights. */
#include "test_layers_util.h"

#include <sys/wait.h>

static void put(struct fixture *f, const char *data, enum store_origin origin, uint8_t id[16])
{
	struct err err = ERR_INIT;
	cr_assert_eq(blob_put_data(f->store, data, strlen(data), origin, id, &err), 0, "%s", err_msg(&err));
}

static void blob_path(const uint8_t id[16], const char *suffix, char ret[80])
{
	char hex[33];
	format_hex(id, 16, hex);
	snprintf(ret, 80, "blobs/%.2s/%s%s", hex, hex, suffix);
}

Test(layers_blob, ids_are_xxh3_128_and_sha256)
{
	struct fixture f;
	uint8_t id[16];
	char text[ID128_TEXT_MAX], sha[65];
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	put(&f, "", STORE_UPLOAD, id); /* the published test vector of XXH3-128 */
	format_id128(id, text);
	cr_expect_str_eq(text, "xxh128:99aa06d3014798d86001c324468d497f");
	put(&f, "abc", STORE_UPLOAD, id);
	format_id128(id, text);
	cr_expect_str_eq(text, "xxh128:06b05ab6733a618578af5f94892f3950");
	cr_assert_eq(blob_sha256(f.store, id, sha, &err), 0, "%s", err_msg(&err));
	cr_expect_str_eq(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	fixture_close(&f);
}

Test(layers_blob, put_open_and_share)
{
	struct fixture f;
	uint8_t id[16], again[16];
	uint64_t bytes = 0;
	fixture_open(&f, true);
	put(&f, "content", STORE_UPLOAD, id);
	put(&f, "content", STORE_UPLOAD, again);
	cr_expect_arr_eq(id, again, 16);
	int fd = blob_open(f.store, id, &bytes, NULL);
	cr_assert(fd >= 0);
	char buf[16] = "";
	cr_expect_eq(read(fd, buf, sizeof(buf)), 7);
	cr_expect_eq(bytes, 7);
	cr_expect_str_eq(buf, "content");
	cr_expect_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	close(fd);
	char path[80];
	blob_path(id, "", path);
	cr_expect_eq(stat_at(store_fd(f.store), path).st_uid, STORE_WORKER_UID);
	cr_expect_eq(stat_at(store_fd(f.store), path).st_nlink, 1);
	cr_expect_eq(count_in(store_fd(f.store), "blobs/tmp"), 0, "a temporary file was left");
	fixture_close(&f);
}

Test(layers_blob, missing_is_enoent)
{
	struct fixture f;
	uint8_t id[16] = {1, 2, 3};
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	cr_expect_eq(blob_open(f.store, id, NULL, &err), -ENOENT);
	cr_expect(strstr(err_msg(&err), "xxh128:010203"), "%s", err_msg(&err));
	fixture_close(&f);
}

Test(layers_blob, a_job_cannot_take_an_uploads_id)
{
	struct fixture f;
	uint8_t up[16], job[16], job2[16];
	fixture_open(&f, true);
	put(&f, "same bytes", STORE_UPLOAD, up);
	put(&f, "same bytes", STORE_JOB, job);
	put(&f, "same bytes", STORE_JOB, job2);
	cr_expect_arr_neq(up, job, 16);
	cr_expect_arr_eq(job, job2, 16);
	fixture_close(&f);
}

Test(layers_blob, bound_is_exact)
{
	struct fixture f;
	uint8_t id[16];
	uint64_t bytes;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	int fd = memfd_create("src", MFD_CLOEXEC);
	cr_assert_eq(ftruncate(fd, 300000), 0);
	cr_expect_eq(blob_put_fd(f.store, fd, 300000, STORE_JOB, id, &bytes, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(bytes, 300000);
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	cr_expect_eq(blob_put_fd(f.store, fd, 299999, STORE_UPLOAD, id, &bytes, &err), -EFBIG);
	cr_expect_eq(lseek(fd, 0, SEEK_CUR), 300000, "more than max + 1 bytes were read");
	cr_expect_eq(count_in(store_fd(f.store), "blobs/tmp"), 0);
	cr_expect_eq(count_in(store_fd(f.store), "blobs"), 2, "the refused one was stored"); /* tmp and one fan */
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	cr_expect_eq(blob_put_fd(f.store, fd, UINT64_MAX, STORE_UPLOAD, id, &bytes, &err), 0, "%s", err_msg(&err));
	close(fd);
	fixture_close(&f);
}

Test(layers_blob, reads_from_the_current_offset_and_from_pipes)
{
	struct fixture f;
	uint8_t a[16], b[16];
	int p[2];
	fixture_open(&f, true);
	put(&f, "tail", STORE_UPLOAD, a);
	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(write(p[1], "tail", 4), 4);
	close(p[1]);
	cr_expect_eq(blob_put_fd(f.store, p[0], 10, STORE_UPLOAD, b, NULL, NULL), 0);
	close(p[0]);
	cr_expect_arr_eq(a, b, 16);
	int fd = memfd_create("src", MFD_CLOEXEC);
	cr_assert_eq(write(fd, "headtail", 8), 8);
	cr_assert_eq(lseek(fd, 4, SEEK_SET), 4);
	memset(b, 0, sizeof(b));
	cr_expect_eq(blob_put_fd(f.store, fd, 4, STORE_UPLOAD, b, NULL, NULL), 0);
	cr_expect_arr_eq(a, b, 16);
	close(fd);
	fixture_close(&f);
}

/* A collision of XXH3 cannot be had to order: let the stored content be another one of the same length. */
Test(layers_blob, a_collision_is_refused)
{
	struct fixture f;
	uint8_t id[16], got[16] = {0};
	char path[80];
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	put(&f, "honest", STORE_UPLOAD, id);
	blob_path(id, "", path);
	write_at(store_fd(f.store), path, "forged", 0400);
	cr_expect_eq(blob_put_data(f.store, "honest", 6, STORE_UPLOAD, got, &err), -EEXIST);
	cr_expect(strstr(err_msg(&err), "already"), "%s", err_msg(&err));
	content_is(store_fd(f.store), path, "forged");
	cr_expect_eq(count_in(store_fd(f.store), "blobs/tmp"), 0);
	fixture_close(&f);
}

Test(layers_blob, what_a_power_cut_left_is_refused_and_replaced)
{
	struct fixture f;
	uint8_t id[16], got[16];
	char path[80], record[80];
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	put(&f, "whole content", STORE_JOB, id);
	blob_path(id, "", path);
	blob_path(id, ".sha256", record);
	write_at(store_fd(f.store), path, "", 0400);
	cr_expect_eq(blob_open(f.store, id, NULL, &err), -EUCLEAN);
	put(&f, "whole content", STORE_JOB, got);
	content_is(store_fd(f.store), path, "whole content");
	write_at(store_fd(f.store), record, "", 0400);
	cr_expect_eq(blob_open(f.store, id, NULL, &err), -EUCLEAN);
	put(&f, "whole content", STORE_JOB, got);
	int fd = blob_open(f.store, id, NULL, &err);
	cr_expect(fd >= 0, "%s", err_msg(&err));
	close(fd);
	fixture_close(&f);
}

Test(layers_blob, root_follows_no_link_of_the_worker)
{
	struct fixture f;
	uint8_t id[16], got[16];
	struct err err = ERR_INIT;
	char hex[33], fan[16];
	fixture_open(&f, true);
	put(&f, "data", STORE_UPLOAD, id);
	format_hex(id, 16, hex);
	snprintf(fan, sizeof(fan), "blobs/%.2s", hex);
	cr_assert_eq(mkdirat(f.dirfd, "elsewhere", 0700), 0);
	cr_assert_eq(tree_remove(store_fd(f.store), fan, &err), 0);
	cr_assert_eq(symlinkat("../../elsewhere", store_fd(f.store), fan), 0);
	cr_expect_lt(blob_put_data(f.store, "data", 4, STORE_UPLOAD, got, &err), 0);
	cr_expect_lt(blob_open(f.store, id, NULL, &err), 0);
	cr_expect_eq(count_in(f.dirfd, "elsewhere"), 0);
	fixture_close(&f);
}

Test(layers_blob, the_worker_puts_and_opens_without_rights)
{
	struct fixture f;
	uint8_t id[16], mine[16];
	fixture_open(&f, true);
	put(&f, "from root", STORE_UPLOAD, id);
	pid_t pid = fork();
	if (pid == 0) {
		if (setgid(STORE_WORKER_UID) || setuid(STORE_WORKER_UID))
			_exit(9);
		int fd = blob_open(f.store, id, NULL, NULL);
		if (fd < 0)
			_exit(1);
		if (blob_put_data(f.store, "from root", 9, STORE_UPLOAD, mine, NULL) < 0 || memcmp(id, mine, 16) != 0)
			_exit(2);
		if (blob_put_data(f.store, "from the worker", 15, STORE_JOB, mine, NULL) < 0)
			_exit(3);
		fd = blob_open(f.store, mine, NULL, NULL);
		if (fd < 0)
			_exit(4);
		/* The rest of the store is not its own. */
		if (mkdirat(store_layers_fd(f.store), "x", 0700) == 0 || open(f.state, O_RDONLY) >= 0)
			_exit(5);
		_exit(0);
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(WEXITSTATUS(status), 0);
	cr_expect(WIFEXITED(status));
	cr_expect_eq(blob_put_data(f.store, "from the worker", 15, STORE_JOB, mine, NULL), 0);
	fixture_close(&f);
}
