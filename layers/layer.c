/*
 * Layers on disk: making one ready, publishing it, reading its description. Making is root's; reading is for the
 * unprivileged worker too, through the directory fds.
 */
#include "layers/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "layers/canonical.h"
#include "layers/import.h"
#include "layers/settle.h"
#include "layers/share.h"
#include "layers/store_internal.h"
#include "layers/tree_file.h"
#include "layers/use.h"

#define DESCRIPTION "layer.json"
#define DESCRIPTION_MAX 4096
#define DESCRIPTION_VERSION 2 /* 1: no `tree`, another serialisation */

int layer_temp_begin(struct store *store, struct layer_temp *ret, struct err *err)
{
	int r = tree_random_name(ret->name);
	if (r < 0)
		return err_set(err, r, "name a temporary layer");
	_cleanup_close_ int gate = sweep_hold_off(store->layers_tmp);
	if (gate < 0)
		return err_set(err, gate, "make a temporary layer");
	if (mkdirat(store->layers_tmp, ret->name, 0700) < 0)
		return err_set(err, errno, "make a temporary layer");
	ret->store = store;
	ret->fd = tree_open_dir(store->layers_tmp, ret->name);
	if (ret->fd < 0)
		return err_set(err, ret->fd, "open a temporary layer");
	if (flock(ret->fd, LOCK_EX | LOCK_NB) < 0) /* tells store_sweep() that it is in use */
		return err_set(err, errno, "lock a temporary layer");
	if (mkdirat(ret->fd, "diff", 0700) < 0)
		return err_set(err, errno, "make a temporary layer");
	ret->diff = tree_open_dir(ret->fd, "diff");
	if (ret->diff < 0)
		return err_set(err, ret->diff, "open a temporary layer");
	ret->tree = openat(ret->fd, "tree", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (ret->tree < 0)
		return err_set(err, errno, "make the description of a temporary layer");
	if (fchown(ret->diff, STORE_UID_BASE, STORE_UID_BASE) < 0 || fchmod(ret->diff, 0755) < 0)
		return err_set(err, errno, "give a temporary layer its owner (are we root?)");
	return 0;
}

void layer_temp_clear(struct layer_temp *temp)
{
	struct err err = ERR_INIT;
	int saved = errno;
	cleanup_close(&temp->diff);
	cleanup_close(&temp->tree);
	if (temp->store && tree_remove(temp->store->layers_tmp, temp->name, &err) < 0)
		log_debug("a temporary layer stays until the next sweep: %s, ignoring", err_msg(&err));
	cleanup_close(&temp->fd);
	temp->store = NULL;
	errno = saved;
}

int layer_bounds_get(struct store *store, struct layer_bounds *ret, struct err *err)
{
	struct statvfs fs;
	if (fstatvfs(store->layers, &fs) < 0)
		return err_set(err, errno, "ask for the free space of the store");
	uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
	room -= room / 16; /* a bomb must not take the last block from the jobs that run beside it */
	ret->bytes = MIN(room, IMPORT_MAX_BYTES);
	/* Some filesystems make inodes as they go, and count none. */
	ret->entries = fs.f_files ? MIN((uint64_t)fs.f_favail, IMPORT_MAX_ENTRIES) : IMPORT_MAX_ENTRIES;
	return 0;
}

int layer_describe(struct unpack *u, const struct layer_bounds *bounds, int fd, struct hash *hash, struct jail_report *report,
	struct err *err)
{
	const struct canonical_tree tree = {.root = JAIL_ROOT,
		.max_bytes = bounds->bytes,
		.max_entries = bounds->entries,
		.digests = unpack_digests(u),
		.opaque = unpack_opaque(u),
		.whiteouts = true};
	struct canonical sum = {0};
	int r = canonical_write(&tree, fd, hash, &sum, err);
	if (r < 0)
		return r;
	report->bytes = sum.bytes;
	report->entries = sum.entries;
	return 0;
}

/* ---- the tree's description ---- */

static int set_opaque(int diff, const struct tree_file_entry *e, struct err *err)
{
	_cleanup_close_ int fd = tree_open_beneath(diff, e->path, O_RDONLY | O_DIRECTORY);
	int r = fd < 0 ? fd : fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0 ? -errno
										     : 0;
	return r < 0 ? err_set(err, r, "mark '%.200s' as opaque", e->path) : 0;
}

static int read_entries(struct tree_file *t, int diff, struct layer_made *made, struct err *err)
{
	struct tree_file_entry e;
	int r;
	while ((r = tree_file_next(t, &e, err)) == 1) {
		made->entries++;
		if (e.type != TREE_FILE_OPAQUE)
			continue;
		made->opaque |= e.path_len == 0;
		r = set_opaque(diff, &e, err);
		if (r < 0)
			return r;
	}
	return r;
}

int layer_read_tree(struct layer_temp *temp, struct layer_made *made, struct err *err)
{
	struct tree_file *t = NULL;
	struct hash *hash = NULL;
	if (lseek(temp->tree, 0, SEEK_SET) < 0)
		return err_set(err, errno, "read the description of a temporary layer");
	made->entries = 0;
	made->opaque = false;
	int r = hash_new(&hash, err);
	if (r == 0)
		r = tree_file_open(temp->tree, hash, &t, err);
	if (r == 0)
		r = read_entries(t, temp->diff, made, err);
	if (r == 0)
		r = hash_final(hash, made->id, made->sha256, err);
	tree_file_free(t);
	hash_free(hash);
	return r;
}

/* ---- the description ---- */

struct description {
	struct layer_info info;
	char sha256[65];
	uint64_t pack_bytes;
};

static int write_description(int dir, const struct layer_made *report, uint64_t pack_bytes, bool sync, struct err *err)
{
	char id[ID128_TEXT_MAX], sha[65], text[DESCRIPTION_MAX];
	format_id128(report->id, id);
	format_hex(report->sha256, 32, sha);
	int len = snprintf(text, sizeof(text),
		"{\"version\": %d, \"id\": \"%s\", \"sha256\": \"%s\", \"bytes\": %" PRIu64 ", \"entries\": %" PRIu64
		", \"pack_bytes\": %" PRIu64 ", \"opaque\": %s, \"created\": %lld}\n",
		DESCRIPTION_VERSION, id, sha, report->bytes, report->entries, pack_bytes, report->opaque ? "true" : "false",
		(long long)time(NULL));
	_cleanup_close_ int fd = openat(dir, DESCRIPTION, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, errno, "make " DESCRIPTION);
	int r = fd_write_all(fd, text, (size_t)len);
	if (r < 0 || fchmod(fd, 0444) < 0 || (sync && fsync(fd) < 0))
		return err_set(err, r < 0 ? r : errno, "write " DESCRIPTION);
	return 0;
}

/* Return: 0, -ESTALE for another version, or -EUCLEAN. */
static int parse_description(const char *text, size_t len, struct description *ret)
{
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *id, *sha;
	json_int_t version, bytes, entries, pack_bytes, created;
	int opaque, r = json_unpack(root, "{s:I, s:s, s:s, s:I, s:I, s:I, s:b, s:I !}", "version", &version, "id", &id, "sha256", &sha, "bytes", &bytes, "entries", &entries, "pack_bytes", &pack_bytes, "opaque", &opaque, "created", &created);
	if (json_is_object(root) && json_object_get(root, "id") &&
		json_integer_value(json_object_get(root, "version")) != DESCRIPTION_VERSION) {
		r = -ESTALE;
	} else if (r < 0 || bytes < 0 || entries < 0 || pack_bytes < 0 || strspn(sha, "0123456789abcdef") != 64 ||
		strlen(sha) != 64 || parse_id128(id, ret->info.id, NULL) < 0) {
		r = -EUCLEAN;
	} else {
		memcpy(ret->sha256, sha, 65);
		ret->info.bytes = (uint64_t)bytes;
		ret->info.entries = (uint64_t)entries;
		ret->info.has_pack = pack_bytes > 0;
		ret->info.opaque = opaque;
		ret->pack_bytes = (uint64_t)pack_bytes;
	}
	json_decref(root);
	return r;
}

/* Return: 0, -ENOENT, -ESTALE for another version, -EUCLEAN when it is not readable as one, or -errno. */
static int read_description(struct store *store, const uint8_t id[16], struct description *ret, struct err *err)
{
	char path[33 + sizeof("/" DESCRIPTION)], hex[33];
	_cleanup_free_ char *text = NULL;
	size_t len;
	format_hex(id, 16, hex);
	(void)snprintf(path, sizeof(path), "%s/" DESCRIPTION, hex);
	int r = fd_read_file(store->layers, path, DESCRIPTION_MAX, &text, &len, err);
	if (r == -ENOENT)
		return err_say(err, ENOENT, "there is no layer xxh128:%s", hex);
	if (r < 0)
		return err_wrap(err, "the layer xxh128:%s", hex);
	r = parse_description(text, len, ret);
	if (r == -ESTALE)
		return err_say(err, ESTALE, "the layer xxh128:%s was made by another version of petri; import it again", hex);
	if (r < 0 || memcmp(ret->info.id, id, 16) != 0)
		return err_say(err, EUCLEAN, "the layer xxh128:%s is damaged: its " DESCRIPTION " cannot be read", hex);
	if (!settle_survived(store, hex))
		return err_say(err, EUCLEAN, "the layer xxh128:%s had not reached the disk when the machine stopped", hex);
	return 0;
}

void layer_info_release(struct layer_info *info)
{
	if (info->held > 0)
		(void)close(info->held);
	info->held = 0;
}

int layer_load(struct store *store, const uint8_t id[16], struct layer_info *ret, struct err *err)
{
	struct description d = {.pack_bytes = 0};
	int r = read_description(store, id, &d, err);
	if (r == 0)
		*ret = d.info;
	return r;
}

int layer_sha256(struct store *store, const uint8_t id[16], char ret_hex[65], struct err *err)
{
	struct description d = {.pack_bytes = 0};
	int r = read_description(store, id, &d, err);
	if (r == 0)
		memcpy(ret_hex, d.sha256, sizeof(d.sha256));
	return r;
}

int layer_open_pack(struct store *store, const uint8_t id[16], struct err *err)
{
	struct description d = {.pack_bytes = 0};
	char path[33 + sizeof("/pack")], hex[33];
	struct stat st;
	int r = read_description(store, id, &d, err);
	if (r < 0)
		return r;
	format_hex(id, 16, hex);
	if (!d.info.has_pack)
		return err_say(err, ENOENT, "the layer xxh128:%s has no pack", hex);
	(void)snprintf(path, sizeof(path), "%s/pack", hex);
	_cleanup_close_ int fd = openat(store->layers, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "open the pack of xxh128:%s", hex);
	/* A commit is not synced: after a power cut its pack may be cut short. */
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != d.pack_bytes)
		return err_say(err, EUCLEAN, "the pack of xxh128:%s is damaged", hex);
	return TAKE_FD(fd);
}

