/*
 * The built-in image `host`: one small layer that makes the machine's own /usr, shown at /usr, a usable system: the
 * links /bin -> usr/bin and the like, mount points, a generated /etc, and copies of what of the machine's /etc programs in
 * /usr need to start: linker cache, alternatives, time zone, Java's and Python's settings. Only what anybody on the
 * machine may read is copied, and nothing that names its users, its network or its secrets.
 *
 * Runs as root in `petri run`, `petri worker` and the like at each start, so it looks first whether anything changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "layers/image_internal.h"
#include "layers/import.h"
#include "layers/store_internal.h"
#include "layers/tree.h"

#define HOST_LAYOUT 1 /* raised whenever what is generated changes */
#define HOST_FILE_MAX (16 << 20)
#define HOST_DEPTH_MAX 8

/* ---- what is generated ---- */

static const struct {
	const char *path;
	unsigned mode;
	unsigned owner;
} directories[] = {
	{".", 0755, 0},
	{"dev", 0755, 0},
	{"etc", 0755, 0},
	{"home", 0755, 0},
	{"proc", 0555, 0},
	{"root", 0700, 0},
	{"run", 0755, 0},
	{"tmp", 01777, 0},
	{"usr", 0755, 0},
	{"var", 0755, 0},
	{"var/tmp", 01777, 0},
	{"work", 0755, STORE_JOB_UID},
	{"etc/alternatives", 0755, 0},
	{"etc/ld.so.conf.d", 0755, 0},
};

static const struct {
	const char *path, *text;
} files[] = {
	{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
		       "job:x:1000:1000:job:/work:/bin/sh\n"
		       "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
	{"etc/group", "root:x:0:\njob:x:1000:\nnogroup:x:65534:\n"},
	{"etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"},
	{"etc/hostname", "petri\n"},
	{"etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"},
	{"etc/resolv.conf", ""},
	{"etc/profile", "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"},
};

static const char *const top_links[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};
static const char *const copied_files[] = {"ld.so.cache", "ld.so.conf", "localtime"};
static const char *const copied_dirs[] = {"ld.so.conf.d", "perl"};

static int put_dir(struct stream *s, const char *path, unsigned mode, unsigned owner, int64_t mtime, struct err *err)
{
	const struct unpack_entry entry = {
		.type = UNPACK_DIR, .path = path, .mode = mode, .uid = owner, .gid = owner, .mtime = mtime};
	return stream_entry(s, &entry, err);
}

static int put_link(struct stream *s, const char *path, const char *target, struct err *err)
{
	const struct unpack_entry entry = {.type = UNPACK_SYMLINK, .path = path, .target = target, .mode = 0777};
	return stream_entry(s, &entry, err);
}

static int put_file(struct stream *s, const char *path, const void *data, size_t len, unsigned mode, int64_t mtime,
	struct err *err)
{
	const struct unpack_entry entry = {
		.type = UNPACK_FILE, .path = path, .mode = mode, .mtime = mtime, .size = (int64_t)len};
	int r = stream_entry(s, &entry, err);
	return r < 0 ? r : stream_data(s, data, len, err);
}

static int put_generated(struct stream *s, struct err *err)
{
	int r = 0;
	for (size_t i = 0; i < ARRAY_SIZE(directories) && r == 0; i++)
		r = put_dir(s, directories[i].path, directories[i].mode, directories[i].owner, 0, err);
	for (size_t i = 0; i < ARRAY_SIZE(files) && r == 0; i++)
		r = put_file(s, files[i].path, files[i].text, strlen(files[i].text), 0644, 0, err);
	return r;
}

/* ---- what is copied ---- */

/* Read a link. Return: 0, -EINVAL when it is none, or -errno. */
static int read_link(int dir, const char *name, char ret[TREE_LINK_MAX + 1])
{
	ssize_t n = readlinkat(dir, name, ret, TREE_LINK_MAX + 1);
	if (n < 0)
		return -errno;
	if (n > (ssize_t)TREE_LINK_MAX)
		return -ENAMETOOLONG;
	ret[n] = '\0';
	return 0;
}

static int copy_top_links(int root, struct stream *s, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(top_links); i++) {
		char target[TREE_LINK_MAX + 1];
		int r = read_link(root, top_links[i], target);
		if (r == -ENOENT)
			continue;
		if (r == -EINVAL ||
			(r == 0 && strncmp(target, "usr/", 4) != 0 && strncmp(target, "/usr/", 5) != 0))
			return err_say(err, EOPNOTSUPP,
				"this machine's /%s does not lead into /usr (a merged /usr is needed for the image " IMAGE_HOST
				"); import an image instead",
				top_links[i]);
		r = r < 0 ? err_set(err, r, "read the link /%s", top_links[i]) : put_link(s, top_links[i], target, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A file that anybody may read, as root's own in the layer. Others are left out. */
static int copy_file(int dir, const char *name, const char *path, struct stream *s, struct err *err)
{
	/* It may be a mount of its own, as /etc/localtime is in many containers. */
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? 0 : err_set(err, errno, "read /%s", path);
	if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH) || st.st_size > HOST_FILE_MAX) {
		log_debug("host image: /%s is left out", path);
		return 0;
	}
	_cleanup_free_ char *data = malloc((size_t)st.st_size + 1);
	if (!data)
		return err_set(err, ENOMEM, "read /%s", path);
	ssize_t n = 0, got;
	for (; (got = read(fd, data + n, (size_t)(st.st_size - n))) > 0; n += got)
		;
	if (got < 0)
		return err_set(err, errno, "read /%s", path);
	return put_file(s, path, data, (size_t)n, st.st_mode & 0755, st.st_mtim.tv_sec, err);
}

/* Whatever lies at name: a file, a link (as it is), or a directory with all in it. */
static int copy_any(int dir, const char *name, const char *path, unsigned depth, struct stream *s, struct err *err);

static int copy_dir(int parent, const char *name, const char *path, unsigned depth, struct stream *s, struct err *err)
{
	_cleanup_close_ int fd = tree_open_dir(parent, name);
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, fd < 0 ? fd : errno, "read /%s", path);
	if ((st.st_mode & (S_IROTH | S_IXOTH)) != (S_IROTH | S_IXOTH) || depth > HOST_DEPTH_MAX)
		return 0;
	int r = tree_list(fd, 100000, &names);
	if (r < 0)
		return err_set(err, r, "list /%s", path);
	/* Its time would only say when something was installed. */
	r = put_dir(s, path, 0755, 0, 0, err);
	for (size_t i = 0; i < names.count && r == 0; i++) {
		char sub[TREE_LINK_MAX + 1];
		if (snprintf(sub, sizeof(sub), "%s/%s", path, names.names[i]) < (int)sizeof(sub))
			r = copy_any(fd, names.names[i], sub, depth + 1, s, err);
	}
	return r;
}

