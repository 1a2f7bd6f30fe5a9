/* How much images take, and how much of that each has for itself. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "layers/store.h"

struct use {
	uint8_t id[16];
	size_t image;
};

static int compare_uses(const void *a, const void *b)
{
	return memcmp(((const struct use *)a)->id, ((const struct use *)b)->id, sizeof(((struct use *)0)->id));
}

/* Uses of one layer, by one image or several; an image has no layer twice. */
static void count_layer(struct store *store, const struct use *uses, size_t n, struct image_size *sizes)
{
	struct layer_info info = {.bytes = 0};
	int r = layer_load(store, uses[0].id, &info, NULL);
	for (size_t i = 0; i < n; i++) {
		struct image_size *size = &sizes[uses[i].image];
		if (r < 0) {
			size->error = r;
			continue;
		}
		size->bytes += info.bytes;
		if (n == 1)
			size->own += info.bytes;
	}
}

int image_sizes(struct store *store, char *const *names, size_t n, struct image_size *ret, struct err *err)
{
	_cleanup_free_ struct use *uses = NULL;
	size_t count = 0, cap = 0;
	for (size_t i = 0; i < n; i++) {
		_cleanup_(image_clear) struct image image = {.nlayers = 0};
		ret[i] = (struct image_size){.error = image_load(store, names[i], &image, NULL)};
		if (ret[i].error)
			continue;
		ret[i].layers = image.nlayers;
		if (count + image.nlayers > cap) {
			cap = cap * 2 + IMAGE_LAYERS_MAX;
			struct use *bigger = reallocarray(uses, cap, sizeof(*uses));
			if (!bigger)
				return err_set(err, ENOMEM, "measure the images");
			uses = bigger;
		}
		for (size_t k = 0; k < image.nlayers; k++) {
			memcpy(uses[count].id, image.layers[k], sizeof(uses[count].id));
			uses[count++].image = i;
		}
	}
	if (count > 1)
		qsort(uses, count, sizeof(*uses), compare_uses);
	for (size_t i = 0, next; i < count; i = next) {
		for (next = i + 1; next < count && compare_uses(&uses[i], &uses[next]) == 0;)
			next++;
		count_layer(store, uses + i, next - i, ret);
	}
	return 0;
}
