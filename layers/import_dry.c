/*
 * A directory whose tree is a layer already costs only its reading: it is described where it lies, as an import would describe
 * it. First its sums, for which no file is opened; only when some layer has the same are the contents read. In the
 * caller, which may read the directory whatever its modes are; nothing is parsed. Should it change meanwhile, what was read is
 * what counts. Whatever stands in the way here is for the import itself to meet, and to name.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "layers/canonical.h"
#include "layers/import.h"
#include "layers/layer.h"
#include "layers/store_internal.h"

/* Whether some layer has so many bytes and entries. */
static bool any_like(struct store *store, const struct canonical *sums)
{
	bool found = false;
	int fd = tree_open_dir(store->layers, ".");
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir && fd >= 0)
		(void)close(fd);
	for (struct dirent *d; dir && !found && (d = readdir(dir));) {
		char text[ID128_TEXT_MAX];
		struct layer_info info;
		uint8_t id[16];
		if (strlen(d->d_name) != 32)
			continue;
		(void)snprintf(text, sizeof(text), "xxh128:%s", d->d_name);
		found = parse_id128(text, id, NULL) == 0 && layer_load(store, id, &info, NULL) == 0 && info.bytes == sums->bytes &&
			info.entries == sums->entries;
	}
	if (dir)
		(void)closedir(dir);
	return found;
}

bool import_dry(struct store *store, int dirfd, struct layer_info *ret)
{
	struct canonical_tree tree = {.root = dirfd, .max_bytes = IMPORT_MAX_BYTES, .max_entries = IMPORT_MAX_ENTRIES, .foreign = true, .sums_only = true};
	_cleanup_(hash_cleanup) struct hash *hash = NULL;
	struct layer_made made = {.packed = false};
	struct canonical sums;
	if (canonical_write(&tree, -1, NULL, &sums, NULL) < 0 || !any_like(store, &sums))
		return false;
	tree.sums_only = false;
	if (hash_new(&hash, NULL) < 0 || canonical_write(&tree, -1, hash, &sums, NULL) < 0 ||
		hash_final(hash, made.id, made.sha256, NULL) < 0)
		return false;
	/* An id that another tree has is refused by the import. */
	return layer_find(store, &made, ret, NULL) == 1;
}
