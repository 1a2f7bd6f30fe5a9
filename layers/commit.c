/*
 * Commits: a finished job's directory becomes a layer. One helper copies it, writes the pack and computes the id. It
 * sees two uid ranges, the store's at 0 and the slot's at 65536, so that it may read whatever the job left behind, even
 * 0000 files, and has no right over anything else. No stranger's format is parsed: names, sizes and bytes are all.
 *
 * Everything in a commit belongs to the job's user, and all times are COMMIT_MTIME: the same outputs of two jobs are
 * one layer. Nothing is synced: a job's outputs can be made again, and what a power cut leaves of them is noticed (settle.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/pack.h"
#include "layers/hash.h"
#include "layers/layer.h"
#include "layers/pack.h"
#include "layers/store_internal.h"
#include "layers/tree.h"
#include "layers/unpack.h"

#define COMMIT_MTIME 946684800 /* 2000-01-01: archivers dislike years before 1980 */
#define COMMIT_BUFFER (64u << 10)
#define COMMIT_DIR JAIL_FDS
#define COMMIT_PACK (JAIL_FDS + 1)
#define COMMIT_TREE (JAIL_FDS + 2)
#define COMMIT_DEPTH_MAX 200u /* each level costs an fd */

struct commit {
	const struct layer_commit *args;
	/* In the helper: */
	struct unpack *unpack;
	struct pack pack;
	uint64_t bytes, entries;
	size_t path_len; /* of path, which begins with '/' */
	unsigned depth;
	char path[TREE_PATH_MAX + 2];
	char buf[COMMIT_BUFFER];
};

static int too_large(const struct commit *c, struct err *err)
{
	return err_say(err, EFBIG, "the commit is larger than %" PRIu64 " bytes", c->args->max_bytes);
}

static struct unpack_entry describe(const struct commit *c, enum unpack_type type, uint32_t mode)
{
	return (struct unpack_entry){
		.type = type,
		.path = c->path + 1,
		.mode = mode,
		.uid = STORE_JOB_UID,
		.gid = STORE_JOB_UID,
		.mtime = COMMIT_MTIME,
	};
}

/* A directory in the layer, and in the pack when the job's user has to make it (/work is there in every image). */
static int commit_dir(struct commit *c, uint32_t mode, const struct attrs *attrs, bool in_pack, struct err *err)
{
	struct unpack_entry entry = describe(c, UNPACK_DIR, mode);
	entry.attrs = attrs;
	int r = unpack_entry(c->unpack, &entry, err);
	if (r == 0 && in_pack && (r = pack_entry(&c->pack, PACK_DIR, c->path, mode & 0777, 0)) < 0)
		return err_set(err, r, "write the pack");
	return r;
}

/* Attributes are no part of a pack. */
static int commit_attrs(struct commit *c, int fd, struct attrs *ret, struct err *err)
{
	int r = attrs_read(fd, ret);
	if (r < 0)
		return err_set(err, r, "read the extended attributes of '%.300s'", c->path);
	if (ret->count > 0)
		pack_give_up(&c->pack);
	return 0;
}

static int commit_content(struct commit *c, int fd, uint64_t size, struct err *err)
{
	for (uint64_t done = 0; done < size;) {
		ssize_t n = read(fd, c->buf, (size_t)MIN(size - done, (uint64_t)sizeof(c->buf)));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, n < 0 ? errno : EIO, "read '%.300s'", c->path);
		int r = unpack_data(c->unpack, c->buf, (size_t)n, done, err);
		if (r < 0)
			return r;
		r = pack_data(&c->pack, c->buf, (size_t)n);
		if (r < 0)
			return err_set(err, r, "write the pack");
		done += (uint64_t)n;
	}
	return unpack_file_end(c->unpack, err);
}

static int commit_file(struct commit *c, int dir, const char *name, struct err *err)
{
	_cleanup_close_ int fd = tree_open_beneath(dir, name, O_NOFOLLOW | O_RDONLY | O_NONBLOCK);
	_cleanup_(attrs_clear) struct attrs attrs = {.count = 0};
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, fd < 0 ? fd : errno, "open '%.300s'", c->path);
	if (!S_ISREG(st.st_mode))
		return err_say(err, EIO, "'%.300s' changed while it was read", c->path);
	/* The apparent size counts: a hole costs its reader as much as bytes do. */
	uint64_t size = (uint64_t)st.st_size;
	if (size > c->args->max_bytes - c->bytes)
		return too_large(c, err);
	c->bytes += size;
	struct unpack_entry entry = describe(c, UNPACK_FILE, st.st_mode & 0777);
	entry.size = st.st_size;
	entry.attrs = &attrs;
	int r = commit_attrs(c, fd, &attrs, err);
	if (r == 0)
		r = unpack_entry(c->unpack, &entry, err);
	if (r < 0)
		return r;
	r = pack_entry(&c->pack, PACK_FILE, c->path, st.st_mode & 0777, size);
	return r < 0 ? err_set(err, r, "write the pack") : commit_content(c, fd, size, err);
}

