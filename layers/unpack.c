/*
 * Writing a layer's tree; see the header. Runs in the helper, as uid 0 of its user namespace.
 *
 * Every access names one component relative to a parent fd, and every parent comes from openat2(2) with
 * RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS: an entry cannot be written through a link that an earlier one made.
 * Errors name the entry. After an error the tree is thrown away as a whole.
 */
#include "layers/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "layers/store.h"
#include "layers/unpack_internal.h"

#define ZEROS_STEP 8192u

int unpack_new(int root, const struct unpack_options *options, struct unpack **ret, struct err *err)
{
	struct unpack *u = calloc(1, sizeof(*u));
	if (!u)
		return err_set(err, ENOMEM, "unpack");
	u->root = root;
	u->options = *options;
	u->parent = u->file = -1;
	int r = digest_new(&u->digest, err);
	if (r == 0)
		r = unpack_mark(u, UNPACK_DIR, "", 0, err); /* unless an entry for the root says otherwise */
	if (r < 0)
		unpack_free(u);
	else
		*ret = u;
	return r;
}

void unpack_free(struct unpack *u)
{
	if (!u)
		return;
	cleanup_close(&u->parent);
	cleanup_close(&u->file);
	for (size_t i = 0; i < u->nmarks; i++)
		free(u->marks[i].path);
	free(u->marks);
	digest_free(u->digest);
	digests_clear(&u->digests);
	inotab_clear(&u->opaque);
	free(u);
}

uint64_t unpack_skipped(const struct unpack *u)
{
	return u->skipped;
}

struct digests *unpack_digests(struct unpack *u)
{
	return &u->digests;
}

const struct inotab *unpack_opaque(const struct unpack *u)
{
	return &u->opaque;
}

static int check_entry(const struct unpack *u, const struct unpack_entry *e, struct err *err)
{
	if (e->uid < 0 || e->uid >= STORE_UID_COUNT || e->gid < 0 || e->gid >= STORE_UID_COUNT)
		return err_say(err, EINVAL, "entry '%.200s': owner %" PRId64 ":%" PRId64 " is not within 0..65535", e->path,
			e->uid, e->gid);
	if (e->type == UNPACK_FILE && e->size < 0)
		return err_say(err, EINVAL, "entry '%.200s': its size is negative", e->path);
	if (e->type == UNPACK_SYMLINK && (!e->target || !*e->target || strlen(e->target) > TREE_LINK_MAX))
		return err_say(err, EINVAL, "entry '%.200s': its link target is empty or too long", e->path);
	if (e->type == UNPACK_HARDLINK && (!e->target || !*e->target))
		return err_say(err, EINVAL, "entry '%.200s': a hard link to nothing", e->path);
	if ((e->type == UNPACK_WHITEOUT || e->type == UNPACK_OPAQUE) && !u->options.oci)
		return err_say(err, EINVAL, "entry '%.200s': only layers of OCI images have whiteouts", e->path);
	return 0;
}

/* What is right already is left alone: each of these calls costs a journal entry. */
static int set_attributes(struct unpack *u, int fd, const struct unpack_entry *e, mode_t mask, struct stat *ret)
{
	const struct timespec times[2] = {{.tv_sec = e->mtime}, {.tv_sec = e->mtime}};
	if (fstat(fd, ret) < 0)
		return -errno;
	bool chown = u->options.keep_owner && (ret->st_uid != (uid_t)e->uid || ret->st_gid != (gid_t)e->gid);
	/* Owner first: a change of owner takes mode bits away. */
	if (chown && fchown(fd, (uid_t)e->uid, (gid_t)e->gid) < 0)
		return -errno;
	if ((ret->st_mode & 07777) != (e->mode & mask) && fchmod(fd, e->mode & mask) < 0)
		return -errno;
	return futimens(fd, times) < 0 ? -errno : 0;
}

static int set_attrs(int fd, const struct attrs *attrs, bool fresh, const char *path, struct err *err)
{
	if (fresh && (!attrs || attrs->count == 0))
		return 0;
	int r = attrs_write(fd, attrs, fresh);
	if (r == -E2BIG)
		return err_say(err, E2BIG, "entry '%.200s': the store's filesystem has no room for its extended attributes", path);
	if (r == -EOPNOTSUPP)
		return err_say(err, EOPNOTSUPP, "entry '%.200s': the store's filesystem keeps no extended attributes", path);
	return r < 0 ? err_set(err, r, "entry '%.200s': its extended attributes", path) : 0;
}

static uint64_t attrs_bytes(const struct unpack_entry *e)
{
	return e->attrs ? e->attrs->bytes : 0;
}

