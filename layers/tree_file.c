/*
 * The reader of canonical descriptions; see the header. Runs as root (after an import, in verify's child) on bytes that a
 * helper wrote. Memory is bounded by the constants of the header, whatever the lengths in the file claim; one damaged
 * field ends it with -EUCLEAN and the number and path of the entry.
 */
#include "layers/tree_file.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define BUFFER (64u << 10)

struct tree_file {
	int fd;
	struct hash *hash;
	uint64_t entries;
	enum tree_file_type last_type;
	size_t path_len;
	char *path, *next; /* of the last entry, and of the one that is being read; swapped */
	struct tree_file_xattr *xattrs;
	size_t xattrs_cap;
	uint8_t *bytes; /* names and values of xattrs */
	size_t bytes_len, bytes_cap;
	char target[TREE_FILE_TARGET_MAX + 1];
	size_t at, len;
	uint8_t buf[BUFFER];
};

static int damaged(const struct tree_file *t, const char *path, size_t len, const char *what, struct err *err)
{
	char shown[200];
	return err_say(err, EUCLEAN, "the description of the tree is damaged: entry %" PRIu64 " '%s': %s", t->entries,
		tree_file_show(path, len, shown, sizeof(shown)), what);
}

/* Return: 1, 0 at the end of the file, or -errno. */
static int refill(struct tree_file *t, struct err *err)
{
	ssize_t n;
	do
		n = read(t->fd, t->buf, sizeof(t->buf));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_set(err, errno, "read the description of the tree");
	if (t->hash)
		hash_update(t->hash, t->buf, (size_t)n);
	t->at = 0;
	t->len = (size_t)n;
	return n > 0;
}

static int take(struct tree_file *t, void *to, size_t len, struct err *err)
{
	for (uint8_t *p = to; len > 0;) {
		if (t->at == t->len) {
			int r = refill(t, err);
			if (r < 0)
				return r;
			if (r == 0)
				return damaged(t, "", 0, "the file is cut short", err);
		}
		size_t n = MIN(len, t->len - t->at);
		memcpy(p, t->buf + t->at, n);
		t->at += n;
		p += n;
		len -= n;
	}
	return 0;
}

static int take_u32(struct tree_file *t, uint32_t *ret, struct err *err)
{
	uint32_t v = 0;
	int r = take(t, &v, sizeof(v), err);
	*ret = be32toh(v);
	return r;
}

static int take_u64(struct tree_file *t, uint64_t *ret, struct err *err)
{
	uint64_t v = 0;
	int r = take(t, &v, sizeof(v), err);
	*ret = be64toh(v);
	return r;
}

