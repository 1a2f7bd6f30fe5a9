/*
 * A tree on disk beside its description: both are walked in the same order, names of a directory sorted by bytes. In
 * verify's child. Every step is one name relative to the fd of the directory it lies in, never through a link or into another
 * mount; one fd is open however deep the tree is, and ".." must lead to where it came from. Content is only hashed.
 */
#include "layers/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "layers/attrs.h"
#include "layers/tree.h"
#include "layers/tree_file.h"

#define OPAQUE "trusted.overlay.opaque"
#define LIST_MAX (64u << 10) /* of names of attributes: the kernel's own bound, listxattr(2) */
#define SHOWN 440
#define PATH_CAP (TREE_FILE_PATH_MAX + 1 + NAME_MAX + 1)

struct frame { /* a directory that is open in both */
	dev_t dev;
	ino_t ino;
	size_t path_len, at; /* of `path`, and in the names */
	struct tree_names names;
};

struct check {
	struct verify_child *child;
	struct tree_file *file;
	struct tree_file_entry e; /* the next that is expected */
	bool have;		  /* there is one */
	int dir;		  /* of the last frame */
	struct frame *frames;
	size_t n, cap;
	char *path, *skip; /* of the last frame; of a directory that is passed over */
	char *list;	   /* names of attributes */
	char *value;
};

static const char *show(const char *path, size_t len, char shown[SHOWN])
{
	return tree_file_show(path, len, shown, SHOWN);
}

static int advance(struct check *c, struct err *err)
{
	int r = tree_file_next(c->file, &c->e, err);
	c->have = r > 0;
	return r < 0 ? r : 0;
}

/* Go on behind the expected entry and all that lies in it. */
static int pass_over(struct check *c, struct err *err)
{
	size_t len = c->e.path_len;
	memcpy(c->skip, c->e.path, len);
	int r;
	do
		r = advance(c, err);
	while (r == 0 && c->have && c->e.path_len > len && c->e.path[len] == '/' && memcmp(c->e.path, c->skip, len) == 0);
	return r;
}

static int differs(struct check *c, const char *what)
{
	char shown[SHOWN];
	return verify_differs(c->child, "%s: %s", what, show(c->e.path, c->e.path_len, shown));
}

static int failed(struct check *c, int code, struct err *err)
{
	char shown[SHOWN];
	return err_set(err, code, "read '%s'", show(c->e.path, c->e.path_len, shown));
}

/* ---- one entry ---- */
static int check_owner(struct check *c, const struct stat *st)
{
	char shown[SHOWN];
	uint32_t uid = st->st_uid - STORE_UID_BASE, gid = st->st_gid - STORE_UID_BASE;
	int r = 0;
	if (c->e.type != TREE_FILE_WHITEOUT && (uid != c->e.uid || gid != c->e.gid))
		r = verify_differs(c->child, "changed owner: %s (%u:%u on disk, was %u:%u)", show(c->e.path, c->e.path_len, shown),
			st->st_uid, st->st_gid, STORE_UID_BASE + c->e.uid, STORE_UID_BASE + c->e.gid);
	bool has_mode = c->e.type != TREE_FILE_LINK && c->e.type != TREE_FILE_WHITEOUT;
	if (r == 0 && has_mode && (st->st_mode & 07777) != c->e.mode)
		r = verify_differs(c->child, "changed mode: %s (%04o, was %04o)", show(c->e.path, c->e.path_len, shown),
			st->st_mode & 07777, c->e.mode);
	return r;
}

static int compare_xattr(const void *name, const void *xattr)
{
	return strcmp(name, ((const struct tree_file_xattr *)xattr)->name);
}

static bool is_expected(const struct check *c, const char *name)
{
	if (strcmp(name, OPAQUE) == 0)
		return c->e.type == TREE_FILE_OPAQUE;
	return c->e.nxattrs > 0 && bsearch(name, c->e.xattrs, c->e.nxattrs, sizeof(c->e.xattrs[0]), compare_xattr);
}