/* A directory at name: an existing one is kept, anything else replaced. Return: 0, 1 when it was there, or -errno. */
static int make_dir(int parent, const char *name)
{
	struct stat st;
	if (mkdirat(parent, name, 0700) == 0)
		return 0;
	if (errno != EEXIST || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return 1;
	return unlinkat(parent, name, 0) < 0 || mkdirat(parent, name, 0700) < 0 ? -errno : 0;
}

static int unpack_dir(struct unpack *u, const struct unpack_entry *e, const char *path, struct err *err)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r = unpack_charge(u, u->options.block + attrs_bytes(e), path, err), existed = 1;
	if (r < 0)
		return r;
	if (*path) {
		const char *name;
		r = unpack_enter_parent(u, path, &name, err);
		if (r < 0)
			return r;
		existed = make_dir(u->parent, name);
		if (existed < 0)
			return err_set(err, existed, "entry '%.200s'", path);
		fd = tree_open_beneath(u->parent, name, O_RDONLY | O_DIRECTORY);
	} else {
		fd = tree_open_beneath(u->root, "", O_RDONLY | O_DIRECTORY);
	}
	if (fd < 0)
		return err_set(err, fd, "entry '%.200s'", path);
	r = set_attrs(fd, e->attrs, existed == 0, path, err);
	if (r < 0)
		return r;
	r = set_attributes(u, fd, e, 01777, &st);
	return r < 0 ? err_set(err, r, "entry '%.200s'", path) : unpack_mark(u, UNPACK_DIR, path, e->mtime, err);
}

