/* Images: names, import, strict reading, the built-in host image. */
#include "test_layers_util.h"

#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "base/sys.h"

static char source[128];

static void make_source(struct fixture *f)
{
	cr_assert_eq(mkdirat(f->dirfd, "src", 0755), 0);
	cr_assert_eq(mkdirat(f->dirfd, "src/etc", 0755), 0);
	write_at(f->dirfd, "src/etc/os", "tiny", 0644);
	snprintf(source, sizeof(source), "%s/src", f->dir);
}

Test(layers_image, names)
{
	static const char *const good[] = {"a", "gcc:13", "library/gcc:13-slim", "0.x_y@z"};
	static const char *const bad[] = {"", "A", ".a", "-a", "/a", "a..b", "a//b", "a/", "a b", "a%2Fb", "a\n", "é"};
	char longest[IMAGE_NAME_MAX + 2];
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		cr_expect(image_name_valid(good[i]), "%s", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect(!image_name_valid(bad[i]), "%s", bad[i]);
	memset(longest, 'a', sizeof(longest));
	longest[IMAGE_NAME_MAX] = '\0';
	cr_expect(image_name_valid(longest));
	longest[IMAGE_NAME_MAX] = 'a';
	longest[IMAGE_NAME_MAX + 1] = '\0';
	cr_expect(!image_name_valid(longest));
	for (size_t i = 1; i < IMAGE_NAME_MAX; i += 2)
		longest[i] = ':';
	longest[IMAGE_NAME_MAX] = '\0';
	cr_expect(!image_name_valid(longest), "its file's name would be too long");
}

Test(layers_image, import_list_load_remove)
{
	struct fixture f;
	struct image image, loaded;
	struct err err = ERR_INIT;
	char **names;
	fixture_open(&f, true);
	make_source(&f);
	cr_assert_eq(image_import(f.store, "b/tiny:1", source, &image, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(image_import(f.store, "a", source, NULL, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(image_load(f.store, "b/tiny:1", &loaded, &err), 0, "%s", err_msg(&err));
	cr_expect_str_eq(loaded.name, "b/tiny:1");
	cr_expect_eq(loaded.nlayers, 1);
	cr_expect_arr_eq(loaded.layers[0], image.layers[0], 16);
	cr_expect(!loaded.host_usr);
	cr_expect_str_eq(loaded.env[0], "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	cr_expect_null(loaded.env[1]);
	cr_expect_null(loaded.cmd);
	image_clear(&image);
	image_clear(&loaded);
	cr_assert_eq(image_list(f.store, &names, &err), 0, "%s", err_msg(&err));
	cr_expect_str_eq(names[0], "a");
	cr_expect_str_eq(names[1], "b/tiny:1");
	cr_expect_null(names[2]);
	image_list_free(names);
	cr_expect_eq(stat_at(store_fd(f.store), "images/b%2Ftiny%3A1.json").st_uid, 0);
	cr_expect_eq(image_rm(f.store, "b/tiny:1", &err), 0, "%s", err_msg(&err));
	cr_expect_eq(image_rm(f.store, "b/tiny:1", &err), -ENOENT);
	cr_expect_eq(image_load(f.store, "b/tiny:1", &loaded, &err), -ENOENT);
	cr_expect(strstr(err_msg(&err), "b/tiny:1"), "%s", err_msg(&err));
	fixture_close(&f);
}

Test(layers_image, import_replaces_and_takes_tars)
{
	struct fixture f;
	struct image first, second;
	struct err err = ERR_INIT;
	char path[128];
	fixture_open(&f, true);
	make_source(&f);
	cr_assert_eq(image_import(f.store, "x", source, &first, &err), 0, "%s", err_msg(&err));
	int tar = TAR({"etc/os", '0', .data = "other", .mode = 0644});
	char block[512 * 4];
	cr_assert_eq(read(tar, block, sizeof(block)), (ssize_t)sizeof(block));
	close(tar);
	int fd = openat(f.dirfd, "x.tar", O_WRONLY | O_CREAT, 0600);
	cr_assert_eq(fd_write_all(fd, block, sizeof(block)), 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/x.tar", f.dir);
	cr_assert_eq(image_import(f.store, "x", path, &second, &err), 0, "%s", err_msg(&err));
	cr_expect_arr_neq(first.layers[0], second.layers[0], 16);
	struct image now;
	cr_assert_eq(image_load(f.store, "x", &now, &err), 0, "%s", err_msg(&err));
	cr_expect_arr_eq(now.layers[0], second.layers[0], 16);
	image_clear(&first);
	image_clear(&second);
	image_clear(&now);
	cr_expect_eq(count_in(store_fd(f.store), "images"), 1);
	fixture_close(&f);
}

static void not_imported(struct fixture *f, const char *name, const char *from, int code, const char *word)
{
	struct err err = ERR_INIT;
	cr_expect_eq(image_import(f->store, name, from, NULL, &err), code, "%s", err_msg(&err));
	cr_expect(strstr(err_msg(&err), word), "%s", err_msg(&err));
	cr_expect_eq(count_in(store_fd(f->store), "images"), 0);
	cr_expect_eq(count_in(store_layers_fd(f->store), "."), 2);
}

static void write_tar(struct fixture *f, const char *name, int tar, char path[128])
{
	char block[512 * 16];
	ssize_t n = read(tar, block, sizeof(block));
	close(tar);
	int fd = openat(f->dirfd, name, O_WRONLY | O_CREAT, 0600);
	cr_assert_eq(fd_write_all(fd, block, (size_t)n), 0);
	close(fd);
	snprintf(path, 128, "%s/%s", f->dir, name);
}

Test(layers_image, refuses_what_it_cannot_import)
{
	struct fixture f;
	char path[128];
	fixture_open(&f, true);
	make_source(&f);
	not_imported(&f, "host", source, -EINVAL, "built in");
	not_imported(&f, "../x", source, -EINVAL, "no image name");
	not_imported(&f, "x", "/nonexistent/petri", -ENOENT, "/nonexistent/petri");
	cr_assert_eq(mkfifoat(f.dirfd, "fifo", 0600), 0);
	snprintf(path, sizeof(path), "%s/fifo", f.dir);
	not_imported(&f, "x", path, -EINVAL, "neither a directory nor a tar");
	write_tar(&f, "oci.tar", TAR({"oci-layout", '0', .data = "{}"}, {"index.json", '0', .data = "{}"}), path);
	not_imported(&f, "x", path, -EINVAL, "index.json: schemaVersion");
	write_tar(&f, "save.tar", TAR({"manifest.json", '0', .data = "[]"}, {"1/layer.tar", '0', .data = "x"}), path);
	not_imported(&f, "x", path, -ENOENT, "manifest.json: there is no image");
	cr_assert_eq(mkdirat(f.dirfd, "layout", 0755), 0);
	write_at(f.dirfd, "layout/oci-layout", "{}", 0644);
	snprintf(path, sizeof(path), "%s/layout", f.dir);
	not_imported(&f, "x", path, -ENOENT, "'index.json' is missing");
	fixture_close(&f);
}

Test(layers_image, reads_strictly)
{
	static const char good[] = "{\"name\": \"x\", \"host_usr\": false, \"layers\": "
				   "[\"xxh128:00000000000000000000000000000001\"], \"env\": [\"A=b\"], \"entrypoint\": null, "
				   "\"cmd\": [\"sh\"], \"cwd\": \"/\", \"user\": null, \"stamp\": null}";
	static const char *const bad[] = {"", "[]", "{\"name\": \"x\"}",
		"{\"name\": \"y\", \"host_usr\": false, \"layers\": [], \"env\": null, \"entrypoint\": null, \"cmd\": null, "
		"\"cwd\": null, \"user\": null, \"stamp\": null}",
		"{\"name\": \"x\", \"host_usr\": true, \"layers\": [], \"env\": null, \"entrypoint\": null, \"cmd\": null, "
		"\"cwd\": null, \"user\": null, \"stamp\": null}",
		"{\"name\": \"x\", \"host_usr\": false, \"layers\": [\"../..\"], \"env\": null, \"entrypoint\": null, \"cmd\": "
		"null, \"cwd\": null, \"user\": null, \"stamp\": null}",
		"{\"name\": \"x\", \"host_usr\": false, \"layers\": [], \"env\": [1], \"entrypoint\": null, \"cmd\": null, "
		"\"cwd\": null, \"user\": null, \"stamp\": null}",
		"{\"name\": \"x\", \"host_usr\": false, \"layers\": [], \"env\": null, \"entrypoint\": null, \"cmd\": null, "
		"\"cwd\": null, \"user\": null, \"stamp\": null, \"more\": 1}",
		"{\"name\": \"x\", \"name\": \"x\", \"host_usr\": false, \"layers\": [], \"env\": null, \"entrypoint\": null, "
		"\"cmd\": null, \"cwd\": null, \"user\": null, \"stamp\": null}"};
	struct fixture f;
	struct image image;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	write_at(store_fd(f.store), "images/x.json", good, 0444);
	cr_assert_eq(image_load(f.store, "x", &image, &err), 0, "%s", err_msg(&err));
	cr_expect_str_eq(image.cmd[0], "sh");
	cr_expect_str_eq(image.cwd, "/");
	cr_expect_eq(image.layers[0][15], 1);
	image_clear(&image);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_at(store_fd(f.store), "images/x.json", bad[i], 0444);
		cr_expect_eq(image_load(f.store, "x", &image, &err), -EINVAL, "%zu: %s", i, bad[i]);
	}
	fixture_close(&f);
}

Test(layers_image, host_shows_the_machine_and_no_secret)
{
	struct fixture f;
	struct image image;
	struct layer_info info;
	struct err err = ERR_INIT;
	char **names;
	fixture_open(&f, true);
	cr_expect_eq(image_load(f.store, "host", &image, &err), -ENOENT);
	cr_assert_eq(image_host_prepare(f.store, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(image_load(f.store, "host", &image, &err), 0, "%s", err_msg(&err));
	cr_expect(image.host_usr);
	cr_assert_eq(image.nlayers, 1);
	cr_assert_eq(layer_load(f.store, image.layers[0], &info, &err), 0);
	cr_assert_eq(image_list(f.store, &names, &err), 0);
	cr_expect_str_eq(names[0], "host");
	image_list_free(names);
	int d = layer_dir(&f, &info, "diff");
	char link[64];
	cr_expect_eq(readlinkat(d, "bin", link, sizeof(link)), 7);
	cr_expect_eq(stat_at(d, "root").st_mode & 07777, 0700);
	cr_expect_eq(stat_at(d, "tmp").st_mode & 07777, 01777);
	cr_expect_eq(stat_at(d, "work").st_uid, STORE_UID_BASE + STORE_JOB_UID);
	cr_expect_eq(count_in(d, "usr"), 0);
	cr_expect_eq(count_in(d, "proc"), 0);
	content_is(d, "etc/hostname", "petri\n");
	cr_expect_eq(stat_at(d, "etc/passwd").st_uid, STORE_UID_BASE);
	cr_expect_eq(stat_at(d, "etc/passwd").st_mtime, 0);
	cr_expect_neq(faccessat(d, "etc/shadow", F_OK, 0), 0);
	cr_expect_neq(faccessat(d, "etc/ssl/private", F_OK, 0), 0);
	if (access("/etc/ld.so.cache", F_OK) == 0)
		cr_expect_eq(stat_at(d, "etc/ld.so.cache").st_mode & 07777, 0644);
	close(d);
	image_clear(&image);
	cr_expect_eq(image_rm(f.store, "host", &err), -EINVAL);
	fixture_close(&f);
}

Test(layers_image, host_is_prepared_once)
{
	struct fixture f;
	struct image first, second;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	cr_assert_eq(image_host_prepare(f.store, &err), 0, "%s", err_msg(&err));
	struct stat before = stat_at(store_fd(f.store), "images/host.json");
	uint64_t start = now_us();
	for (int i = 0; i < 10; i++)
		cr_assert_eq(image_host_prepare(f.store, &err), 0);
	uint64_t each = (now_us() - start) / 10;
	cr_expect_lt(each, 5000, "%lu us when nothing changed", (unsigned long)each);
	cr_expect_eq(stat_at(store_fd(f.store), "images/host.json").st_ino, before.st_ino, "it was written again");
	/* Made from scratch, it is the same layer; and a layer that was removed is made again. */
	cr_assert_eq(image_load(f.store, "host", &first, NULL), 0);
	cr_assert_eq(unlinkat(store_fd(f.store), "images/host.json", 0), 0);
	cr_assert_eq(image_host_prepare(f.store, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(image_load(f.store, "host", &second, NULL), 0);
	cr_expect_arr_eq(first.layers[0], second.layers[0], 16);
	char hex[33];
	format_hex(first.layers[0], 16, hex);
	cr_assert_eq(tree_remove(store_layers_fd(f.store), hex, &err), 0);
	cr_assert_eq(image_host_prepare(f.store, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(faccessat(store_layers_fd(f.store), hex, F_OK, 0), 0);
	image_clear(&first);
	image_clear(&second);
	fixture_close(&f);
}

Test(layers_image, the_worker_loads_without_rights)
{
	struct fixture f;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	make_source(&f);
	cr_assert_eq(image_import(f.store, "x", source, NULL, &err), 0, "%s", err_msg(&err));
	pid_t pid = fork();
	if (pid == 0) {
		struct image image;
		struct layer_info info;
		char **names;
		if (setgid(STORE_WORKER_UID) || setuid(STORE_WORKER_UID))
			_exit(9);
		if (image_load(f.store, "x", &image, NULL) < 0 || image_list(f.store, &names, NULL) < 0)
			_exit(1);
		if (layer_load(f.store, image.layers[0], &info, NULL) < 0)
			_exit(2);
		if (unlinkat(store_layers_fd(f.store), "tmp", AT_REMOVEDIR) == 0 || image_rm(f.store, "x", NULL) == 0)
			_exit(3);
		_exit(0);
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	fixture_close(&f);
}
