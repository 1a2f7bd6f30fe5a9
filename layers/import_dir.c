/*
 * The operator's own directory as a layer. The walk runs with root's rights (its files may be 0600), in the caller, and
 * streams what it reads to the helper that writes; each name is opened beneath its directory's fd, never through a
 * link and never into another mount.
 */
#include "layers/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "layers/inotab.h"
#include "layers/tree.h"

#define WALK_BUFFER (256u << 10)

struct walk {
	struct stream *stream;
	int root;
	struct inotab inodes; /* values: index + 1 in links */
	char **links;	      /* the first name of each inode that has several */
	size_t nlinks, cap_links;
	char *buf;
	size_t path_len;
	char path[TREE_PATH_MAX + 1];
};

static int fault(const struct walk *w, int code, struct err *err)
{
	return err_set(err, code, "read '%.300s'", w->path_len ? w->path : ".");
}

static struct unpack_entry describe(const struct walk *w, enum unpack_type type, const struct stat *st)
{
	return (struct unpack_entry){
		.type = type,
		.path = w->path_len ? w->path : ".",
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime = st->st_mtim.tv_sec,
		.size = type == UNPACK_FILE ? st->st_size : 0,
	};
}

/* The first name of an inode with several. Return: 0 with the name, 1 when this is the first, or -ENOMEM. */
static int first_name(struct walk *w, const struct stat *st, const char **ret)
{
	uint64_t index;
	int r = inotab_put(&w->inodes, st->st_dev, st->st_ino, w->nlinks + 1, &index);
	if (r == 0)
		*ret = w->links[index - 1];
	if (r != 1)
		return r;
	if (w->nlinks == w->cap_links) {
		size_t cap = w->cap_links ? w->cap_links * 2 : 64;
		char **bigger = reallocarray(w->links, cap, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		w->links = bigger;
		w->cap_links = cap;
	}
	w->links[w->nlinks] = strdup(w->path);
	return w->links[w->nlinks++] ? 1 : -ENOMEM;
}

static int read_attrs(const struct walk *w, int fd, struct attrs *ret, struct err *err)
{
	int r = attrs_read(fd, ret);
	if (r == -E2BIG)
		return err_say(err, E2BIG, "'%.300s' has more than %u extended attributes or %u bytes of them", w->path, ATTRS_MAX,
			ATTRS_BYTES_MAX);
	return r < 0 ? fault(w, r, err) : 0;
}

/* The next stretch of data from `at` on. Return: its end, with fd there and *ret_start; or size when only a hole is left. */
static uint64_t next_data(int fd, uint64_t at, uint64_t size, uint64_t *ret_start)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);
	*ret_start = at;
	if (data < 0) {
		if (errno == ENXIO)
			*ret_start = size;
		else
			(void)lseek(fd, (off_t)at, SEEK_SET); /* a filesystem that cannot tell: all is data */
		return size;
	}
	off_t hole = lseek(fd, data, SEEK_HOLE);
	*ret_start = MIN((uint64_t)data, size);
	(void)lseek(fd, data, SEEK_SET);
	return hole < 0 ? size : MIN((uint64_t)hole, size);
}

static int walk_stretch(struct walk *w, int fd, uint64_t at, uint64_t end, struct err *err)
{
	for (uint64_t done = at; done < end;) {
		ssize_t n = read(fd, w->buf, (size_t)MIN(end - done, (uint64_t)WALK_BUFFER));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault(w, errno, err);
		if (n == 0)
			return err_say(err, EIO, "'%.300s' became shorter while it was read", w->path);
		int r = stream_data_at(w->stream, w->buf, (size_t)n, done, err);
		if (r < 0)
			return r;
		done += (uint64_t)n;
	}
	return 0;
}

/* @sparse: fewer blocks than bytes; asking where they are costs two calls. */
static int walk_content(struct walk *w, int fd, uint64_t size, bool sparse, struct err *err)
{
	int r = 0;
	for (uint64_t at = 0; at < size && r == 0;) {
		uint64_t start = 0, end = sparse ? next_data(fd, at, size, &start) : size;
		if (start < end)
			r = walk_stretch(w, fd, start, end, err);
		at = end;
	}
	return r < 0 ? r : stream_file_end(w->stream, err);
}

static int walk_file(struct walk *w, int dir, const char *name, struct err *err)
{
	/* O_NONBLOCK: should it have become a FIFO since the stat. */
	_cleanup_close_ int fd = tree_open_beneath(dir, name, O_NOFOLLOW | O_RDONLY | O_NONBLOCK);
	_cleanup_(attrs_clear) struct attrs attrs = {.count = 0};
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fault(w, fd < 0 ? fd : errno, err);
	if (!S_ISREG(st.st_mode))
		return err_say(err, EIO, "'%.300s' changed while it was read", w->path);
	struct unpack_entry entry = describe(w, UNPACK_FILE, &st);
	if (st.st_nlink > 1) {
		const char *first;
		int r = first_name(w, &st, &first);
		if (r < 0)
			return fault(w, r, err);
		if (r == 0) {
			entry.type = UNPACK_HARDLINK;
			entry.target = first;
			entry.size = 0;
			return stream_entry(w->stream, &entry, err);
		}
	}
	int r = read_attrs(w, fd, &attrs, err);
	entry.attrs = &attrs;
	if (r == 0)
		r = stream_entry(w->stream, &entry, err);
	return r < 0 ? r : walk_content(w, fd, (uint64_t)st.st_size, st.st_blocks * 512 < st.st_size, err);
}

