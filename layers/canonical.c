/*
 * The canonical serialisation. Runs in a helper that has seen no archive, over a tree that nobody writes to any more.
 *
 *   "petri-layer-1\n", then depth first, the names of a directory sorted by bytes, for each entry (big-endian):
 *     type u8 ('d' 'f' 'l' 'h'), mode u32, uid u32, gid u32, mtime i64, length of the path u32, the path ("" is the root),
 *     'f': size u64 and the content    'l': length u32 and the target    'h': the number, u64, of the entry
 *     (counted from 1) that first showed the same inode; its other fields are 0
 */
#include "layers/canonical.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "layers/inotab.h"
#include "layers/tree.h"

#define CANONICAL_MAGIC "petri-layer-1\n"
#define CANONICAL_BUFFER (256u << 10)

struct walk {
	struct hash *hash;
	uint64_t max_bytes, max_entries;
	struct canonical sum;
	struct inotab inodes;
	uint64_t linked, links; /* inodes with several names, and the names met of them */
	char *buf;
	size_t path_len;
	char path[TREE_PATH_MAX + 1];
};

static void put_u32(struct walk *w, uint32_t v)
{
	v = htobe32(v);
	hash_update(w->hash, &v, sizeof(v));
}

static void put_u64(struct walk *w, uint64_t v)
{
	v = htobe64(v);
	hash_update(w->hash, &v, sizeof(v));
}

static void put_head(struct walk *w, char type, const struct stat *st)
{
	struct __attribute__((packed)) {
		char type;
		uint32_t mode, uid, gid;
		uint64_t mtime;
		uint32_t path_len;
	} head = {.type = type, .path_len = htobe32((uint32_t)w->path_len)};
	if (st) {
		head.mode = htobe32(st->st_mode & 07777);
		head.uid = htobe32(st->st_uid);
		head.gid = htobe32(st->st_gid);
		head.mtime = htobe64((uint64_t)st->st_mtim.tv_sec);
	}
	hash_update(w->hash, &head, sizeof(head));
	hash_update(w->hash, w->path, w->path_len);
}

static int bad(const struct walk *w, int code, struct err *err, const char *what)
{
	return err_say(err, code, "entry '%.300s': %s", w->path, what);
}

static int walk_content(struct walk *w, int dir, const char *name, const struct stat *st, struct err *err)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "entry '%.300s'", w->path);
	uint64_t size = (uint64_t)st->st_size, done = 0;
	for (;;) {
		ssize_t n = fd_read_all(fd, w->buf, CANONICAL_BUFFER);
		if (n < 0)
			return err_set(err, (int)n, "entry '%.300s'", w->path);
		done += (uint64_t)n;
		if (done > size)
			break;
		hash_update(w->hash, w->buf, (size_t)n);
		if ((size_t)n < CANONICAL_BUFFER)
			break;
	}
	return done == size ? 0 : bad(w, EIO, err, "it changed while it was read");
}

static int walk_file(struct walk *w, int dir, const char *name, const struct stat *st, struct err *err)
{
	if (st->st_nlink > 1) {
		uint64_t first;
		int r = inotab_put(&w->inodes, st->st_dev, st->st_ino, w->sum.entries, &first);
		if (r < 0)
			return err_set(err, r, "entry '%.300s'", w->path);
		w->links++;
		if (r == 0) {
			put_head(w, 'h', NULL);
			put_u64(w, first);
			return 0;
		}
		w->linked += st->st_nlink;
	}
	if (st->st_size < 0 || __builtin_add_overflow(w->sum.bytes, (uint64_t)st->st_size, &w->sum.bytes) ||
		w->sum.bytes > w->max_bytes)
		return bad(w, EFBIG, err, "it all takes too many bytes");
	put_head(w, 'f', st);
	put_u64(w, (uint64_t)st->st_size);
	return walk_content(w, dir, name, st, err);
}

static int walk_link(struct walk *w, int dir, const char *name, const struct stat *st, struct err *err)
{
	char target[TREE_PATH_MAX + 1];
	ssize_t n = readlinkat(dir, name, target, sizeof(target));
	if (n < 0)
		return err_set(err, errno, "entry '%.300s'", w->path);
	put_head(w, 'l', st);
	put_u32(w, (uint32_t)n);
	hash_update(w->hash, target, (size_t)n);
	return 0;
}

static int walk_dir(struct walk *w, int fd, const struct stat *st, unsigned depth, struct err *err);

static int walk_entry(struct walk *w, int dir, const char *name, unsigned depth, struct err *err)
{
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, errno, "entry '%.300s'", w->path);
	if (!S_ISDIR(st.st_mode) && ++w->sum.entries > w->max_entries)
		return bad(w, EFBIG, err, "too many entries");
	if (!S_ISLNK(st.st_mode) && (st.st_mode & (S_ISUID | S_ISGID)))
		return bad(w, EPERM, err, "it is setuid or setgid");
	if (S_ISREG(st.st_mode))
		return walk_file(w, dir, name, &st, err);
	if (S_ISLNK(st.st_mode))
		return walk_link(w, dir, name, &st, err);
	if (!S_ISDIR(st.st_mode))
		return bad(w, EPERM, err, "neither file, directory nor link");
	_cleanup_close_ int fd = tree_open_dir(dir, name);
	if (fd < 0)
		return err_set(err, fd, "entry '%.300s'", w->path);
	return walk_dir(w, fd, &st, depth + 1, err);
}

static int walk_dir(struct walk *w, int fd, const struct stat *st, unsigned depth, struct err *err)
{
	if (++w->sum.entries > w->max_entries)
		return bad(w, EFBIG, err, "too many entries");
	if (depth > TREE_DEPTH_MAX)
		return bad(w, EFBIG, err, "nested too deep");
	put_head(w, 'd', st);
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	int r = tree_list(fd, (size_t)(w->max_entries - w->sum.entries), &names);
	if (r < 0)
		return err_set(err, r, "list '%.300s'", w->path);
	size_t base = w->path_len;
	for (size_t i = 0; i < names.count && r == 0; i++) {
		size_t len = strlen(names.names[i]);
		if (base + 1 + len > TREE_PATH_MAX)
			return bad(w, ENAMETOOLONG, err, "the paths in it are too long");
		w->path_len = base;
		if (base > 0)
			w->path[w->path_len++] = '/';
		memcpy(w->path + w->path_len, names.names[i], len + 1);
		w->path_len += len;
		r = walk_entry(w, fd, names.names[i], depth, err);
	}
	w->path_len = base;
	w->path[base] = '\0';
	return r;
}

int canonical_hash(int root, uint64_t max_bytes, uint64_t max_entries, struct hash *hash, struct canonical *ret,
	struct err *err)
{
	_cleanup_free_ struct walk *w = calloc(1, sizeof(*w));
	_cleanup_free_ char *buf = malloc(CANONICAL_BUFFER);
	struct stat st;
	if (!w || !buf)
		return err_set(err, ENOMEM, "hash the tree");
	w->hash = hash;
	w->max_bytes = max_bytes;
	w->max_entries = max_entries;
	w->buf = buf;
	hash_update(hash, CANONICAL_MAGIC, strlen(CANONICAL_MAGIC));
	int r = fstat(root, &st) < 0 ? err_set(err, errno, "stat the tree") : walk_dir(w, root, &st, 0, err);
	/* Every name of an inode was met, or one of them lies elsewhere and could change this one's content. */
	if (r == 0 && w->linked != w->links)
		r = err_say(err, EPERM, "a file of the tree has a hard link outside of it");
	inotab_clear(&w->inodes);
	if (r == 0)
		*ret = w->sum;
	return r;
}
