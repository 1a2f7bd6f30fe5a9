/*
 * What became of the sources that were imported: layers/by-source/<SHA-256 of the raw bytes>.<tar or oci>, one line with
 * the layer's id, the number of raw bytes, the SHA-256 of the uncompressed tar or "-", and that of the layer's
 * description. Root's, in the caller. A record that cannot be read, or whose layer is gone, is as good as none; gc
 * removes it. So is one of an earlier petri, without the last: an id can be had again by a tree made to collide.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "layers/import.h"
#include "layers/store_internal.h"
#include "layers/tree.h"

#define KNOWN_MAX 256 /* bytes of a record */
#define KNOWN_NAME_MAX (64 + sizeof(".tar"))

static const char *suffix(bool oci)
{
	return oci ? ".oci" : ".tar";
}

static bool read_record(struct store *store, const char *name, struct import_known *ret)
{
	_cleanup_free_ char *text = NULL;
	char id[ID128_TEXT_MAX], diff_id[65], tree[65], *end;
	unsigned long long size;
	if (fd_read_file(store->by_source, name, KNOWN_MAX, &text, NULL, NULL) < 0)
		return false;
	/* A record that a power cut left empty or cut off has no newline. */
	end = strchr(text, '\n');
	if (!end || end[1] != '\0' || sscanf(text, "%39s %llu %64s %64s", id, &size, diff_id, tree) != 4 ||
		parse_id128(id, ret->id, NULL) < 0 || (strcmp(diff_id, "-") != 0 && !store_is_hex(diff_id, 64)) || !store_is_hex(tree, 64))
		return false;
	ret->size = size;
	(void)snprintf(ret->diff_id, sizeof(ret->diff_id), "%s", strcmp(diff_id, "-") == 0 ? "" : diff_id);
	memcpy(ret->tree, tree, sizeof(ret->tree));
	return true;
}

bool import_known_find(struct store *store, const char *sha256, bool oci, struct import_known *ret)
{
	char name[KNOWN_NAME_MAX];
	if (!store_is_hex(sha256, 64))
		return false;
	(void)snprintf(name, sizeof(name), "%s%s", sha256, suffix(oci));
	return read_record(store, name, ret);
}

bool import_known_size(struct store *store, uint64_t size, bool oci)
{
	struct import_known known;
	int fd = tree_open_dir(store->by_source, ".");
	_cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			(void)close(fd);
		return false;
	}
	for (struct dirent *d; (d = readdir(dir));) {
		const char *dot = strchr(d->d_name, '.');
		if (dot == d->d_name + 64 && strcmp(dot, suffix(oci)) == 0 && read_record(store, d->d_name, &known) &&
			known.size == size)
			return true;
	}
	return false;
}

/* Under a temporary name where store_sweep() looks, then in its place. */
static int write_record(struct store *store, const char *name, const char *text, size_t len)
{
	char temp[TREE_RANDOM_NAME_MAX];
	int r = tree_random_name(temp);
	if (r < 0)
		return r;
	_cleanup_close_ int gate = sweep_hold_off(store->layers_tmp);
	if (gate < 0)
		return gate;
	_cleanup_close_ int fd = openat(store->layers_tmp, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	(void)flock(fd, LOCK_EX | LOCK_NB); /* tells store_sweep() that it is in use */
	cleanup_close(&gate);
	r = fd_write_all(fd, text, len);
	if (r == 0 && renameat(store->layers_tmp, temp, store->by_source, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(store->layers_tmp, temp, 0);
	return r;
}

void import_known_note(struct store *store, const char *sha256, bool oci, const struct import_known *known)
{
	char name[KNOWN_NAME_MAX], text[KNOWN_MAX], id[ID128_TEXT_MAX];
	if (!store_is_hex(sha256, 64))
		return;
	format_id128(known->id, id);
	(void)snprintf(name, sizeof(name), "%s%s", sha256, suffix(oci));
	int len = snprintf(text, sizeof(text), "%s %" PRIu64 " %s %s\n", id, known->size, *known->diff_id ? known->diff_id : "-", known->tree);
	int r = write_record(store, name, text, (size_t)len);
	if (r < 0)
		log_debug("a source is not recorded: %s, ignoring", strerror(-r));
}