static int commit_link(struct commit *c, int dir, const char *name, struct err *err)
{
	char target[TREE_LINK_MAX + 1];
	ssize_t n = readlinkat(dir, name, target, sizeof(target));
	if (n < 0 || (size_t)n == sizeof(target))
		return err_set(err, n < 0 ? errno : ENAMETOOLONG, "read the link '%.300s'", c->path);
	target[n] = '\0';
	pack_give_up(&c->pack);
	struct unpack_entry entry = describe(c, UNPACK_SYMLINK, 0777);
	entry.target = target;
	return unpack_entry(c->unpack, &entry, err);
}

static int commit_children(struct commit *c, int dir, struct err *err);

static int commit_subdir(struct commit *c, int dir, const char *name, mode_t mode, struct err *err)
{
	/* Unpacking a pack happens with the job's own rights: it could make nothing in such a directory. */
	if ((mode & 0300) != 0300)
		pack_give_up(&c->pack);
	if (c->depth >= COMMIT_DEPTH_MAX)
		return err_say(err, ENAMETOOLONG, "directories are nested deeper than %u: '%.100s'", COMMIT_DEPTH_MAX, c->path);
	_cleanup_(attrs_clear) struct attrs attrs = {.count = 0};
	_cleanup_close_ int fd = tree_open_beneath(dir, name, O_NOFOLLOW | O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return err_set(err, fd, "open '%.300s'", c->path);
	int r = commit_attrs(c, fd, &attrs, err);
	if (r == 0)
		r = commit_dir(c, mode & 01777, &attrs, true, err);
	if (r < 0)
		return r;
	c->depth++;
	r = commit_children(c, fd, err);
	c->depth--;
	return r;
}

static int commit_entry(struct commit *c, int dir, const char *name, struct err *err)
{
	struct stat st;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, errno, "stat '%.300s'", c->path);
	if (++c->entries > c->args->max_entries)
		return err_say(err, EFBIG, "the commit has more than %" PRIu64 " entries", c->args->max_entries);
	if (S_ISREG(st.st_mode))
		return commit_file(c, dir, name, err);
	if (S_ISDIR(st.st_mode))
		return commit_subdir(c, dir, name, st.st_mode, err);
	if (S_ISLNK(st.st_mode))
		return commit_link(c, dir, name, err);
	return unpack_skip(c->unpack, err);
}

static int commit_children(struct commit *c, int dir, struct err *err)
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	int r = tree_list(dir, (size_t)MIN(c->args->max_entries - c->entries, (uint64_t)SIZE_MAX), &names);
	if (r == -EFBIG)
		return err_say(err, EFBIG, "the commit has more than %" PRIu64 " entries", c->args->max_entries);
	if (r < 0)
		return err_set(err, r, "list '%.300s'", c->path);
	size_t base = c->path_len;
	for (size_t i = 0; i < names.count && r == 0; i++) {
		size_t len = strlen(names.names[i]);
		if (base + 1 + len > TREE_PATH_MAX)
			return err_say(err, ENAMETOOLONG, "paths are too long beneath '%.100s'", c->path);
		c->path[base] = '/';
		memcpy(c->path + base + 1, names.names[i], len + 1);
		c->path_len = base + 1 + len;
		r = commit_entry(c, dir, names.names[i], err);
	}
	c->path_len = base;
	c->path[base] = '\0';
	return r;
}

/* The directories down to the prefix: "/work", "/work/out". */
static int commit_prefix(struct commit *c, struct err *err)
{
	const char *prefix = c->args->prefix;
	int r = 0;
	for (const char *p = prefix + 1; r == 0; p++) {
		if (*p != '/' && *p != '\0')
			continue;
		c->path_len = (size_t)(p - prefix);
		memcpy(c->path, prefix, c->path_len);
		c->path[c->path_len] = '\0';
		r = commit_dir(c, 0755, NULL, strcmp(c->path, "/work") != 0, err);
		if (*p == '\0')
			break;
	}
	return r;
}

