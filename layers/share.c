/*
 * Sharing equal files; see the header. The key of an object is a SHA-256 over what makes two files the same one for a
 * layer: content, mode, owner and time; files with extended attributes are not shared. The content's digest comes
 * from a helper's description of its tree. So before a file gives way, both are compared byte for byte: neither a helper
 * that lies nor a disk that fails can put another content into the next layer. Paths are taken beneath diff/ through
 * no link. An object that turns out to be something else is dropped.
 */
#include "layers/share.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "layers/attrs.h"
#include "layers/hash.h"
#include "layers/store_internal.h"
#include "layers/tree_file.h"

#define OBJECT_NAME_MAX (3 + 64 + 1) /* "ab/" and 64 digits */
#define COMPARE_BUFFER (64u << 10)
#define DEDUPE_MAX (16ull << 20) /* bytes in one call: what btrfs takes */
#define LARGE (32u << 10)	 /* bytes from which not writing a file is worth a look for its object beforehand */
#define SPARE "share"		 /* in the temporary layer: a link that is about to take a file's place */

struct share {
	struct store *store;
	int diff;
	int temp; /* where links are made */
	int parent;
	char parent_path[TREE_PATH_MAX + 1];
	struct stat parent_stat; /* before anything was changed in it */
	bool parent_changed;
	bool no_dedupe; /* the filesystem cannot */
	struct digest *digest;
	char *buf;
	uint64_t files;
};

/* Making a link in place of a file must leave no trace in the directory's time. */
static void leave_parent(struct share *s)
{
	const struct timespec times[2] = {s->parent_stat.st_atim, s->parent_stat.st_mtim};
	if (s->parent >= 0 && s->parent_changed)
		(void)futimens(s->parent, times);
	s->parent_changed = false;
	cleanup_close(&s->parent);
}

static int enter_parent(struct share *s, const struct tree_file_entry *e)
{
	if (s->parent >= 0 && strlen(s->parent_path) == e->parent_len && memcmp(s->parent_path, e->path, e->parent_len) == 0)
		return 0;
	leave_parent(s);
	memcpy(s->parent_path, e->path, e->parent_len);
	s->parent_path[e->parent_len] = '\0';
	s->parent = tree_open_beneath(s->diff, s->parent_path, O_RDONLY | O_DIRECTORY);
	if (s->parent < 0)
		return s->parent;
	return fstat(s->parent, &s->parent_stat) < 0 ? -errno : 0;
}

/*
 * Whether a file carries what is in no description, and would come into another layer with the inode: an access control
 * list needs nothing but the file's owner to be set, and that is the helper.
 */
static bool has_attributes(struct share *s, int fd)
{
	ssize_t len = flistxattr(fd, s->buf, COMPARE_BUFFER);
	if (len < 0)
		return errno != ENOTSUP;
	for (const char *name = s->buf; name < s->buf + len; name += strlen(name) + 1)
		if (!attr_of_host(name))
			return true;
	return false;
}

