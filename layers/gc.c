/* Which go, and in which order; see the header. Root, in `petri gc` and `petri layer rm`. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "layers/gc_internal.h"
#include "layers/usage.h"

static void gc_clear(struct gc *gc)
{
	refs_clear(&gc->refs);
}

static int gc_begin(struct gc *gc, struct err *err)
{
	return refs_load(gc->store, &gc->refs, err);
}

void gc_removed(struct gc *gc, const struct gc_item *item, uint64_t bytes)
{
	char id[ID128_TEXT_MAX], what[64];
	if (item->blob)
		gc->sums->blobs++;
	else
		gc->sums->layers++;
	gc->sums->bytes += bytes;
	format_id128(item->id, id);
	(void)snprintf(what, sizeof(what), "%s %s", item->blob ? "blob" : "layer", id);
	if (gc->options->removed)
		gc->options->removed(gc->options->ctx, what, bytes);
}

/* Everything that no image and no pin keeps, the oldest use first. Whether a process uses it shows when it is locked. */
static bool is_candidate(const struct gc *gc, const struct gc_item *item)
{
	size_t at = 0;
	return !item->pinned && (item->blob || !refs_next(&gc->refs, item->id, &at));
}

static int older_first(const void *a, const void *b)
{
	const struct gc_item *x = a, *y = b;
	if (x->used.tv_sec != y->used.tv_sec)
		return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
	if (x->used.tv_nsec != y->used.tv_nsec)
		return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
	return memcmp(x->id, y->id, sizeof(x->id));
}

static int candidates(struct gc *gc, struct gc_list *ret, struct err *err)
{
	_cleanup_(gc_list_clear) struct gc_list layers = GC_LIST_INIT, blobs = GC_LIST_INIT;
	int r = gc_list_layers(gc->store, &layers, err);
	if (r == 0)
		r = gc_list_blobs(gc->store, &blobs, err);
	if (r < 0)
		return r;
	ret->items = calloc(layers.n + blobs.n + 1, sizeof(*ret->items));
	if (!ret->items)
		return err_set(err, ENOMEM, "list what can be removed");
	for (size_t i = 0; i < layers.n; i++)
		if (is_candidate(gc, &layers.items[i]))
			ret->items[ret->n++] = layers.items[i];
	for (size_t i = 0; i < blobs.n; i++)
		if (is_candidate(gc, &blobs.items[i]))
			ret->items[ret->n++] = blobs.items[i];
	qsort(ret->items, ret->n, sizeof(*ret->items), older_first);
	return 0;
}

/* items[0…n) in their order; layers are taken together as far as they follow each other. */
static int take(struct gc *gc, const struct gc_item *items, size_t n, struct err *err)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < n;) {
		size_t run = 1;
		if (items[i].blob) {
			gc_take_blob(gc, &items[i]);
		} else {
			while (run < GC_BATCH && i + run < n && !items[i + run].blob)
				run++;
			r = gc_take_layers(gc, &items[i], run, err);
		}
		i += run;
	}
	return r;
}

/* Used at `time` or later stays. A clock that was set back makes nothing old. */
static bool is_old(const struct gc_item *item, const struct timespec *now, uint64_t keep_s)
{
	return keep_s == 0 || (item->used.tv_sec <= now->tv_sec && (uint64_t)(now->tv_sec - item->used.tv_sec) >= keep_s);
}

static int measure(struct store *store, uint64_t *ret, struct err *err)
{
	static const char *const parts[] = {"blobs", "layers", "objects"};
	_cleanup_(usage_clear) struct usage usage = USAGE_INIT;
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++)
		r = usage_add(&usage, store->fd, parts[i], err);
	*ret = usage_all(&usage);
	return r;
}

/* No more than is needed is taken in a round: a layer frees at most what it takes. Files that others share make more rounds. */
static size_t enough(struct gc *gc, const struct gc_list *list, size_t at, uint64_t excess)
{
	uint64_t sum = 0;
	size_t n = 0;
	while (at + n < list->n && (n == 0 || sum < excess)) {
		const struct gc_item *item = &list->items[at + n++];
		struct usage usage = USAGE_INIT;
		char hex[33];
		format_hex(item->id, 16, hex);
		if (!item->blob && usage_add(&usage, gc->store->layers, hex, NULL) == 0)
			sum += usage_all(&usage);
		else
			sum += item->bytes;
		usage_clear(&usage);
	}
	return n;
}

static int shrink(struct gc *gc, const struct gc_list *list, size_t at, struct err *err)
{
	const struct gc_options *o = gc->options;
	for (;;) {
		int r = measure(gc->store, &gc->sums->size_bytes, err);
		/* A dry run has removed nothing of what it counted. */
		uint64_t size = gc->sums->size_bytes - (o->dry_run ? MIN(gc->sums->bytes, gc->sums->size_bytes) : 0);
		if (o->dry_run)
			gc->sums->size_bytes = size;
		if (r < 0 || size <= o->max_bytes || at == list->n)
			return r;
		size_t n = enough(gc, list, at, size - o->max_bytes);
		r = take(gc, &list->items[at], n, err);
		at += n;
		if (r == 0)
			r = gc_rest(gc, err);
		if (r < 0)
			return r;
	}
}

int gc_run(struct store *store, const struct gc_options *options, struct gc_sums *ret, struct err *err)
{
	_cleanup_(gc_clear) struct gc gc = {.store = store, .options = options, .sums = ret, .refs = REFS_INIT};
	_cleanup_(gc_list_clear) struct gc_list list = GC_LIST_INIT;
	struct timespec now;
	*ret = (struct gc_sums){.layers = 0};
	(void)clock_gettime(CLOCK_REALTIME, &now);
	int r = gc_begin(&gc, err);
	if (r == 0)
		r = candidates(&gc, &list, err);
	if (r < 0)
		return r;
	size_t old = 0; /* they are in order of use; those of the future are at the end */
	while (old < list.n && is_old(&list.items[old], &now, options->keep_s))
		old++;
	r = take(&gc, list.items, old, err);
	if (r == 0)
		r = gc_rest(&gc, err);
	if (r == 0 && options->max_bytes != UINT64_MAX)
		r = shrink(&gc, &list, old, err);
	return r;
}

int gc_remove_layer(struct store *store, const uint8_t id[16], struct err *err)
{
	static const struct gc_options options = {.max_bytes = UINT64_MAX};
	struct gc_sums sums = {.layers = 0};
	_cleanup_(gc_clear) struct gc gc = {.store = store, .options = &options, .sums = &sums, .refs = REFS_INIT};
	struct gc_item item = {.pinned = false};
	char text[ID128_TEXT_MAX];
	format_id128(id, text);
	int r = gc_begin(&gc, err);
	if (r == 0)
		r = gc_load_layer(store, id, &item, err);
	if (r < 0)
		return r;
	size_t at = 0;
	const char *image = refs_next(&gc.refs, id, &at);
	if (image)
		return err_say(err, EBUSY, "the layer %s is used by the image %s", text, image);
	if (item.pinned)
		return err_say(err, EBUSY, "the layer %s is pinned; `petri layer unpin` it first", text);
	r = gc_take_layers(&gc, &item, 1, err);
	if (r < 0)
		return r;
	if (sums.layers == 0)
		return err_say(err, EBUSY, "the layer %s is used by a running job, a waiting slot, an import or a verification", text);
	return gc_rest(&gc, err);
}