static int walk_link(struct walk *w, int dir, const char *name, const struct stat *st, struct err *err)
{
	char target[TREE_LINK_MAX + 1];
	ssize_t n = readlinkat(dir, name, target, sizeof(target));
	if (n < 0 || (size_t)n == sizeof(target))
		return fault(w, n < 0 ? errno : ENAMETOOLONG, err);
	target[n] = '\0';
	struct unpack_entry entry = describe(w, UNPACK_SYMLINK, st);
	entry.target = target;
	return stream_entry(w->stream, &entry, err);
}

static int walk_dir(struct walk *w, int dir, unsigned depth, struct err *err);

static int walk_dir(struct walk *w, int fd, unsigned depth, struct err *err);

static int walk_subdir(struct walk *w, struct tree_place *dir, const char *name, const struct stat *st, unsigned depth,
	struct err *err)
{
	struct unpack_entry entry = describe(w, UNPACK_DIR, st);
	int fd = tree_open_beneath(dir->fd, name, O_NOFOLLOW | O_RDONLY | O_DIRECTORY);
	if (fd == -EXDEV) {
		log_debug("import: '%s' is a mount point, its content is left out", w->path);
		return stream_entry(w->stream, &entry, err);
	}
	if (fd < 0)
		return fault(w, fd, err);
	_cleanup_(attrs_clear) struct attrs attrs = {.count = 0};
	int r = read_attrs(w, fd, &attrs, err);
	entry.attrs = &attrs;
	if (r == 0)
		r = stream_entry(w->stream, &entry, err);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	tree_put_aside(dir, depth);
	return walk_dir(w, fd, depth + 1, err);
}

static int walk_entry(struct walk *w, struct tree_place *dir, const char *name, unsigned depth, struct err *err)
{
	struct stat st;
	if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fault(w, errno, err);
	if (S_ISDIR(st.st_mode))
		return walk_subdir(w, dir, name, &st, depth, err);
	if (S_ISREG(st.st_mode))
		return walk_file(w, dir->fd, name, err);
	if (S_ISLNK(st.st_mode))
		return walk_link(w, dir->fd, name, &st, err);
	return stream_skip(w->stream, err);
}

/* One name in the directory whose path has `base` bytes. */
static int walk_name(struct walk *w, struct tree_place *dir, size_t base, const char *name, unsigned depth, struct err *err)
{
	size_t len = strlen(name);
	w->path_len = base;
	w->path[base] = '\0';
	int r = tree_return(dir, w->root, w->path);
	if (r < 0)
		return fault(w, r, err);
	if (base + 1 + len > TREE_PATH_MAX)
		return fault(w, ENAMETOOLONG, err);
	if (base > 0)
		w->path[w->path_len++] = '/';
	memcpy(w->path + w->path_len, name, len + 1);
	w->path_len += len;
	return walk_entry(w, dir, name, depth, err);
}

/* @fd: taken over. */
static int walk_dir(struct walk *w, int fd, unsigned depth, struct err *err)
{
	struct tree_place place = {.fd = fd};
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	int r = 0;
	if (depth > TREE_DEPTH_MAX)
		r = err_say(err, ENAMETOOLONG, "'%.300s' is nested deeper than %u directories", w->path, TREE_DEPTH_MAX);
	else if ((r = tree_list(fd, IMPORT_MAX_ENTRIES, &names)) < 0)
		r = fault(w, r, err);
	size_t base = w->path_len;
	for (size_t i = 0; i < names.count && r == 0; i++)
		r = walk_name(w, &place, base, names.names[i], depth, err);
	w->path_len = base;
	w->path[base] = '\0';
	cleanup_close(&place.fd);
	return r;
}

int import_dir_walk(int dirfd, struct stream *stream, struct err *err)
{
	_cleanup_free_ struct walk *w = calloc(1, sizeof(*w));
	_cleanup_free_ char *buf = malloc(WALK_BUFFER);
	struct stat st;
	if (!w || !buf)
		return err_set(err, ENOMEM, "import a directory");
	w->stream = stream;
	w->buf = buf;
	if (fstat(dirfd, &st) < 0)
		return err_set(err, errno, "stat the directory");
	if (!S_ISDIR(st.st_mode))
		return err_say(err, ENOTDIR, "the source of the import is no directory");
	_cleanup_(attrs_clear) struct attrs attrs = {.count = 0};
	struct unpack_entry root = describe(w, UNPACK_DIR, &st);
	w->root = dirfd;
	int r = read_attrs(w, dirfd, &attrs, err);
	root.attrs = &attrs;
	if (r == 0)
		r = stream_entry(stream, &root, err);
	int top = r < 0 ? r : tree_open_dir(dirfd, ".");
	if (r == 0)
		r = top < 0 ? err_set(err, top, "open the directory") : walk_dir(w, top, 0, err);
	for (size_t i = 0; i < w->nlinks; i++)
		free(w->links[i]);
	free(w->links);
	inotab_clear(&w->inodes);
	return r;
}