static int copy_any(int dir, const char *name, const char *path, unsigned depth, struct stream *s, struct err *err)
{
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_set(err, errno, "read /%s", path);
	if (S_ISDIR(st.st_mode))
		return copy_dir(dir, name, path, depth, s, err);
	if (S_ISREG(st.st_mode))
		return copy_file(dir, name, path, s, err);
	if (!S_ISLNK(st.st_mode))
		return 0;
	char target[TREE_LINK_MAX + 1];
	int r = read_link(dir, name, target);
	return r < 0 ? err_set(err, r, "read the link /%s", path) : put_link(s, path, target, err);
}

/* Links only; those of manual pages, which are most, are of no use in a sandbox. */
static int copy_alternatives(int etc, struct stream *s, struct err *err)
{
	_cleanup_close_ int fd = tree_open_dir(etc, "alternatives");
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	if (fd == -ENOENT)
		return 0;
	int r = fd < 0 ? fd : tree_list(fd, 100000, &names);
	if (r < 0)
		return err_set(err, r, "list /etc/alternatives");
	for (size_t i = 0; i < names.count; i++) {
		char target[TREE_LINK_MAX + 1], path[300];
		if (read_link(fd, names.names[i], target) < 0 || strstr(target, "/man/"))
			continue;
		(void)snprintf(path, sizeof(path), "etc/alternatives/%s", names.names[i]);
		r = put_link(s, path, target, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_language_dir(const char *name)
{
	return strncmp(name, "python3", 7) == 0 || (strncmp(name, "java-", 5) == 0 && strstr(name, "-openjdk"));
}

static int copy_etc(int etc, struct stream *s, struct err *err)
{
	char path[300];
	int r = 0;
	for (size_t i = 0; i < ARRAY_SIZE(copied_files) && r == 0; i++) {
		(void)snprintf(path, sizeof(path), "etc/%s", copied_files[i]);
		r = copy_any(etc, copied_files[i], path, 0, s, err);
	}
	for (size_t i = 0; i < ARRAY_SIZE(copied_dirs) && r == 0; i++) {
		(void)snprintf(path, sizeof(path), "etc/%s", copied_dirs[i]);
		r = copy_any(etc, copied_dirs[i], path, 0, s, err);
	}
	if (r == 0)
		r = copy_alternatives(etc, s, err);
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	if (r == 0 && (r = tree_list(etc, 100000, &names)) < 0)
		return err_set(err, r, "list /etc");
	for (size_t i = 0; i < names.count && r == 0; i++) {
		if (!is_language_dir(names.names[i]))
			continue;
		(void)snprintf(path, sizeof(path), "etc/%s", names.names[i]);
		r = copy_any(etc, names.names[i], path, 0, s, err);
	}
	return r;
}

static int walk_host(void *ctx, struct stream *s, struct err *err)
{
	int root = *(const int *)ctx;
	_cleanup_close_ int etc = tree_open_dir(root, "etc");
	if (etc < 0)
		return err_set(err, etc, "open /etc");
	int r = put_generated(s, err);
	if (r == 0)
		r = copy_top_links(root, s, err);
	return r < 0 ? r : copy_etc(etc, s, err);
}

/* ---- whether anything changed ---- */

/* What tells that the layer would come out differently: whatever package managers touch when they install something
 * of interest here. */
static void make_stamp(int root, char ret[IMAGE_STAMP_MAX])
{
	static const char *const watched[] = {"etc/ld.so.cache", "etc/ld.so.conf.d", "etc/alternatives", "etc/localtime",
		"bin", "lib", "lib64"};
	int len = snprintf(ret, IMAGE_STAMP_MAX, "%d", HOST_LAYOUT);
	for (size_t i = 0; i < ARRAY_SIZE(watched); i++) {
		struct stat st;
		if (fstatat(root, watched[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			memset(&st, 0, sizeof(st));
		len += snprintf(ret + len, IMAGE_STAMP_MAX - (size_t)len, " %llx:%llx.%lx",
			(unsigned long long)st.st_size, (unsigned long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	}
}

static bool unchanged(struct store *store, const char *stamp)
{
	_cleanup_(image_clear) struct image image = {.nlayers = 0};
	char recorded[IMAGE_STAMP_MAX];
	struct layer_info info;
	return image_load_stamp(store, IMAGE_HOST, &image, recorded, NULL) == 0 && strcmp(recorded, stamp) == 0 &&
		image.nlayers == 1 && layer_load(store, image.layers[0], &info, NULL) == 0;
}

int image_host_prepare(struct store *store, struct err *err)
{
	char stamp[IMAGE_STAMP_MAX];
	struct layer_info layer;
	_cleanup_close_ int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_set(err, errno, "open /");
	make_stamp(root, stamp);
	if (unchanged(store, stamp))
		return 0;
	const struct import_source source = {.walk = walk_host, .ctx = &root};
	int r = import_run(store, &source, &layer, err);
	if (r < 0)
		return err_wrap(err, "make the image " IMAGE_HOST);
	static char path[] = IMAGE_DEFAULT_PATH;
	char *env[] = {path, NULL};
	struct image image = {.name = IMAGE_HOST, .host_usr = true, .nlayers = 1, .env = env};
	memcpy(image.layers[0], layer.id, sizeof(layer.id));
	/* The one thing of this image that is the operator's. */
	_cleanup_(image_clear) struct image before = {.nlayers = 0};
	char old_stamp[IMAGE_STAMP_MAX];
	if (image_load_stamp(store, IMAGE_HOST, &before, old_stamp, NULL) == 0)
		image.runtime = before.runtime;
	r = image_save(store, &image, stamp, err);
	layer_info_release(&layer);
	return r;
}