/* ---- publication ---- */

int layer_take(struct store *store, const uint8_t id[16], struct layer_info *ret, struct err *err)
{
	struct description there = {.pack_bytes = 0};
	_cleanup_close_ int held = layer_hold(store, id, err);
	int r = held < 0 ? held : read_description(store, id, &there, err);
	if (r < 0)
		return r;
	layer_touch(held);
	*ret = there.info;
	ret->existed = true;
	ret->held = TAKE_FD(held);
	return 0;
}

int layer_move_away(struct store *store, const char *hex, struct err *err)
{
	char aside[TREE_RANDOM_NAME_MAX];
	log_debug("moving away the damaged layer xxh128:%s", hex);
	int r = tree_random_name(aside);
	if (r == 0 && renameat(store->layers, hex, store->layers_tmp, aside) < 0 && errno != ENOENT)
		r = -errno;
	return r < 0 ? err_set(err, r, "move the damaged layer xxh128:%s away", hex) : 0;
}

int layer_find(struct store *store, const struct layer_made *made, struct layer_info *ret, struct err *err)
{
	struct description there = {.pack_bytes = 0};
	char sha[65], hex[33];
	format_hex(made->id, 16, hex);
	format_hex(made->sha256, 32, sha);
	if (faccessat(store->layers, hex, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	_cleanup_close_ int held = layer_hold(store, made->id, err);
	if (held < 0 && held != -ENOENT)
		return held;
	int r = read_description(store, made->id, &there, err);
	if (r == -EUCLEAN || r == -ESTALE) {
		r = layer_move_away(store, hex, err);
		return r < 0 ? r : 0;
	}
	/* gc took it just now. What lies there by now may be another process's, who holds it: not to be moved. */
	if (r == -ENOENT || (r == 0 && held < 0))
		return 0;
	if (r < 0)
		return r;
	if (strcmp(there.sha256, sha) != 0) {
		log_warn("refused a layer whose id is taken by another one id=xxh128:%s", hex);
		return err_say(err, EEXIST, "a layer with other content has the id xxh128:%s already", hex);
	}
	layer_touch(held);
	*ret = there.info;
	ret->existed = true;
	ret->held = TAKE_FD(held);
	return 1;
}

int layer_displace(struct store *store, struct layer_info *info, struct err *err)
{
	char hex[33], path[33 + sizeof("/" LAYER_USED)];
	struct stat st, there;
	_cleanup_close_ int held = info->held;
	info->held = 0;
	format_hex(info->id, 16, hex);
	(void)snprintf(path, sizeof(path), "%s/" LAYER_USED, hex);
	int r = flock(held, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	if (r == -EWOULDBLOCK)
		return err_say(err, EBUSY, "the layer xxh128:%s in the store is damaged and in use: stop the jobs and images that use it, and import again", hex);
	if (r < 0 || fstat(held, &st) < 0)
		return err_set(err, r < 0 ? r : errno, "lock the layer xxh128:%s", hex);
	/* Changing a lock lets go of it for a moment: gc may have been quicker, and what lies there now be another one. */
	if (fstatat(store->layers, path, &there, AT_SYMLINK_NOFOLLOW) < 0 || there.st_dev != st.st_dev || there.st_ino != st.st_ino)
		return 0;
	return layer_move_away(store, hex, err);
}

static int pack_size(const struct layer_temp *temp, const struct layer_made *made, uint64_t *ret, struct err *err)
{
	struct stat st;
	*ret = 0;
	if (!made->packed)
		return 0;
	if (fstatat(temp->fd, "pack", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, errno, "stat the pack");
	*ret = (uint64_t)st.st_size;
	return 0;
}

/* Everything but the name. */
static int complete(struct layer_temp *temp, const struct layer_made *made, bool sync, uint64_t *ret_pack, struct err *err)
{
	int r = pack_size(temp, made, ret_pack, err);
	if (r == 0)
		r = write_description(temp->fd, made, *ret_pack, sync, err);
	if (r == 0 && !sync)
		r = settle_mark(temp->fd, err);
	if (r < 0)
		return r;
	if (fchmod(temp->tree, 0444) < 0 || fchmod(temp->fd, 0755) < 0 || (sync && syncfs(temp->fd) < 0))
		return err_set(err, errno, "sync the new layer");
	return 0;
}

int layer_publish(struct layer_temp *temp, const struct layer_made *made, bool sync, struct layer_info *ret,
	struct err *err)
{
	struct store *store = temp->store;
	char hex[33];
	uint64_t pack_bytes;
	format_hex(made->id, 16, hex);
	/* One that is there already is shared before ours costs a sync. */
	int r = layer_find(store, made, ret, err);
	if (r != 0)
		return r < 0 ? r : 0;
	_cleanup_close_ int held = layer_hold_new(temp->fd, err);
	r = held < 0 ? held : complete(temp, made, sync, &pack_bytes, err);
	if (r < 0)
		return r;
	if (sync) /* only what is durable may become an object */
		share_all(store, temp);
	for (int round = 0;; round++) {
		/* Never replaces: a layer's directory is not empty. */
		if (renameat(store->layers_tmp, temp->name, store->layers, hex) == 0)
			break;
		if ((errno != EEXIST && errno != ENOTEMPTY) || round > 3)
			return err_set(err, errno, "put the layer xxh128:%s in its place", hex);
		r = layer_find(store, made, ret, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	temp->store = NULL; /* published: not ours to remove */
	if (sync && fsync(store->layers) < 0)
		return err_set(err, errno, "sync the directory of layers");
	*ret = (struct layer_info){.bytes = made->bytes,
		.entries = made->entries,
		.has_pack = pack_bytes > 0,
		.opaque = made->opaque,
		.held = TAKE_FD(held)};
	memcpy(ret->id, made->id, sizeof(ret->id));
	return 0;
}
