/* References of images to layers; see the header. Root's verbs; the descriptions are root's own files. */
#include "layers/refs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static void image_drop(struct refs_image *image)
{
	free(image->name);
	free(image->layers);
	*image = (struct refs_image){.nlayers = 0};
}

void refs_clear(struct refs *refs)
{
	for (size_t i = 0; i < refs->n; i++)
		image_drop(&refs->images[i]);
	free(refs->images);
	*refs = REFS_INIT;
}

static int read_image(struct store *store, const char *name, struct refs_image *ret, struct err *err)
{
	_cleanup_(image_clear) struct image image = {.nlayers = 0};
	struct refs_image made = {.nlayers = 0};
	/* First the identity: what is replaced in between is read again by the next call. */
	int r = image_identify(store, name, &made.identity, err);
	if (r == 0)
		r = image_load(store, name, &image, err);
	if (r < 0)
		return r;
	made.name = strdup(name);
	made.nlayers = image.nlayers;
	made.layers = calloc(image.nlayers + 1, sizeof(*made.layers));
	if (!made.name || !made.layers) {
		image_drop(&made);
		return err_set(err, ENOMEM, "read the image %s", name);
	}
	memcpy(made.layers, image.layers, image.nlayers * sizeof(*made.layers));
	*ret = made;
	return 0;
}

static struct refs_image *find(const struct refs *refs, const char *name)
{
	for (size_t low = 0, high = refs->n; low < high;) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(refs->images[mid].name, name);
		if (c == 0)
			return &refs->images[mid];
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static bool same_identity(const struct image_identity *a, const struct image_identity *b)
{
	return a->inode == b->inode && a->size == b->size && a->changed.tv_sec == b->changed.tv_sec &&
		a->changed.tv_nsec == b->changed.tv_nsec;
}

/* Copy what is known, or read it. Return: 0, -ENOENT when it was removed meanwhile, or -errno. */
static int take(struct store *store, const char *name, const struct refs *before, struct refs_image *ret, struct err *err)
{
	struct image_identity now;
	const struct refs_image *old = find(before, name);
	int r = image_identify(store, name, &now, err);
	if (r < 0)
		return r;
	if (!old || !same_identity(&old->identity, &now))
		return read_image(store, name, ret, err);
	struct refs_image copy = {.name = strdup(name), .identity = now, .nlayers = old->nlayers};
	copy.layers = calloc(old->nlayers + 1, sizeof(*copy.layers));
	if (!copy.name || !copy.layers) {
		image_drop(&copy);
		return err_set(err, ENOMEM, "read the image %s", name);
	}
	memcpy(copy.layers, old->layers, old->nlayers * sizeof(*copy.layers));
	*ret = copy;
	return 0;
}

int refs_load(struct store *store, struct refs *refs, struct err *err)
{
	char **names = NULL;
	struct refs now = REFS_INIT;
	int r = image_list(store, &names, err);
	if (r < 0)
		return r;
	size_t count = 0;
	while (names[count])
		count++;
	now.images = calloc(count + 1, sizeof(*now.images));
	if (!now.images)
		r = err_set(err, ENOMEM, "read the images");
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = take(store, names[i], refs, &now.images[now.n], err);
		now.n += r == 0;
		if (r == -ENOENT)
			r = 0;
		if (r < 0)
			(void)err_wrap(err, "what the image %s needs is not known", names[i]);
	}
	image_list_free(names);
	if (r < 0) {
		refs_clear(&now);
		return r;
	}
	refs_clear(refs);
	*refs = now;
	return 0;
}

const char *refs_next(const struct refs *refs, const uint8_t id[16], size_t *at)
{
	while (*at < refs->n) {
		const struct refs_image *image = &refs->images[(*at)++];
		for (size_t i = 0; i < image->nlayers; i++)
			if (memcmp(image->layers[i], id, 16) == 0)
				return image->name;
	}
	return NULL;
}