/* The object's name for a file that is what its description says. Return: 0, or 1 when it is not to be shared. */
static int name_object(struct share *s, const struct tree_file_entry *e, struct stat *ret_st, char ret[OBJECT_NAME_MAX])
{
	uint8_t key[32];
	char hex[65];
	if (e->type != TREE_FILE_REG || e->nxattrs > 0 || e->size == 0 || enter_parent(s, e) < 0)
		return 1;
	if (fstatat(s->parent, e->name, ret_st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(ret_st->st_mode) ||
		(uint64_t)ret_st->st_size != e->size || (ret_st->st_mode & 07777) != e->mode ||
		ret_st->st_uid != STORE_UID_BASE + e->uid || ret_st->st_gid != STORE_UID_BASE + e->gid)
		return 1;
	const struct __attribute__((packed)) {
		char magic[16];
		uint8_t sha256[32];
		uint64_t size, mtime, nsec;
		uint32_t mode, uid, gid;
	} all = {.magic = "petri-object-1\n",
		.size = htobe64(e->size),
		.mtime = htobe64((uint64_t)ret_st->st_mtim.tv_sec),
		.nsec = htobe64((uint64_t)ret_st->st_mtim.tv_nsec),
		.mode = htobe32(e->mode),
		.uid = htobe32(e->uid),
		.gid = htobe32(e->gid)};
	digest_update(s->digest, &all, offsetof(__typeof__(all), sha256));
	digest_update(s->digest, e->sha256, sizeof(e->sha256));
	digest_update(s->digest, &all.size, sizeof(all) - offsetof(__typeof__(all), size));
	if (digest_final(s->digest, key, NULL) < 0)
		return 1;
	format_hex(key, sizeof(key), hex);
	(void)snprintf(ret, OBJECT_NAME_MAX, "%.2s/%s", hex, hex);
	return 0;
}

static bool same_attributes(const struct stat *a, const struct stat *b)
{
	return S_ISREG(a->st_mode) && a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
		a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
		a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_dev == b->st_dev;
}

static bool same_content(struct share *s, int a, int b)
{
	char *x = s->buf, *y = s->buf + COMPARE_BUFFER;
	for (;;) {
		ssize_t n = fd_read_all(a, x, COMPARE_BUFFER), m = fd_read_all(b, y, COMPARE_BUFFER);
		if (n < 0 || m != n || memcmp(x, y, (size_t)n) != 0)
			return false;
		if (n < (ssize_t)COMPARE_BUFFER)
			return true;
	}
}

/* The kernel compares, and lets both have the same blocks. Return: 0 when it did, 1 when they differ, or -errno. */
static int dedupe(int object, int file, uint64_t size)
{
	union {
		struct file_dedupe_range range;
		char room[sizeof(struct file_dedupe_range) + sizeof(struct file_dedupe_range_info)];
	} arg;
	for (uint64_t at = 0; at < size;) {
		memset(&arg, 0, sizeof(arg));
		arg.range.src_offset = at;
		arg.range.src_length = MIN(size - at, DEDUPE_MAX);
		arg.range.dest_count = 1;
		arg.range.info[0].dest_fd = file;
		arg.range.info[0].dest_offset = at;
		if (ioctl(object, FIDEDUPERANGE, &arg) < 0)
			return -errno;
		if (arg.range.info[0].status != FILE_DEDUPE_RANGE_SAME)
			return arg.range.info[0].status < 0 ? arg.range.info[0].status : 1;
		if (arg.range.info[0].bytes_deduped == 0)
			return -EINVAL;
		at += arg.range.info[0].bytes_deduped;
	}
	return 0;
}

/* A second name of the object takes the place of the file. Return: 0 or -errno. */
static int link_over(struct share *s, const char *object, const char *name)
{
	(void)unlinkat(s->temp, SPARE, 0);
	if (linkat(s->store->objects, object, s->temp, SPARE, 0) < 0)
		return -errno;
	s->parent_changed = true;
	return renameat(s->temp, SPARE, s->parent, name) < 0 ? -errno : 0;
}

static void drop_object(struct share *s, const char *object)
{
	(void)unlinkat(s->store->objects, object, 0);
}

/* Let the file at e give way to its object, if there is one. @st: the file's. */
static void use_object(struct share *s, const struct tree_file_entry *e, const struct stat *st, const char *object)
{
	struct stat ours, theirs;
	_cleanup_close_ int there = openat(s->store->objects, object, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (there < 0 || fstat(there, &theirs) < 0)
		return;
	_cleanup_close_ int file = openat(s->parent, e->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (file < 0 || fstat(file, &ours) < 0 || ours.st_ino != st->st_ino)
		return;
	if (ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev)
		return;
	if (has_attributes(s, file))
		return;
	if (!same_attributes(&ours, &theirs) || has_attributes(s, there)) {
		drop_object(s, object);
		return;
	}
	int r = s->no_dedupe ? -EOPNOTSUPP : dedupe(there, file, e->size);
	if (r == -EOPNOTSUPP || r == -ENOTTY || r == -EINVAL || r == -EXDEV) {
		s->no_dedupe = true;
		r = same_content(s, there, file) ? 0 : 1;
		if (r == 0)
			r = link_over(s, object, e->name);
	}
	if (r == 1)
		log_warn("an object of the store is damaged, dropped object=%s", object);
	/* It has all the links that the filesystem allows: ours will be the next object. */
	if (r == 1 || r == -EMLINK)
		drop_object(s, object);
	s->files += r == 0;
}

static void use_large(struct share *s, const struct tree_file_entry *e)
{
	char object[OBJECT_NAME_MAX];
	struct stat st;
	if (e->size >= LARGE && name_object(s, e, &st, object) == 0)
		use_object(s, e, &st, object);
}

static int offer_object(struct share *s, const struct tree_file_entry *e, const char *object)
{
	_cleanup_close_ int file = openat(s->parent, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (file < 0)
		return -errno;
	if (has_attributes(s, file))
		return -EPERM;
	return linkat(s->parent, e->name, s->store->objects, object, 0) < 0 ? -errno : 0;
}

static void use_or_offer(struct share *s, const struct tree_file_entry *e)
{
	char object[OBJECT_NAME_MAX], dir[3];
	struct stat st;
	if (name_object(s, e, &st, object) != 0)
		return;
	int r = offer_object(s, e, object);
	if (r == -EEXIST) {
		use_object(s, e, &st, object);
		/* Where the old object was full or damaged and is gone, this one takes its place. */
		r = offer_object(s, e, object);
	} else if (r == -ENOENT) {
		(void)snprintf(dir, sizeof(dir), "%.2s", object);
		r = mkdirat(s->store->objects, dir, 0700) < 0 && errno != EEXIST ? -errno : offer_object(s, e, object);
	}
	if (r < 0 && r != -EEXIST)
		log_debug("a file is not shared: %s, ignoring", strerror(-r));
}

static void each_file(struct share *s, int tree, void (*act)(struct share *s, const struct tree_file_entry *e))
{
	struct tree_file *t = NULL;
	struct tree_file_entry e;
	s->parent = -1;
	s->buf = malloc(2 * (size_t)COMPARE_BUFFER);
	if (s->buf && digest_new(&s->digest, NULL) == 0 && lseek(tree, 0, SEEK_SET) == 0 &&
		tree_file_open(tree, NULL, &t, NULL) == 0)
		while (tree_file_next(t, &e, NULL) == 1)
			act(s, &e);
	leave_parent(s);
	tree_file_free(t);
	digest_free(s->digest);
	free(s->buf);
}

static void share(struct store *store, struct layer_temp *temp, void (*act)(struct share *s, const struct tree_file_entry *e))
{
	struct share *s = calloc(1, sizeof(*s));
	if (!s)
		return;
	s->store = store;
	s->diff = temp->diff;
	s->temp = temp->fd;
	each_file(s, temp->tree, act);
	(void)unlinkat(temp->fd, SPARE, 0);
	if (s->files > 0)
		log_debug("files shared with other layers count=%llu", (unsigned long long)s->files);
	free(s);
}

void share_large(struct store *store, struct layer_temp *temp)
{
	share(store, temp, use_large);
}

void share_all(struct store *store, struct layer_temp *temp)
{
	share(store, temp, use_or_offer);
}