/* In the helper. */
static int run_commit(void *ctx, struct jail_report *report, struct err *err)
{
	struct commit *c = ctx;
	/* Beside the job's entries: the prefix's. The sums are bounded here, by the job's own names. */
	const struct unpack_options options = {.max_bytes = c->args->max_bytes,
		.max_entries = c->args->max_entries + 64,
		.keep_owner = true};
	const struct layer_bounds bounds = {.bytes = c->args->max_bytes, .entries = options.max_entries + 1};
	int r = unpack_new(JAIL_ROOT, &options, &c->unpack, err);
	if (r < 0)
		return r;
	/* Only what lies under /work can be delivered into a warm slot. */
	pack_begin(&c->pack, COMMIT_PACK);
	if (strcmp(c->args->prefix, "/work") != 0 && strncmp(c->args->prefix, "/work/", 6) != 0)
		pack_give_up(&c->pack);
	r = commit_prefix(c, err);
	if (r == 0)
		r = commit_children(c, COMMIT_DIR, err);
	if (r == 0)
		r = unpack_finish(c->unpack, err);
	if (r == 0 && (r = pack_end(&c->pack)) < 0)
		return err_set(err, r, "write the pack");
	if (r < 0)
		return r;
	report->packed = r == 1;
	report->skipped = unpack_skipped(c->unpack);
	struct hash *hash;
	r = hash_new(&hash, err);
	if (r < 0)
		return r;
	r = layer_describe(c->unpack, &bounds, COMMIT_TREE, hash, report, err);
	if (r == 0)
		r = hash_final(hash, report->id, report->sha256, err);
	hash_free(hash);
	return r;
}

/* ---- in the caller ---- */

static int check_args(const struct layer_commit *args, struct err *err)
{
	const char *p = args->prefix;
	size_t len = strlen(p);
	unsigned parts = 0;
	if (p[0] != '/' || len < 2 || len > TREE_PATH_MAX)
		return err_say(err, EINVAL, "'%.200s' cannot be committed: give a directory such as /work", p);
	while (*p) {
		size_t n = strcspn(++p, "/");
		if (n == 0 || n > 255 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.') || ++parts > 32)
			return err_say(err, EINVAL, "'%.200s' is no plain absolute path", args->prefix);
		p += n;
	}
	/* Any other range could be somebody else's. */
	if (args->uid_base < STORE_UID_BASE + STORE_UID_COUNT || args->uid_base > UINT32_MAX - 2 * STORE_UID_COUNT ||
		(args->uid_base - STORE_UID_BASE) % STORE_UID_COUNT != 0)
		return err_say(err, EINVAL, "%u is no slot's range of uids", args->uid_base);
	if (args->max_entries > UINT64_MAX - 1024)
		return err_say(err, EINVAL, "a commit needs a bound of entries");
	return 0;
}

/* The file of the pack, root's, which the helper writes by its fd. */
static int make_pack(const struct layer_temp *temp, struct err *err)
{
	int fd = openat(temp->fd, "pack", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? err_set(err, errno, "make the pack") : fd;
}

static int finish_pack(const struct layer_temp *temp, int fd, bool whole, struct err *err)
{
	if (whole ? fchmod(fd, 0444) < 0 : unlinkat(temp->fd, "pack", 0) < 0)
		return err_set(err, errno, "finish the pack");
	return 0;
}

int layer_commit(struct store *store, const struct layer_commit *args, struct layer_info *ret, struct err *err)
{
	int r = check_args(args, err);
	if (r < 0)
		return r;
	_cleanup_(layer_temp_clear) struct layer_temp temp = LAYER_TEMP_INIT;
	_cleanup_free_ struct commit *commit = malloc(sizeof(*commit));
	if (!commit)
		return err_set(err, ENOMEM, "commit %s", args->prefix);
	/* Its buffers stay untouched here: pages that this process never wrote cost the fork nothing. */
	commit->args = args;
	commit->unpack = NULL;
	commit->bytes = commit->entries = 0;
	commit->depth = 0;
	hash_prepare();
	r = layer_temp_begin(store, &temp, err);
	if (r < 0)
		return r;
	_cleanup_close_ int pack = make_pack(&temp, err);
	if (pack < 0)
		return pack;
	const int fds[] = {args->dirfd, pack, temp.tree};
	const struct jail jail = {
		.what = "commit",
		.root = temp.diff,
		.fds = fds,
		.nfds = ARRAY_SIZE(fds),
		.second_base = args->uid_base,
		.wipe = store->secret,
		.wipe_len = sizeof(store->secret),
		.max_file_bytes = MAX(args->max_bytes, (uint64_t)LAYER_PACK_MAX_BYTES),
		.run = run_commit,
		.ctx = commit,
	};
	struct jail_report report;
	r = jail_run(&jail, &report, err);
	if (r == 0)
		r = finish_pack(&temp, pack, report.packed, err);
	if (r < 0)
		return r;
	struct layer_made made = {.bytes = report.bytes, .entries = report.entries, .packed = report.packed};
	memcpy(made.sha256, report.sha256, sizeof(made.sha256));
	hash_salt(store->secret, made.sha256, made.id);
	if (report.skipped > 0)
		log_debug("commit: devices, FIFOs or sockets left out count=%" PRIu64, report.skipped);
	r = layer_publish(&temp, &made, false, ret, err);
	if (r == 0)
		layer_info_release(ret); /* its name is on its way to whoever wants it */
	return r;
}