static int check_value(struct check *c, int fd, const char *name, const void *value, size_t len)
{
	char shown[SHOWN], attribute[300];
	ssize_t n = fgetxattr(fd, name, c->value, TREE_FILE_XATTR_VALUE_MAX);
	if (n >= 0 && (size_t)n == len && memcmp(c->value, value, len) == 0)
		return 0;
	if (n < 0 && errno != ENODATA && errno != ENOTSUP && errno != ERANGE)
		return -errno;
	return verify_differs(c->child, "%s attribute %s: %s", n < 0 && errno != ERANGE ? "missing" : "changed",
		tree_file_show(name, strlen(name), attribute, sizeof(attribute) - 200), show(c->e.path, c->e.path_len, shown));
}

static int check_xattrs(struct check *c, int fd, struct err *err)
{
	char shown[SHOWN], attribute[100];
	int r = c->e.type == TREE_FILE_OPAQUE ? check_value(c, fd, OPAQUE, "y", 1) : 0;
	for (size_t i = 0; i < c->e.nxattrs && r == 0; i++)
		r = check_value(c, fd, c->e.xattrs[i].name, c->e.xattrs[i].value, c->e.xattrs[i].len);
	ssize_t len = flistxattr(fd, c->list, LIST_MAX);
	if (len < 0)
		len = errno == ENOTSUP ? 0 : -errno;
	if (r < 0 || len < 0)
		return failed(c, r < 0 ? r : (int)len, err);
	for (const char *name = c->list; name < c->list + len && r == 0; name += strlen(name) + 1)
		if (!is_expected(c, name) && !attr_of_host(name))
			r = verify_differs(c->child, "extra attribute %s: %s", tree_file_show(name, strlen(name), attribute, sizeof(attribute)),
				show(c->e.path, c->e.path_len, shown));
	return r;
}

static int check_file(struct check *c, const struct stat *st, struct err *err)
{
	struct stat opened;
	_cleanup_close_ int fd = tree_open_beneath(c->dir, c->e.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &opened) < 0)
		return failed(c, fd < 0 ? fd : errno, err);
	if (!S_ISREG(opened.st_mode) || opened.st_ino != st->st_ino || opened.st_dev != st->st_dev)
		return failed(c, EAGAIN, err);
	int r = check_xattrs(c, fd, err);
	if (r < 0)
		return r;
	int same = (uint64_t)st->st_size == c->e.size ? verify_content(fd, c->e.size, c->e.sha256, err) : 0;
	if (same < 0)
		return failed(c, same, err);
	return same ? 0 : differs(c, "changed content");
}

static int check_link(struct check *c, struct err *err)
{
	char target[TREE_FILE_TARGET_MAX + 2];
	ssize_t n = readlinkat(c->dir, c->e.name, target, sizeof(target));
	if (n < 0)
		return failed(c, errno, err);
	bool same = (size_t)n == strlen(c->e.target) && memcmp(target, c->e.target, (size_t)n) == 0;
	return same ? 0 : differs(c, "changed target");
}

static bool same_type(const struct tree_file_entry *e, const struct stat *st)
{
	switch (e->type) {
	case TREE_FILE_DIR:
	case TREE_FILE_OPAQUE:
		return S_ISDIR(st->st_mode);
	case TREE_FILE_REG:
		return S_ISREG(st->st_mode);
	case TREE_FILE_LINK:
		return S_ISLNK(st->st_mode);
	case TREE_FILE_WHITEOUT:
		return S_ISCHR(st->st_mode) && st->st_rdev == 0;
	}
	return false;
}

/* Enter the directory of the expected entry; takes fd. Its entries are expected next. */
static int push(struct check *c, int fd, const struct stat *st, struct err *err)
{
	if (c->n == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 64;
		struct frame *bigger = reallocarray(c->frames, cap, sizeof(*bigger));
		if (!bigger) {
			(void)close(fd);
			return err_set(err, ENOMEM, "verify a tree");
		}
		c->frames = bigger;
		c->cap = cap;
	}
	struct frame *f = &c->frames[c->n++];
	*f = (struct frame){.dev = st->st_dev, .ino = st->st_ino, .path_len = c->e.path_len, .names = TREE_NAMES_INIT};
	memcpy(c->path, c->e.path, c->e.path_len);
	cleanup_close(&c->dir);
	c->dir = fd;
	int r = tree_list(fd, (size_t)TREE_FILE_ENTRIES_MAX, &f->names);
	return r < 0 ? failed(c, r, err) : advance(c, err);
}

