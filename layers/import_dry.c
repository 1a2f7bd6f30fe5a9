/*
 * A directory whose tree is a layer already costs only its reading: it is described where it lies, as an import would describe
 * it. First its sums, for which no file is opened; only when some layer has the same are the contents read. In the
 * caller, which may read the directory whatever its modes are; nothing is parsed. Should it change meanwhile, what was read is
 * what counts. Whatever stands in the way here is for the import itself to meet, and to name.
 */
#include "base/cleanup.h"
#include "layers/canonical.h"
#include "layers/import.h"
#include "layers/layer.h"
#include "layers/store_internal.h"

#define NAMES_MAX 10000000u

/* Whether some layer has so many bytes and entries. */
static bool any_like(struct store *store, const struct canonical *sums)
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	bool found = false;
	if (tree_list(store->layers, NAMES_MAX, &names) < 0)
		return false;
	for (size_t i = 0; i < names.count && !found; i++) {
		struct layer_info info;
		uint8_t id[16];
		found = store_parse_hex(names.names[i], id) && layer_load(store, id, &info, NULL) == 0 && info.bytes == sums->bytes &&
			info.entries == sums->entries;
	}
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
