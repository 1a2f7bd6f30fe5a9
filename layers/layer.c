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
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "layers/canonical.h"
#include "layers/import.h"
#include "layers/store_internal.h"
#include "layers/use.h"

#define DESCRIPTION "layer.json"
#define DESCRIPTION_MAX 4096

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
	if (fchown(ret->diff, STORE_UID_BASE, STORE_UID_BASE) < 0 || fchmod(ret->diff, 0755) < 0)
		return err_set(err, errno, "give a temporary layer its owner (are we root?)");
	return 0;
}

void layer_temp_clear(struct layer_temp *temp)
{
	struct err err = ERR_INIT;
	int saved = errno;
	cleanup_close(&temp->diff);
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

static void hash_cleanup(struct hash **hash)
{
	hash_free(*hash);
}

int layer_hash(const struct layer_bounds *bounds, struct jail_report *report, struct err *err)
{
	_cleanup_(hash_cleanup) struct hash *hash = NULL;
	struct canonical sum = {0};
	int r = hash_new(&hash, err);
	if (r == 0)
		r = canonical_hash(JAIL_ROOT, bounds->bytes, bounds->entries, hash, &sum, err);
	if (r == 0)
		r = hash_final(hash, report->id, report->sha256, err);
	if (r < 0)
		return r;
	report->bytes = sum.bytes;
	report->entries = sum.entries;
	return 0;
}

/* ---- the description ---- */

struct description {
	struct layer_info info;
	char sha256[65];
	uint64_t pack_bytes;
};

static int write_description(int dir, const struct jail_report *report, uint64_t pack_bytes, bool sync, struct err *err)
{
	char id[ID128_TEXT_MAX], sha[65], text[DESCRIPTION_MAX];
	format_id128(report->id, id);
	format_hex(report->sha256, 32, sha);
	int len = snprintf(text, sizeof(text),
		"{\"id\": \"%s\", \"sha256\": \"%s\", \"bytes\": %" PRIu64 ", \"entries\": %" PRIu64
		", \"pack_bytes\": %" PRIu64 ", \"created\": %lld}\n",
		id, sha, report->bytes, report->entries, pack_bytes, (long long)time(NULL));
	_cleanup_close_ int fd = openat(dir, DESCRIPTION, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, errno, "make " DESCRIPTION);
	int r = fd_write_all(fd, text, (size_t)len);
	if (r < 0 || fchmod(fd, 0444) < 0 || (sync && fsync(fd) < 0))
		return err_set(err, r < 0 ? r : errno, "write " DESCRIPTION);
	return 0;
}

static int parse_description(const char *text, size_t len, struct description *ret)
{
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *id, *sha;
	json_int_t bytes, entries, pack_bytes, created;
	int r = json_unpack(root, "{s:s, s:s, s:I, s:I, s:I, s:I !}", "id", &id, "sha256", &sha, "bytes", &bytes, "entries",
		&entries, "pack_bytes", &pack_bytes, "created", &created);
	if (r < 0 || bytes < 0 || entries < 0 || pack_bytes < 0 || strspn(sha, "0123456789abcdef") != 64 ||
		strlen(sha) != 64 || parse_id128(id, ret->info.id, NULL) < 0) {
		r = -EUCLEAN;
	} else {
		memcpy(ret->sha256, sha, 65);
		ret->info.bytes = (uint64_t)bytes;
		ret->info.entries = (uint64_t)entries;
		ret->info.has_pack = pack_bytes > 0;
		ret->pack_bytes = (uint64_t)pack_bytes;
	}
	json_decref(root);
	return r;
}

/* Return: 0, -ENOENT, -EUCLEAN when it is not readable as one, or -errno. */
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
	if (parse_description(text, len, ret) < 0 || memcmp(ret->info.id, id, 16) != 0)
		return err_say(err, EUCLEAN, "the layer xxh128:%s is damaged: its " DESCRIPTION " cannot be read", hex);
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

/* The id is taken. Return: 0 to share it, 1 when it is out of the way (it was damaged, or gc took it), or -errno. */
static int meet_existing(struct layer_temp *temp, const struct jail_report *report, const char *hex,
	struct layer_info *ret, struct err *err)
{
	struct description there = {.pack_bytes = 0};
	char sha[65], aside[TREE_RANDOM_NAME_MAX];
	format_hex(report->sha256, 32, sha);
	_cleanup_close_ int held = layer_hold(temp->store, report->id, err);
	if (held < 0)
		return held == -ENOENT ? 1 : held;
	int r = read_description(temp->store, report->id, &there, err);
	if (r == 0 && strcmp(there.sha256, sha) == 0) {
		layer_touch(held);
		*ret = there.info;
		ret->existed = true;
		ret->held = TAKE_FD(held);
		return 0;
	}
	if (r == 0) {
		log_warn("refused a layer whose id is taken by another one id=xxh128:%s", hex);
		return err_say(err, EEXIST, "a layer with other content has the id xxh128:%s already", hex);
	}
	if (r != -EUCLEAN)
		return r;
	/* What a power cut left of an unsynced commit: the sweep removes it. */
	log_debug("replacing the damaged layer xxh128:%s", hex);
	r = tree_random_name(aside);
	if (r == 0 && renameat(temp->store->layers, hex, temp->store->layers_tmp, aside) < 0)
		r = -errno;
	return r < 0 ? err_set(err, r, "move the damaged layer xxh128:%s away", hex) : 1;
}

static int pack_size(const struct layer_temp *temp, const struct jail_report *report, uint64_t *ret, struct err *err)
{
	struct stat st;
	*ret = 0;
	if (!report->packed)
		return 0;
	if (fstatat(temp->fd, "pack", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, errno, "stat the pack");
	*ret = (uint64_t)st.st_size;
	return 0;
}

int layer_publish(struct layer_temp *temp, const struct jail_report *report, bool sync, struct layer_info *ret,
	struct err *err)
{
	struct store *store = temp->store;
	char hex[33];
	uint64_t pack_bytes;
	format_hex(report->id, 16, hex);
	/* One that is there already is shared before ours costs a sync. */
	if (faccessat(store->layers, hex, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		int there = meet_existing(temp, report, hex, ret, err);
		if (there <= 0)
			return there;
	}
	_cleanup_close_ int held = layer_hold_new(temp->fd, err);
	if (held < 0)
		return held;
	int r = pack_size(temp, report, &pack_bytes, err);
	if (r == 0)
		r = write_description(temp->fd, report, pack_bytes, sync, err);
	if (r < 0)
		return r;
	if (fchmod(temp->fd, 0755) < 0 || (sync && syncfs(store->layers) < 0))
		return err_set(err, errno, "sync the layer xxh128:%s", hex);
	for (int round = 0;; round++) {
		/* Never replaces: a layer's directory is not empty. */
		if (renameat(store->layers_tmp, temp->name, store->layers, hex) == 0)
			break;
		if ((errno != EEXIST && errno != ENOTEMPTY) || round > 1)
			return err_set(err, errno, "put the layer xxh128:%s in its place", hex);
		r = meet_existing(temp, report, hex, ret, err);
		if (r <= 0)
			return r;
	}
	temp->store = NULL; /* published: not ours to remove */
	if (sync && fsync(store->layers) < 0)
		return err_set(err, errno, "sync the directory of layers");
	*ret = (struct layer_info){.bytes = report->bytes, .entries = report->entries, .has_pack = pack_bytes > 0, .held = TAKE_FD(held)};
	memcpy(ret->id, report->id, sizeof(ret->id));
	return 0;
}