/* Take away what lies at name. In a plain archive a directory goes only when it is empty, as with tar(1). */
static int clear_place(struct unpack *u, const char *path, const char *name, struct err *err)
{
	if (unlinkat(u->parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return err_set(err, errno, "entry '%.200s'", path);
	if (unlinkat(u->parent, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return err_set(err, errno, "entry '%.200s'", path);
	if (!u->options.oci)
		return err_say(err, EISDIR, "entry '%.200s': a directory with content is there already", path);
	int r = tree_remove(u->parent, name, err);
	return r < 0 ? err_wrap(err, "entry '%.200s'", path) : 0;
}

static int unpack_file(struct unpack *u, const struct unpack_entry *e, const char *path, const char *name,
	struct err *err)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int r = unpack_charge(u, (uint64_t)e->size, path, err);
	if (r == 0 && attrs_bytes(e) > 0 && u->options.block > 0)
		r = unpack_charge(u, attrs_bytes(e), path, err);
	if (r < 0)
		return r;
	u->file = openat(u->parent, name, flags, e->mode & 0777);
	if (u->file < 0 && errno == EEXIST) {
		r = clear_place(u, path, name, err);
		if (r < 0)
			return r;
		u->file = openat(u->parent, name, flags, e->mode & 0777);
	}
	if (u->file < 0)
		return err_set(err, errno, "entry '%.200s'", path);
	u->at = u->end = 0;
	u->open = *e;
	memcpy(u->open_path, path, strlen(path) + 1);
	return set_attrs(u->file, e->attrs, true, path, err);
}

static int unpack_symlink(struct unpack *u, const struct unpack_entry *e, const char *path, const char *name,
	struct err *err)
{
	const struct timespec times[2] = {{.tv_sec = e->mtime}, {.tv_sec = e->mtime}};
	int r = unpack_charge(u, 0, path, err);
	if (r == 0)
		r = clear_place(u, path, name, err);
	if (r < 0)
		return r;
	if (symlinkat(e->target, u->parent, name) < 0 ||
		(u->options.keep_owner &&
			fchownat(u->parent, name, (uid_t)e->uid, (gid_t)e->gid, AT_SYMLINK_NOFOLLOW) < 0) ||
		utimensat(u->parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, errno, "entry '%.200s'", path);
	return 0;
}

static int unpack_hardlink(struct unpack *u, const struct unpack_entry *e, const char *path, const char *name,
	struct err *err)
{
	char target[TREE_PATH_MAX + 1];
	int r = unpack_charge(u, 0, path, err);
	if (r < 0)
		return r;
	r = tree_clean_path(e->target, target, err);
	if (r < 0)
		return err_wrap(err, "entry '%.100s': a hard link", path);
	char *slash = strrchr(target, '/');
	const char *last = slash ? slash + 1 : target;
	if (slash)
		*slash = '\0';
	_cleanup_close_ int dir = tree_open_beneath(u->root, slash ? target : "", O_PATH | O_DIRECTORY);
	struct stat st, there;
	if (dir < 0 || fstatat(dir, last, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_say(err, ENOENT, "entry '%.200s': a hard link to '%.100s', which is not in the tree", path,
			e->target);
	if (!S_ISREG(st.st_mode))
		return err_say(err, EINVAL, "entry '%.200s': a hard link to '%.100s', which is no regular file", path,
			e->target);
	/* A link to itself: clearing the place would take the file away. */
	if (fstatat(u->parent, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_ino == st.st_ino &&
		there.st_dev == st.st_dev)
		return 0;
	r = clear_place(u, path, name, err);
	if (r < 0)
		return r;
	if (linkat(dir, last, u->parent, name, 0) < 0)
		return err_set(err, errno, "entry '%.200s'", path);
	return 0;
}

int unpack_entry(struct unpack *u, const struct unpack_entry *e, struct err *err)
{
	char path[TREE_PATH_MAX + 1];
	path[0] = '\0';
	int r = u->file >= 0 ? unpack_file_end(u, err) : 0;
	if (r == 0)
		r = unpack_count_entry(u, err);
	if (r == 0)
		r = tree_clean_path(e->path, path, err);
	if (r == 0)
		r = check_entry(u, e, err);
	if (r < 0)
		return r;
	if (e->type == UNPACK_DIR)
		return unpack_dir(u, e, path, err);
	if (!*path && e->type != UNPACK_OPAQUE)
		return err_say(err, EINVAL, "entry '%.200s': the root can only be a directory", e->path);
	if (e->type == UNPACK_WHITEOUT || e->type == UNPACK_OPAQUE) {
		r = unpack_charge(u, 0, path, err);
		return r < 0 ? r : unpack_mark(u, e->type, path, 0, err);
	}
	const char *name;
	r = unpack_enter_parent(u, path, &name, err);
	if (r < 0)
		return r;
	/* If a directory gives way to this entry, the cached parent cannot be it: that one holds `name`. */
	switch (e->type) {
	case UNPACK_FILE:
		return unpack_file(u, e, path, name, err);
	case UNPACK_SYMLINK:
		return unpack_symlink(u, e, path, name, err);
	case UNPACK_HARDLINK:
		return unpack_hardlink(u, e, path, name, err);
	default:
		return err_say(err, EINVAL, "entry '%.200s': an unknown type", path);
	}
}

static int write_at(struct unpack *u, const char *p, size_t len, uint64_t offset, struct err *err)
{
	while (len > 0) {
		ssize_t n = pwrite(u->file, p, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, n < 0 ? errno : EIO, "entry '%.200s'", u->open_path);
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	u->end = offset;
	return 0;
}

/* Whether p begins with so many zeros that leaving them out is worth it. */
static bool zeros_at(const char *p, size_t len)
{
	return len >= ZEROS_STEP && p[0] == 0 && memcmp(p, p + 1, ZEROS_STEP - 1) == 0;
}

int unpack_data(struct unpack *u, const void *data, size_t len, uint64_t offset, struct err *err)
{
	uint64_t end;
	if (u->file < 0)
		return err_say(err, EINVAL, "data without a file");
	if (__builtin_add_overflow(offset, len, &end) || end > (uint64_t)u->open.size)
		return err_say(err, EINVAL, "entry '%.200s': more bytes than its size says", u->open_path);
	if (offset < u->at)
		return err_say(err, EINVAL, "entry '%.200s': its parts are not in order", u->open_path);
	if (len == 0)
		return 0;
	digest_zeros(u->digest, offset - u->at);
	digest_update(u->digest, data, len);
	u->at = end;
	/* In steps of the file, so that what is left out are whole blocks: zeros become holes, wherever they came from. */
	for (const char *p = data; len > 0;) {
		size_t n = (size_t)MIN((uint64_t)len, ZEROS_STEP - offset % ZEROS_STEP);
		if (!zeros_at(p, n)) {
			while (n < len && !zeros_at(p + n, len - n))
				n += MIN(len - n, (size_t)ZEROS_STEP);
			int r = write_at(u, p, n, offset, err);
			if (r < 0)
				return r;
		}
		p += n;
		len -= n;
		offset += n;
	}
	return 0;
}

int unpack_file_end(struct unpack *u, struct err *err)
{
	uint8_t sha256[32];
	struct stat st;
	if (u->file < 0)
		return 0;
	_cleanup_close_ int fd = TAKE_FD(u->file);
	digest_zeros(u->digest, (uint64_t)u->open.size - u->at);
	int r = digest_final(u->digest, sha256, err);
	if (r < 0)
		return r;
	if (u->end < (uint64_t)u->open.size && ftruncate(fd, u->open.size) < 0)
		return err_set(err, errno, "entry '%.200s'", u->open_path);
	r = set_attributes(u, fd, &u->open, 0777, &st);
	if (r == 0)
		r = digests_add(&u->digests, st.st_ino, sha256, attrs_bytes(&u->open) > 0);
	return r < 0 ? err_set(err, r, "entry '%.200s'", u->open_path) : 0;
}

int unpack_skip(struct unpack *u, struct err *err)
{
	int r = u->file >= 0 ? unpack_file_end(u, err) : 0;
	u->skipped++;
	return r < 0 ? r : unpack_count_entry(u, err);
}

int unpack_finish(struct unpack *u, struct err *err)
{
	int r = unpack_file_end(u, err);
	return r < 0 ? r : unpack_apply_marks(u, err);
}
