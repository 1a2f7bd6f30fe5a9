/*
 * The canonical serialisation, version 2; docs/store.md has the format. Runs in the helper that wrote the tree, when
 * nobody writes to it any more: names are listed and stated anew, contents come from the digests taken while writing.
 */
#include "layers/canonical.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "layers/attrs.h"
#include "layers/tree.h"
#include "layers/tree_file.h"

#define CANONICAL_BUFFER (256u << 10)

struct walk {
	const struct canonical_tree *tree;
	struct hash *hash;
	int out;
	struct canonical sum;
	struct inotab inodes;
	uint64_t linked, links; /* inodes with several names, and the names met of them */
	struct digest *digest;
	char *content; /* a buffer, only when files are read */
	size_t path_len;
	char path[TREE_PATH_MAX + 1];
	int failed; /* writing to out: -errno */
	size_t len;
	char buf[CANONICAL_BUFFER];
};

static void flush(struct walk *w)
{
	if (w->hash)
		hash_update(w->hash, w->buf, w->len);
	if (w->out >= 0 && w->failed == 0)
		w->failed = fd_write_all(w->out, w->buf, w->len);
	w->len = 0;
}

static void put(struct walk *w, const void *data, size_t len)
{
	for (const char *p = data; len > 0;) {
		if (w->len == sizeof(w->buf))
			flush(w);
		size_t n = MIN(len, sizeof(w->buf) - w->len);
		memcpy(w->buf + w->len, p, n);
		w->len += n;
		p += n;
		len -= n;
	}
}

static void put_u32(struct walk *w, uint32_t v)
{
	v = htobe32(v);
	put(w, &v, sizeof(v));
}

static void put_u64(struct walk *w, uint64_t v)
{
	v = htobe64(v);
	put(w, &v, sizeof(v));
}

static void put_head(struct walk *w, char type, uint32_t mode, const struct stat *st)
{
	put(w, &type, 1);
	put_u32(w, mode & 07777);
	put_u32(w, type == TREE_FILE_WHITEOUT ? 0 : st->st_uid);
	put_u32(w, type == TREE_FILE_WHITEOUT ? 0 : st->st_gid);
	put_u32(w, (uint32_t)w->path_len);
	put(w, w->path, w->path_len);
}

static int bad(const struct walk *w, int code, struct err *err, const char *what)
{
	return err_say(err, code, "entry '%.300s': %s", w->path, what);
}

/* The attributes of an open file or directory. */
static int put_attrs(struct walk *w, int fd, struct err *err)
{
	_cleanup_(attrs_clear) struct attrs attrs = {.count = 0};
	int r = attrs_read(fd, &attrs);
	if (r < 0)
		return err_set(err, r, "entry '%.300s': its extended attributes", w->path);
	put_u32(w, (uint32_t)attrs.count);
	for (size_t i = 0; i < attrs.count; i++) {
		const struct attr *a = &attrs.items[i];
		put_u32(w, (uint32_t)strlen(a->name));
		put(w, a->name, strlen(a->name));
		put_u32(w, (uint32_t)a->len);
		put(w, a->value, a->len);
	}
	return 0;
}

static int hash_content(struct walk *w, int fd, uint64_t size, uint8_t ret[32], struct err *err)
{
	uint64_t done = 0;
	if (!w->content && !(w->content = malloc(CANONICAL_BUFFER)))
		return err_set(err, ENOMEM, "hash the tree");
	for (ssize_t n = CANONICAL_BUFFER; n == CANONICAL_BUFFER && done <= size; done += (uint64_t)n) {
		n = fd_read_all(fd, w->content, CANONICAL_BUFFER);
		if (n < 0)
			return err_set(err, (int)n, "entry '%.300s'", w->path);
		digest_update(w->digest, w->content, (size_t)n);
	}
	int r = digest_final(w->digest, ret, err);
	return r < 0 || done == size ? r : bad(w, EIO, err, "it changed while it was read");
}

/* Attributes and digest of a file that was written just now, or that must be read. */
static int put_file(struct walk *w, int dir, const char *name, const struct stat *st, struct err *err)
{
	const struct file_digest *known = w->tree->digests ? digests_find(w->tree->digests, st->st_ino) : NULL;
	_cleanup_close_ int fd = -1;
	uint8_t sha256[32];
	int r = 0;
	if (w->tree->digests && !known)
		return bad(w, EIO, err, "nobody knows how it came here");
	if (!known || known->attrs) {
		fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			return err_set(err, errno, "entry '%.300s'", w->path);
		r = put_attrs(w, fd, err);
	} else {
		put_u32(w, 0);
	}
	if (r == 0 && !known && w->tree->sums_only)
		memset(sha256, 0, sizeof(sha256));
	else if (r == 0 && !known)
		r = hash_content(w, fd, (uint64_t)st->st_size, sha256, err);
	if (r < 0)
		return r;
	put_u64(w, (uint64_t)st->st_size);
	put(w, known ? known->sha256 : sha256, sizeof(sha256));
	return 0;
}

static int walk_file(struct walk *w, int dir, const char *name, const struct stat *st, struct err *err)
{
	int first = 1;
	if (st->st_nlink > 1) {
		uint64_t seen;
		first = inotab_put(&w->inodes, st->st_dev, st->st_ino, 1, &seen);
		if (first < 0)
			return err_set(err, first, "entry '%.300s'", w->path);
		w->links++;
		w->linked += first == 1 ? st->st_nlink : 0;
	}
	if (st->st_size < 0 || (first == 1 && __builtin_add_overflow(w->sum.bytes, (uint64_t)st->st_size, &w->sum.bytes)) ||
		w->sum.bytes > w->tree->max_bytes)
		return bad(w, EFBIG, err, "it all takes too many bytes");
	put_head(w, TREE_FILE_REG, st->st_mode & ~(mode_t)(S_ISUID | S_ISGID), st);
	return put_file(w, dir, name, st, err);
}

