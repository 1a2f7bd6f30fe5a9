/*
 * A small commit's pack beside the description of its layer: what would be written into a sandbox must be what would be
 * mounted. Both have the same order. In verify's child; the pack is read as defensively as by whoever unpacks it.
 */
#include "layers/verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/pack.h"
#include "layers/tree_file.h"

static void file_cleanup(struct tree_file **t)
{
	tree_file_free(*t);
}

/* Hash the next `size` bytes of fd. Return: 1 when they have the digest, 0 when not or when there are fewer, or -errno. */
static int same_bytes(int fd, uint64_t size, const uint8_t sha256[32], struct err *err)
{
	_cleanup_(hash_cleanup) struct hash *hash = NULL;
	_cleanup_free_ char *buf = malloc(1u << 16);
	uint8_t id[16], sha[32];
	int r = buf ? hash_new(&hash, err) : err_set(err, ENOMEM, "verify a pack");
	while (r == 0 && size > 0) {
		ssize_t n = fd_read_all(fd, buf, (size_t)MIN(size, (uint64_t)(1u << 16)));
		if (n <= 0)
			return n < 0 ? err_set(err, (int)n, "read the pack") : 0;
		hash_update(hash, buf, (size_t)n);
		size -= (uint64_t)n;
	}
	if (r == 0)
		r = hash_final(hash, id, sha, err);
	return r < 0 ? r : memcmp(sha, sha256, sizeof(sha)) == 0;
}

/* Return: 1 when the pack's next entry is this one, 0 when not, or -errno. */
static int same_entry(int fd, const struct tree_file_entry *e, struct err *err)
{
	struct pack_entry got;
	char path[PACK_PATH_MAX + 1];
	ssize_t n = fd_read_all(fd, &got, sizeof(got));
	if (n != sizeof(got))
		return n < 0 ? err_set(err, (int)n, "read the pack") : 0;
	bool dir = e->type == TREE_FILE_DIR;
	if (got.type != (dir ? PACK_DIR : PACK_FILE) || got.source != PACK_INLINE || got.mode != (e->mode & 0777) ||
		got.path_len != e->path_len + 1 || got.path_len > PACK_PATH_MAX || (!dir && got.size != e->size))
		return 0;
	n = fd_read_all(fd, path, got.path_len);
	if (n != got.path_len)
		return n < 0 ? err_set(err, (int)n, "read the pack") : 0;
	if (path[0] != '/' || memcmp(path + 1, e->path, e->path_len) != 0)
		return 0;
	return dir ? 1 : same_bytes(fd, e->size, e->sha256, err);
}

/* The root and /work are there in every sandbox, and in no pack. */
static bool in_pack(const struct tree_file_entry *e)
{
	return e->path_len > 0 && strcmp(e->path, "work") != 0;
}

int verify_pack(struct verify_child *child, struct err *err)
{
	_cleanup_(file_cleanup) struct tree_file *file = NULL;
	struct tree_file_entry e;
	struct pack_entry end;
	char magic[PACK_MAGIC_LEN], shown[440];
	if (lseek(child->tree, 0, SEEK_SET) < 0)
		return err_set(err, errno, "read the description of a tree");
	int r = tree_file_open(child->tree, NULL, &file, err);
	if (r < 0)
		return r;
	ssize_t n = fd_read_all(child->pack, magic, sizeof(magic));
	if (n != sizeof(magic) || memcmp(magic, PACK_MAGIC, sizeof(magic)) != 0)
		return n < 0 ? err_set(err, (int)n, "read the pack") : verify_differs(child, "the pack is damaged");
	while ((r = tree_file_next(file, &e, err)) > 0) {
		int same = in_pack(&e) ? same_entry(child->pack, &e, err) : 1;
		if (same < 0)
			return same;
		if (!same)
			return verify_differs(child, "the pack differs: %s", tree_file_show(e.path, e.path_len, shown, sizeof(shown)));
	}
	if (r < 0)
		return r;
	n = fd_read_all(child->pack, &end, sizeof(end));
	if (n != sizeof(end) || end.type != PACK_END || fd_read_all(child->pack, magic, 1) != 0)
		return verify_differs(child, "the pack differs: it goes on after the last entry");
	return 0;
}