int tree_file_open(int fd, struct hash *hash, struct tree_file **ret, struct err *err)
{
	char magic[sizeof(TREE_FILE_MAGIC) - 1] = "";
	struct tree_file *t = calloc(1, sizeof(*t));
	int r = 0;
	if (t) {
		t->fd = fd;
		t->hash = hash;
		t->path = calloc(1, TREE_FILE_PATH_MAX + 1);
		t->next = calloc(1, TREE_FILE_PATH_MAX + 1);
	}
	if (!t || !t->path || !t->next)
		r = err_set(err, ENOMEM, "read the description of a tree");
	if (r == 0)
		r = take(t, magic, sizeof(magic), err);
	if (r == 0 && memcmp(magic, TREE_FILE_MAGIC, sizeof(magic)) != 0)
		r = err_say(err, EUCLEAN, "this is no description of a tree, or one of another version");
	if (r < 0) {
		tree_file_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void tree_file_free(struct tree_file *t)
{
	if (!t)
		return;
	free(t->path);
	free(t->next);
	free(t->xattrs);
	free(t->bytes);
	free(t);
}

/* ---- the path ---- */
static const char *bad_name(const char *name, size_t len)
{
	if (len == 0)
		return "an empty name";
	if (len > TREE_FILE_NAME_MAX)
		return "a name is too long";
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return "a name is '.' or '..'";
	return NULL;
}

static int compare_names(const char *a, size_t alen, const char *b, size_t blen)
{
	int c = memcmp(a, b, MIN(alen, blen));
	if (c != 0)
		return c;
	return alen < blen ? -1 : alen > blen;
}

static size_t parent_of(const char *path, size_t len)
{
	while (len > 0 && path[len - 1] != '/')
		len--;
	return len > 0 ? len - 1 : 0;
}

/*
 * Its parent is a directory that is open at this point of the walk: the last entry itself, or one of those above it, all of
 * which are directories by induction. In one of those, names ascend. So only the last name is new, and only it is looked at.
 * Return: NULL, or what is wrong.
 */
static const char *bad_path(const struct tree_file *t, const char *path, size_t len, size_t parent)
{
	const char *last = t->path, *name = path + (parent ? parent + 1 : 0);
	size_t last_len = t->path_len, name_len = len - (size_t)(name - path);
	bool last_is_dir = t->last_type == TREE_FILE_DIR || t->last_type == TREE_FILE_OPAQUE;
	if (t->entries == 1)
		return len > 0 ? "the first entry is not the root" : NULL;
	if (len == 0)
		return "the root once more";
	if (memchr(path, '\0', len))
		return "a NUL in its path";
	const char *bad = bad_name(name, name_len);
	if (bad)
		return bad;
	if (last_is_dir && parent == last_len && memcmp(path, last, parent) == 0)
		return NULL;
	bool above = last_len > parent && memcmp(path, last, parent) == 0 && (parent == 0 || last[parent] == '/');
	if (!above)
		return "its directory is not the one that was read";
	const char *before = last + (parent ? parent + 1 : 0);
	const char *slash = memchr(before, '/', last_len - (size_t)(before - last));
	size_t before_len = slash ? (size_t)(slash - before) : last_len - (size_t)(before - last);
	return compare_names(before, before_len, name, name_len) < 0 ? NULL : "out of order";
}

static int take_path(struct tree_file *t, struct tree_file_entry *e, struct err *err)
{
	uint32_t len;
	int r = take_u32(t, &len, err);
	if (r < 0)
		return r;
	if (len > TREE_FILE_PATH_MAX)
		return damaged(t, "", 0, "its path is too long", err);
	r = take(t, t->next, len, err);
	if (r < 0)
		return r;
	t->next[len] = '\0';
	size_t parent = parent_of(t->next, len);
	/* "/x" has the parent "" too, and an empty name in it. */
	const char *bad = len > 0 && t->next[0] == '/' ? "an absolute path" : bad_path(t, t->next, len, parent);
	if (bad)
		return damaged(t, t->next, len, bad, err);
	char *path = t->path;
	t->path = t->next;
	t->next = path;
	t->path_len = len;
	e->path = t->path;
	e->path_len = len;
	e->parent_len = parent;
	e->name = t->path + (parent ? parent + 1 : 0);
	return 0;
}

/* ---- extended attributes ---- */
static int take_bytes(struct tree_file *t, size_t len, size_t *ret_at, struct err *err)
{
	size_t need = t->bytes_len + len + 1;
	if (need > t->bytes_cap) {
		size_t cap = MAX(MAX(t->bytes_cap * 2, need), (size_t)512);
		uint8_t *bigger = realloc(t->bytes, cap);
		if (!bigger)
			return err_set(err, ENOMEM, "read the description of a tree");
		t->bytes = bigger;
		t->bytes_cap = cap;
	}
	int r = take(t, t->bytes + t->bytes_len, len, err);
	*ret_at = t->bytes_len;
	t->bytes[t->bytes_len + len] = '\0';
	t->bytes_len = need;
	return r;
}

static const char *bad_xattr(const char *name, size_t len, const char *before)
{
	static const char user[] = "user.", overlay[] = "user.overlay.";
	if (strlen(name) != len)
		return "a NUL in an attribute's name";
	if (strncmp(name, user, strlen(user)) != 0 || len == strlen(user) || strncmp(name, overlay, strlen(overlay)) == 0)
		return "an extended attribute that no layer has";
	return before && strcmp(before, name) >= 0 ? "its attributes are out of order" : NULL;
}

/* Names and values lie in t->bytes, which moves while it grows: until all are read, `len` of each is all that is noted. */
static int take_xattrs(struct tree_file *t, struct tree_file_entry *e, struct err *err)
{
	uint32_t count;
	int r = take_u32(t, &count, err);
	if (r < 0)
		return r;
	if (count > TREE_FILE_XATTRS_MAX)
		return damaged(t, t->path, t->path_len, "too many extended attributes", err);
	if (count > t->xattrs_cap) {
		struct tree_file_xattr *bigger = reallocarray(t->xattrs, count, sizeof(*bigger));
		if (!bigger)
			return err_set(err, ENOMEM, "read the description of a tree");
		t->xattrs = bigger;
		t->xattrs_cap = count;
	}
	t->bytes_len = 0;
	size_t last = SIZE_MAX;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t name_len, value_len;
		size_t name = 0, value;
		r = take_u32(t, &name_len, err);
		if (r == 0 && name_len > TREE_FILE_XATTR_NAME_MAX)
			return damaged(t, t->path, t->path_len, "an attribute's name is too long", err);
		if (r == 0)
			r = take_bytes(t, name_len, &name, err);
		if (r < 0)
			return r;
		const char *bad = bad_xattr((char *)t->bytes + name, name_len, last == SIZE_MAX ? NULL : (char *)t->bytes + last);
		if (bad)
			return damaged(t, t->path, t->path_len, bad, err);
		last = name;
		r = take_u32(t, &value_len, err);
		if (r == 0 && (value_len > TREE_FILE_XATTR_VALUE_MAX || t->bytes_len + value_len > TREE_FILE_XATTRS_BYTES))
			return damaged(t, t->path, t->path_len, "its attributes are too large", err);
		if (r == 0)
			r = take_bytes(t, value_len, &value, err);
		if (r < 0)
			return r;
		t->xattrs[i].len = value_len;
	}
	const uint8_t *at = t->bytes;
	for (uint32_t i = 0; i < count; i++) {
		t->xattrs[i].name = (const char *)at;
		t->xattrs[i].value = at + strlen((const char *)at) + 1;
		at = t->xattrs[i].value + t->xattrs[i].len + 1;
	}
	e->xattrs = t->xattrs;
	e->nxattrs = count;
	return 0;
}

/* ---- the rest of an entry ---- */
static int take_head(struct tree_file *t, struct tree_file_entry *e, struct err *err)
{
	uint8_t type = 0;
	int r = take(t, &type, 1, err);
	if (r == 0)
		r = take_u32(t, &e->mode, err);
	if (r == 0)
		r = take_u32(t, &e->uid, err);
	if (r == 0)
		r = take_u32(t, &e->gid, err);
	if (r == 0)
		r = take_path(t, e, err);
	if (r < 0)
		return r;
	e->type = (enum tree_file_type)type;
	/* Setuid and setgid mean nothing on a nosuid mount, and no layer has them. */
	if (e->mode > 07777 || (e->mode & 06000))
		return damaged(t, e->path, e->path_len, "a mode that no layer has", err);
	if (e->uid > TREE_FILE_ID_MAX || e->gid > TREE_FILE_ID_MAX)
		return damaged(t, e->path, e->path_len, "an owner out of range", err);
	return 0;
}

static int take_target(struct tree_file *t, struct tree_file_entry *e, struct err *err)
{
	uint32_t len;
	int r = take_u32(t, &len, err);
	if (r == 0 && (len == 0 || len > TREE_FILE_TARGET_MAX))
		return damaged(t, e->path, e->path_len, "the target of a link is empty or too long", err);
	if (r == 0)
		r = take(t, t->target, len, err);
	if (r < 0)
		return r;
	t->target[len] = '\0';
	if (strlen(t->target) != len)
		return damaged(t, e->path, e->path_len, "a NUL in the target of a link", err);
	e->target = t->target;
	return 0;
}

static int take_body(struct tree_file *t, struct tree_file_entry *e, struct err *err)
{
	int r = 0;
	switch (e->type) {
	case TREE_FILE_DIR:
	case TREE_FILE_OPAQUE:
		return 0;
	case TREE_FILE_REG:
		r = take_u64(t, &e->size, err);
		if (r == 0 && e->size > (uint64_t)TREE_FILE_SIZE_MAX)
			return damaged(t, e->path, e->path_len, "its size is out of range", err);
		return r < 0 ? r : take(t, e->sha256, sizeof(e->sha256), err);
	case TREE_FILE_LINK:
		if (e->mode != 0 || e->nxattrs > 0)
			return damaged(t, e->path, e->path_len, "a link with a mode or attributes", err);
		return take_target(t, e, err);
	case TREE_FILE_WHITEOUT:
		if (e->mode != 0 || e->uid != 0 || e->gid != 0 || e->nxattrs > 0)
			return damaged(t, e->path, e->path_len, "a whiteout with attributes", err);
		return 0;
	}
	return damaged(t, e->path, e->path_len, "an unknown type", err);
}

int tree_file_next(struct tree_file *t, struct tree_file_entry *ret, struct err *err)
{
	*ret = (struct tree_file_entry){.path = ""};
	if (t->at == t->len) {
		int more = refill(t, err);
		if (more < 0)
			return more;
		if (more == 0)
			return t->entries > 0 ? 0 : damaged(t, "", 0, "it has no entries", err);
	}
	if (++t->entries > TREE_FILE_ENTRIES_MAX)
		return damaged(t, t->path, t->path_len, "too many entries", err);
	int r = take_head(t, ret, err);
	if (r == 0 && t->entries == 1 && !tree_file_is_dir(ret))
		return damaged(t, "", 0, "the root is no directory", err);
	if (r == 0)
		r = take_xattrs(t, ret, err);
	if (r == 0)
		r = take_body(t, ret, err);
	t->last_type = ret->type;
	return r < 0 ? r : 1;
}

const char *tree_file_show(const char *path, size_t len, char *ret, size_t cap)
{
	size_t n = 0;
	if (len == 0)
		return memcpy(ret, ".", 2);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)path[i];
		if (n + 4 + sizeof("...") > cap) {
			memcpy(ret + n, "...", sizeof("..."));
			return ret;
		}
		if (c == '\\') {
			ret[n++] = '\\';
			ret[n++] = '\\';
		} else if (c >= 0x20 && c < 0x7f) {
			ret[n++] = (char)c;
		} else {
			n += (size_t)snprintf(ret + n, cap - n, "\\x%02x", c);
		}
	}
	ret[n] = '\0';
	return ret;
}