static int walk_link(struct walk *w, int dir, const char *name, const struct stat *st, struct err *err)
{
	char target[TREE_LINK_MAX + 1];
	ssize_t n = readlinkat(dir, name, target, sizeof(target));
	if (n < 0)
		return err_set(err, errno, "entry '%.300s'", w->path);
	put_head(w, TREE_FILE_LINK, 0, st);
	put_u32(w, 0);
	put_u32(w, (uint32_t)n);
	put(w, target, (size_t)n);
	return 0;
}

static int walk_dir(struct walk *w, int fd, const struct stat *st, unsigned depth, struct err *err);

static int walk_entry(struct walk *w, struct tree_place *dir, const char *name, unsigned depth, struct err *err)
{
	struct stat st;
	if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, errno, "entry '%.300s'", w->path);
	if (w->tree->foreign && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
		return 0;
	if (!S_ISDIR(st.st_mode) && ++w->sum.entries > w->tree->max_entries)
		return bad(w, EFBIG, err, "too many entries");
	if (!w->tree->foreign && !S_ISLNK(st.st_mode) && (st.st_mode & (S_ISUID | S_ISGID)))
		return bad(w, EPERM, err, "it is setuid or setgid");
	if (S_ISREG(st.st_mode))
		return walk_file(w, dir->fd, name, &st, err);
	if (S_ISLNK(st.st_mode))
		return walk_link(w, dir->fd, name, &st, err);
	if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0) && w->tree->whiteouts) {
		put_head(w, TREE_FILE_WHITEOUT, 0, &st);
		put_u32(w, 0);
		return 0;
	}
	if (!S_ISDIR(st.st_mode))
		return bad(w, EPERM, err, "neither file, directory nor link");
	int fd = w->tree->foreign ? tree_open_beneath(dir->fd, name, O_NOFOLLOW | O_RDONLY | O_DIRECTORY) : tree_open_dir(dir->fd, name);
	if (fd < 0) /* another mount among them: an import makes an empty directory of it, and this is no shorter way */
		return err_set(err, fd, "entry '%.300s'", w->path);
	tree_put_aside(dir, depth);
	return walk_dir(w, fd, &st, depth + 1, err);
}

/* @fd: taken over. */
static int walk_dir(struct walk *w, int fd, const struct stat *st, unsigned depth, struct err *err)
{
	struct tree_place place = {.fd = fd};
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	int r = 0;
	if (++w->sum.entries > w->tree->max_entries)
		r = bad(w, EFBIG, err, "too many entries");
	else if (depth > TREE_DEPTH_MAX)
		r = bad(w, EFBIG, err, "nested too deep");
	bool opaque = w->tree->opaque && inotab_get(w->tree->opaque, st->st_dev, st->st_ino) != 0;
	if (r == 0) {
		put_head(w, opaque ? TREE_FILE_OPAQUE : TREE_FILE_DIR, st->st_mode & ~(mode_t)(S_ISUID | S_ISGID), st);
		r = put_attrs(w, fd, err);
	}
	if (r == 0 && (r = tree_list(fd, (size_t)(w->tree->max_entries - w->sum.entries), &names)) < 0)
		r = err_set(err, r, "list '%.300s'", w->path);
	size_t base = w->path_len;
	for (size_t i = 0; i < names.count && r == 0; i++) {
		size_t len = strlen(names.names[i]);
		w->path[base] = '\0';
		r = tree_return(&place, w->tree->root, w->path);
		if (r < 0) {
			r = err_set(err, r, "list '%.300s'", w->path);
			break;
		}
		if (base + 1 + len > TREE_PATH_MAX) {
			r = bad(w, ENAMETOOLONG, err, "the paths in it are too long");
			break;
		}
		w->path_len = base;
		if (base > 0)
			w->path[w->path_len++] = '/';
		memcpy(w->path + w->path_len, names.names[i], len + 1);
		w->path_len += len;
		r = walk_entry(w, &place, names.names[i], depth, err);
	}
	w->path_len = base;
	w->path[base] = '\0';
	cleanup_close(&place.fd);
	return r;
}

static int walk_tree(struct walk *w, struct err *err)
{
	struct stat st;
	int root = tree_open_dir(w->tree->root, ".");
	if (root < 0)
		return err_set(err, root, "open the tree");
	if (fstat(root, &st) < 0) {
		int r = err_set(err, errno, "stat the tree");
		(void)close(root);
		return r;
	}
	put(w, TREE_FILE_MAGIC, strlen(TREE_FILE_MAGIC));
	int r = walk_dir(w, root, &st, 0, err);
	flush(w);
	if (r == 0 && w->failed < 0)
		r = err_set(err, w->failed, "write the description of the tree");
	/* Every name of an inode was met, or one of them lies elsewhere and could change this one's content. */
	if (r == 0 && !w->tree->foreign && w->linked != w->links)
		r = err_say(err, EPERM, "a file of the tree has a hard link outside of it");
	return r;
}

int canonical_write(const struct canonical_tree *tree, int out, struct hash *hash, struct canonical *ret, struct err *err)
{
	struct walk *w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, ENOMEM, "hash the tree");
	w->tree = tree;
	w->hash = hash;
	w->out = out;
	int r = digest_new(&w->digest, err);
	if (r == 0)
		r = walk_tree(w, err);
	if (r == 0)
		*ret = w->sum;
	inotab_clear(&w->inodes);
	digest_free(w->digest);
	free(w->content);
	free(w);
	return r;
}