static int pop(struct check *c, struct err *err)
{
	struct stat st;
	char shown[SHOWN];
	tree_names_clear(&c->frames[--c->n].names);
	const struct frame *above = &c->frames[c->n - 1];
	int up = openat(c->dir, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close(&c->dir);
	c->dir = up;
	if (up < 0 || fstat(up, &st) < 0)
		return err_set(err, errno, "leave '%s'", show(c->path, c->frames[c->n].path_len, shown));
	if (st.st_dev != above->dev || st.st_ino != above->ino)
		return err_say(err, EAGAIN, "'%s' was moved while it was read", show(c->path, c->frames[c->n].path_len, shown));
	return 0;
}

static int check_dir(struct check *c, int fd, struct err *err)
{
	struct stat st;
	int r = fstat(fd, &st) < 0 ? failed(c, errno, err) : check_owner(c, &st);
	if (r == 0)
		r = check_xattrs(c, fd, err);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	return push(c, fd, &st, err);
}

/* The expected entry and one on disk have the same name. */
static int check_entry(struct check *c, struct err *err)
{
	struct stat st;
	if (fstatat(c->dir, c->e.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(c, errno, err);
	if (!same_type(&c->e, &st)) {
		int r = differs(c, "another type");
		return r < 0 ? r : pass_over(c, err);
	}
	if (S_ISDIR(st.st_mode)) {
		int fd = tree_open_beneath(c->dir, c->e.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		return fd < 0 ? failed(c, fd, err) : check_dir(c, fd, err);
	}
	int r = check_owner(c, &st);
	if (r == 0 && S_ISREG(st.st_mode))
		r = check_file(c, &st, err);
	else if (r == 0 && S_ISLNK(st.st_mode))
		r = check_link(c, err);
	return r < 0 ? r : advance(c, err);
}

/* ---- the walk ---- */
static int extra(struct check *c, const struct frame *f, const char *name)
{
	char shown[SHOWN];
	size_t len = f->path_len, n = strlen(name);
	if (len > 0)
		c->path[len++] = '/';
	memcpy(c->path + len, name, n);
	return verify_differs(c->child, "extra: %s", show(c->path, len + n, shown));
}

static int walk(struct check *c, struct err *err)
{
	int r = 0;
	while (r == 0 && c->n > 0) {
		struct frame *f = &c->frames[c->n - 1];
		const char *disk = f->at < f->names.count ? f->names.names[f->at] : NULL;
		bool here = c->have && c->e.parent_len == f->path_len && memcmp(c->e.path, c->path, f->path_len) == 0;
		int order = !here ? -1 : disk ? strcmp(disk, c->e.name)
					      : 1;
		if (!disk && !here && c->n == 1)
			break;
		if (!disk && !here) {
			r = pop(c, err);
		} else if (order < 0) {
			r = extra(c, f, disk);
			f->at++;
		} else if (order > 0) {
			r = differs(c, "missing");
			if (r == 0)
				r = pass_over(c, err);
		} else {
			f->at++;
			r = check_entry(c, err);
		}
	}
	return r;
}

static void check_clear(struct check *c)
{
	for (size_t i = 0; i < c->n; i++)
		tree_names_clear(&c->frames[i].names);
	free(c->frames);
	free(c->path);
	free(c->skip);
	free(c->list);
	free(c->value);
	cleanup_close(&c->dir);
	tree_file_free(c->file);
}

int verify_tree(struct verify_child *child, struct err *err)
{
	_cleanup_(check_clear) struct check c = {.child = child, .dir = -1};
	c.path = malloc(PATH_CAP);
	c.skip = malloc(PATH_CAP);
	c.list = malloc(LIST_MAX);
	c.value = malloc(TREE_FILE_XATTR_VALUE_MAX);
	if (!c.path || !c.skip || !c.list || !c.value)
		return err_set(err, ENOMEM, "verify a tree");
	if (lseek(child->tree, 0, SEEK_SET) < 0)
		return err_set(err, errno, "read the description of a tree");
	int r = tree_file_open(child->tree, NULL, &c.file, err);
	if (r == 0)
		r = advance(&c, err);
	if (r < 0)
		return r;
	int root = tree_open_dir(child->diff, ".");
	if (root < 0)
		return err_set(err, root, "open the tree");
	r = check_dir(&c, root, err); /* the first entry is the root, says the reader */
	return r < 0 ? r : walk(&c, err);
}
