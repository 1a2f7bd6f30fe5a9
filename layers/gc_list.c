/* What there is in the store, and when it was used last. Root's verbs. Names that are none of ours are passed over. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "layers/gc_internal.h"
#include "layers/pin.h"
#include "layers/tree.h"
#include "layers/use.h"

#define NAMES_MAX 10000000u

static int append(struct gc_list *list, const struct gc_item *item)
{
	if (list->n == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		struct gc_item *bigger = reallocarray(list->items, cap, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		list->items = bigger;
		list->cap = cap;
	}
	list->items[list->n++] = *item;
	return 0;
}

void gc_list_clear(struct gc_list *list)
{
	free(list->items);
	*list = GC_LIST_INIT;
}

/* The last use of a layer that an earlier petri made is the time of its making. Return: 0, or -ENOENT when it went meanwhile. */
static int last_use(int layers, const char *hex, struct timespec *ret)
{
	static const char *const files[] = {("/" LAYER_USED), "/layer.json", ""};
	char path[33 + sizeof("/layer.json")];
	struct stat st;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		(void)snprintf(path, sizeof(path), "%s%s", hex, files[i]);
		if (fstatat(layers, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			*ret = st.st_mtim;
			return 0;
		}
	}
	return -ENOENT;
}

/* Return: 0, -ENOENT when there is no such layer, or -errno. */
static int load_item(struct store *store, const char *hex, struct gc_item *ret)
{
	struct gc_item item = {.blob = false};
	struct layer_info info = {.bytes = 0};
	if (!store_parse_hex(hex, item.id) || last_use(store->layers, hex, &item.used) < 0)
		return -ENOENT;
	item.damaged = layer_load(store, item.id, &info, NULL) < 0;
	item.bytes = info.bytes;
	item.entries = info.entries;
	int pinned = pin_there(store, item.id);
	if (pinned < 0)
		return pinned;
	item.pinned = pinned > 0;
	*ret = item;
	return 0;
}

int gc_load_layer(struct store *store, const uint8_t id[16], struct gc_item *ret, struct err *err)
{
	char hex[33];
	format_hex(id, 16, hex);
	int r = load_item(store, hex, ret);
	if (r == -ENOENT)
		return err_say(err, ENOENT, "there is no layer xxh128:%s", hex);
	return r < 0 ? err_set(err, r, "look at the layer xxh128:%s", hex) : r;
}

int gc_list_layers(struct store *store, struct gc_list *ret, struct err *err)
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	_cleanup_(gc_list_clear) struct gc_list list = GC_LIST_INIT;
	int r = tree_list(store->layers, NAMES_MAX, &names);
	if (r < 0)
		return err_set(err, r, "list the layers");
	for (size_t i = 0; i < names.count; i++) {
		struct gc_item item;
		r = load_item(store, names.names[i], &item);
		if (r == -ENOENT)
			continue;
		if (r == 0)
			r = append(&list, &item);
		if (r < 0)
			return err_set(err, r, "list the layers");
	}
	*ret = list;
	list = GC_LIST_INIT;
	return 0;
}

static int list_fan(struct store *store, int fan, struct gc_list *list)
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	int r = tree_list(fan, NAMES_MAX, &names);
	for (size_t i = 0; r >= 0 && i < names.count; i++) {
		struct gc_item item = {.blob = true, .entries = 1};
		struct stat st;
		if (!store_parse_hex(names.names[i], item.id) || fstatat(fan, names.names[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		item.damaged = !S_ISREG(st.st_mode);
		item.bytes = (uint64_t)st.st_size;
		item.used = st.st_mtim;
		r = pin_there(store, item.id);
		item.pinned = r > 0;
		if (r >= 0)
			r = append(list, &item);
	}
	return r < 0 ? r : 0;
}

/* blobs/ is the worker's: what lies there may be anything. */
int gc_list_blobs(struct store *store, struct gc_list *ret, struct err *err)
{
	_cleanup_(tree_names_clear) struct tree_names fans = TREE_NAMES_INIT;
	_cleanup_(gc_list_clear) struct gc_list list = GC_LIST_INIT;
	int r = tree_list(store->blobs, NAMES_MAX, &fans);
	for (size_t i = 0; r == 0 && i < fans.count; i++) {
		if (!store_is_hex(fans.names[i], 2))
			continue;
		_cleanup_close_ int fan = tree_open_dir(store->blobs, fans.names[i]);
		if (fan >= 0)
			r = list_fan(store, fan, &list);
	}
	if (r < 0)
		return err_set(err, r, "list the blobs");
	*ret = list;
	list = GC_LIST_INIT;
	return 0;
}
