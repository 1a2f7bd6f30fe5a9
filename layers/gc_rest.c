/* What is left of things that went, and of processes that died; see gc.h. Root. None of it can be in use: losing a race costs a
 * later import some sharing, or the reading of a source. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "layers/gc_internal.h"
#include "layers/tree.h"

#define NAMES_MAX 10000000u
#define SOURCE_MAX 4096

/* Call fn for each of the directories 00 … ff beneath dir, as far as they are there. */
static int each_fan(int dir, struct gc *gc, int (*fn)(struct gc *gc, int fan))
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	int r = tree_list(dir, NAMES_MAX, &names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (!store_is_hex(names.names[i], 2))
			continue;
		_cleanup_close_ int fan = tree_open_dir(dir, names.names[i]);
		r = fan < 0 ? 0 : fn(gc, fan);
	}
	return r;
}

/* ---- objects: files that layers share by hard links; one with no link but its own is nobody's ---- */
static int drop_objects(struct gc *gc, int fan)
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	int r = tree_list(fan, NAMES_MAX, &names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		struct stat st;
		if (fstatat(fan, names.names[i], &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode) || st.st_nlink > 1)
			continue;
		if (unlinkat(fan, names.names[i], 0) < 0)
			continue;
		gc->sums->objects++;
		gc->sums->bytes += (uint64_t)st.st_blocks * 512;
	}
	return r;
}

static int drop_all_objects(struct gc *gc)
{
	_cleanup_close_ int dir = tree_open_dir(gc->store->fd, "objects");
	if (dir == -ENOENT)
		return 0;
	return dir < 0 ? dir : each_fan(dir, gc, drop_objects);
}

/* ---- layers/by-source: which layer a source became ---- */
static bool leads_nowhere(struct store *store, int dir, const char *name)
{
	_cleanup_free_ char *text = NULL;
	char id_text[ID128_TEXT_MAX], hex[33];
	uint8_t id[16];
	int r = fd_read_file(dir, name, SOURCE_MAX, &text, NULL, NULL);
	if (r < 0)
		return r != -ENOENT && r != -EMFILE && r != -ENFILE && r != -ENOMEM && r != -EIO;
	/* The id comes first, whatever else a record says. */
	size_t n = strcspn(text, " \n");
	if (n >= sizeof(id_text))
		return true;
	memcpy(id_text, text, n);
	id_text[n] = '\0';
	if (parse_id128(id_text, id, NULL) < 0)
		return true;
	format_hex(id, 16, hex);
	return faccessat(store->layers, hex, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

static int drop_sources(struct gc *gc)
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	_cleanup_close_ int dir = tree_open_dir(gc->store->layers, "by-source");
	if (dir == -ENOENT)
		return 0;
	int r = dir < 0 ? dir : tree_list(dir, NAMES_MAX, &names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		struct stat st;
		if (!leads_nowhere(gc->store, dir, names.names[i]) || fstatat(dir, names.names[i], &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			unlinkat(dir, names.names[i], 0) < 0)
			continue;
		gc->sums->sources++;
		gc->sums->bytes += (uint64_t)st.st_blocks * 512;
	}
	return r;
}

/* ---- records of blobs that were killed between the two removals, or never came ---- */
static int drop_records(struct gc *gc, int fan)
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	int r = tree_list(fan, NAMES_MAX, &names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		char object[33];
		const char *name = names.names[i];
		if (strlen(name) != 32 + strlen(".sha256") || strcmp(name + 32, ".sha256") != 0)
			continue;
		memcpy(object, name, 32);
		object[32] = '\0';
		if (!store_is_hex(object, 32) || faccessat(fan, object, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		/* A blob that is being put has its record first: under its lock. */
		if (store_lock(fan, LOCK_EX) == 0 && faccessat(fan, object, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			gc->sums->leftovers += unlinkat(fan, name, 0) == 0;
		(void)flock(fan, LOCK_UN);
	}
	return r;
}

int gc_rest(struct gc *gc, struct err *err)
{
	if (gc->options->dry_run)
		return 0;
	int r = drop_all_objects(gc);
	if (r < 0)
		return err_set(err, r, "look through the shared files");
	r = drop_sources(gc);
	if (r < 0)
		return err_set(err, r, "look through the known sources");
	r = each_fan(gc->store->blobs, gc, drop_records);
	if (r < 0)
		return err_set(err, r, "look through the blobs");
	gc->sums->leftovers += store_sweep(gc->store);
	return 0;
}
