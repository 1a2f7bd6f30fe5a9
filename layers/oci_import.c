/*
 * Imports of container images: OCI image layouts and docker-save archives. Runs as root, which follows the chain
 *
 *   index.json ─▶ [index ─▶ …] ─▶ manifest ─▶ configuration, layers        manifest.json ─▶ configuration, layers
 *
 * but reads none of it itself: each document goes to a helper (oci_helper.c), and each layer to layer_import(). Names of blobs are made
 * of the 32 bytes of their digest, so that no text of a stranger's becomes a path; docker's names do, and are opened beneath the directory
 * or looked up in the archive's index. Every blob is compared with its digest; of docker-save's, which has none for the layers, the
 * uncompressed tars are compared with those of the configuration.
 */
#include "layers/oci_import.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define DIGEST_TEXT_MAX (sizeof("sha256:") + 64)
#define BLOB_NAME_MAX (sizeof("blobs/sha256/") + 64)

struct import {
	const struct oci_bundle *bundle;
	const struct image_import *request;
	struct image *image;
	struct oci_held *held;
	size_t nlayers;
	uint8_t diff_ids[IMAGE_LAYERS_MAX][32];
	struct image_progress progress;
};

static void digest_text(const uint8_t sha256[32], char ret[DIGEST_TEXT_MAX])
{
	format_hex(sha256, 32, stpcpy(ret, "sha256:"));
}

static void blob_name(const uint8_t sha256[32], char ret[BLOB_NAME_MAX])
{
	format_hex(sha256, 32, stpcpy(ret, "blobs/sha256/"));
}

/* ---- layers ---- */

void oci_held_clear(struct oci_held *held)
{
	for (size_t i = 0; i < held->count; i++)
		layer_info_release(&held->layers[i]);
	held->count = 0;
}

static void remove_layer(struct image *image, size_t i)
{
	memmove(image->layers[i], image->layers[i + 1], sizeof(image->layers[0]) * (image->nlayers - i - 1));
	image->nlayers--;
}

int oci_held_add(struct oci_held *held, struct image *image, struct layer_info *layer, struct err *err)
{
	if (held->count == IMAGE_LAYERS_MAX) {
		layer_info_release(layer);
		return err_say(err, E2BIG, "more than %d layers", IMAGE_LAYERS_MAX);
	}
	held->layers[held->count++] = *layer;
	if (layer->opaque)
		image->nlayers = 0;
	/* Overlay refuses the same directory twice. Where a layer comes again higher up, its lower place shows nothing that the
	 * higher one does not show as well. */
	for (size_t i = 0; i < image->nlayers; i++)
		if (memcmp(image->layers[i], layer->id, sizeof(layer->id)) == 0)
			remove_layer(image, i--);
	memcpy(image->layers[image->nlayers++], layer->id, sizeof(layer->id));
	return 0;
}

static void tell(struct import *import)
{
	if (import->request->progress)
		import->request->progress(import->request->ctx, &import->progress);
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct import *import = ctx;
	import->progress.done = done;
	if (total)
		import->progress.total = total;
	tell(import);
}

/* @sha256: of the part's own bytes, or NULL where only those of the tar in it are known. */
static int import_layer(struct import *import, size_t i, const struct oci_part *part, const uint8_t *sha256, struct err *err)
{
	char sha[65], diff[65];
	struct layer_info layer = {.bytes = 0};
	if (part->size == 0)
		return err_say(err, EINVAL, "it is empty");
	if (sha256)
		format_hex(sha256, 32, sha);
	format_hex(import->diff_ids[i], 32, diff);
	import->progress.layer = (unsigned)i + 1;
	import->progress.done = 0;
	import->progress.total = part->size;
	import->progress.state = IMAGE_LAYER_READING;
	digest_text(sha256 ? sha256 : import->diff_ids[i], import->progress.digest);
	tell(import);
	const struct layer_source source = {.fd = part->fd,
		.offset = part->offset,
		.size = part->size,
		.oci = true,
		.sha256 = sha256 ? sha : NULL,
		.diff_id = diff,
		.progress = on_progress,
		.ctx = import};
	int r = layer_import(import->bundle->helper->store, &source, &layer, err);
	if (r < 0)
		return r;
	import->progress.state = layer.existed ? IMAGE_LAYER_EXISTED : IMAGE_LAYER_STORED;
	import->progress.done = import->progress.total;
	tell(import);
	return oci_held_add(import->held, import->image, &layer, err);
}

static int wrap_layer(const struct import *import, size_t i, const char *what, struct err *err)
{
	return err_wrap(err, "layer %zu of %zu (%.80s)", i + 1, import->nlayers, what);
}

/* ---- the configuration ---- */

static int read_config(struct import *import, const char *text, size_t len, struct err *err)
{
	size_t n = 0;
	int r = oci_helper_config(import->bundle->helper, text, len, import->image, import->diff_ids, &n, err);
	if (r < 0)
		return err_wrap(err, "the image's configuration");
	if (n != import->nlayers)
		return err_say(err, EINVAL, "the image's configuration: rootfs.diff_ids has %zu layers, the manifest has %zu", n, import->nlayers);
	return 0;
}

static int set_digest(struct image *image, const uint8_t sha256[32], struct err *err)
{
	char text[DIGEST_TEXT_MAX];
	digest_text(sha256, text);
	image->digest = strdup(text);
	return image->digest ? 0 : err_set(err, ENOMEM, "describe the image");
}

/* ---- OCI image layouts ---- */

static int read_blob(const struct oci_bundle *b, const struct oci_descriptor *d, size_t max, char **ret, size_t *ret_len, struct err *err)
{
	char name[BLOB_NAME_MAX];
	uint8_t sha256[32];
	blob_name(d->sha256, name);
	return oci_bundle_read(b, name, max, d, ret, ret_len, sha256, err);
}

static int wrap_blob(const struct oci_descriptor *d, const char *what, struct err *err)
{
	char text[DIGEST_TEXT_MAX];
	digest_text(d->sha256, text);
	return err_wrap(err, "%s %s", what, text);
}

/* One manifest list within another: what does the next say? */
static int step(const struct oci_bundle *b, struct oci_want *want, struct oci_descriptor *d, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	struct oci_descriptor next;
	int r = read_blob(b, d, OCI_INDEX_MAX, &text, &len, err);
	if (r < 0)
		return r;
	r = oci_helper_index(b->helper, text, len, want, &next, err);
	if (r < 0)
		return wrap_blob(d, "the index", err);
	*d = next;
	return 0;
}

static int find_manifest(const struct oci_bundle *b, const char *ref, struct oci_descriptor *ret, struct err *err)
{
	struct oci_want want = {.os = "linux", .architecture = oci_machine()};
	struct oci_descriptor chain[OCI_NESTING_MAX], d;
	_cleanup_free_ char *text = NULL;
	uint8_t sha256[32];
	size_t len = 0;
	(void)snprintf(want.ref, sizeof(want.ref), "%s", ref ? ref : "");
	int r = oci_bundle_read(b, "index.json", OCI_INDEX_MAX, NULL, &text, &len, sha256, err);
	if (r < 0)
		return r;
	r = oci_helper_index(b->helper, text, len, &want, &d, err);
	if (r < 0)
		return err_wrap(err, "index.json");
	want.ref[0] = '\0'; /* names stand at the top only; below there are platforms */
	for (size_t level = 1; d.is_index; level++) {
		if (level == OCI_NESTING_MAX)
			return err_say(err, ELOOP, "index.json: indexes lie within indexes more than %u deep", OCI_NESTING_MAX);
		for (size_t i = 1; i < level; i++)
			if (memcmp(chain[i].sha256, d.sha256, sizeof(d.sha256)) == 0) {
				(void)err_say(err, ELOOP, "it contains itself");
				return wrap_blob(&d, "the index", err);
			}
		chain[level] = d;
		r = step(b, &want, &d, err);
		if (r < 0)
			return r;
	}
	*ret = d;
	return 0;
}

static int import_oci_layer(struct import *import, size_t i, const struct oci_descriptor *d, struct err *err)
{
	_cleanup_(oci_part_clear) struct oci_part part = OCI_PART_INIT;
	char name[BLOB_NAME_MAX];
	blob_name(d->sha256, name);
	int r = oci_bundle_find(import->bundle, name, &part, err);
	if (r == 0 && part.size != d->size)
		r = err_say(err, EBADMSG, "it has %" PRIu64 " bytes, and should have %" PRIu64, part.size, d->size);
	if (r == 0)
		r = import_layer(import, i, &part, d->sha256, err);
	return r < 0 ? wrap_layer(import, i, name + strlen("blobs/"), err) : 0;
}

static int import_layout(struct import *import, struct err *err)
{
	const struct oci_bundle *b = import->bundle;
	_cleanup_free_ char *text = NULL, *config = NULL;
	struct oci_descriptor d;
	struct oci_manifest manifest = {.nlayers = 0};
	size_t len = 0;
	int r = find_manifest(b, import->request->ref, &d, err);
	if (r == 0)
		r = read_blob(b, &d, OCI_INDEX_MAX, &text, &len, err);
	if (r < 0)
		return r;
	r = oci_helper_manifest(b->helper, text, len, &manifest, err);
	if (r < 0)
		return wrap_blob(&d, "the manifest", err);
	import->nlayers = manifest.nlayers;
	r = read_blob(b, &manifest.config, OCI_CONFIG_MAX, &config, &len, err);
	if (r == 0)
		r = read_config(import, config, len, err);
	if (r == 0)
		r = set_digest(import->image, d.sha256, err);
	import->progress.layers = (unsigned)import->nlayers;
	for (size_t i = 0; r == 0 && i < import->nlayers; i++)
		r = import_oci_layer(import, i, &manifest.layers[i], err);
	return r;
}

/* ---- docker-save ---- */

/* Where a name in docker's manifest says the digest of its file, that must hold: "<64 hex digits>.json" or "blobs/sha256/<64 hex digits>". */
static bool digest_of_name(const char *name, char ret[65])
{
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	size_t len = strlen(base);
	bool blob = len == 64 && base == name + 13 && strncmp(name, "blobs/sha256/", 13) == 0;
	bool json = len == 64 + 5 && memcmp(base + 64, ".json", 5) == 0;
	if ((!blob && !json) || strspn(base, "0123456789abcdef") != 64)
		return false;
	memcpy(ret, base, 64);
	ret[64] = '\0';
	return true;
}

static int read_docker_config(struct import *import, const char *name, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	uint8_t sha256[32];
	char said[65], is[65];
	int r = oci_bundle_read(import->bundle, name, OCI_CONFIG_MAX, NULL, &text, &len, sha256, err);
	if (r < 0)
		return r;
	format_hex(sha256, 32, is);
	if (digest_of_name(name, said) && strcmp(said, is) != 0)
		return err_say(err, EBADMSG, "'%.200s' is damaged: its SHA-256 is another one", name);
	r = read_config(import, text, len, err);
	return r < 0 ? r : set_digest(import->image, sha256, err);
}

/* A layer that is not compressed is the tar of its diff_id. */
static bool is_plain(const struct oci_part *part)
{
	uint8_t head[6] = {0};
	if (pread(part->fd, head, sizeof(head), (off_t)part->offset) != (ssize_t)sizeof(head))
		return false;
	return memcmp(head, "\x1f\x8b", 2) != 0 && memcmp(head, "\x28\xb5\x2f\xfd", 4) != 0 && memcmp(head, "\xfd"
													    "7zXZ\0",
												       6) != 0;
}

static int import_docker_layer(struct import *import, size_t i, const char *name, struct err *err)
{
	_cleanup_(oci_part_clear) struct oci_part part = OCI_PART_INIT;
	int r = oci_bundle_find(import->bundle, name, &part, err);
	if (r == 0)
		r = import_layer(import, i, &part, is_plain(&part) ? import->diff_ids[i] : NULL, err);
	return r < 0 ? wrap_layer(import, i, name, err) : 0;
}

static int import_docker(struct import *import, struct err *err)
{
	static const char manifest_name[] = "manifest.json";
	const struct oci_bundle *b = import->bundle;
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ struct docker_manifest *manifest = malloc(sizeof(*manifest));
	uint8_t sha256[32];
	size_t len = 0;
	if (!manifest)
		return err_set(err, ENOMEM, "read %s", manifest_name);
	int r = oci_bundle_read(b, manifest_name, OCI_INDEX_MAX, NULL, &text, &len, sha256, err);
	if (r < 0)
		return r;
	r = oci_helper_docker(b->helper, text, len, import->request->ref ? import->request->ref : "", manifest, err);
	if (r < 0)
		return err_wrap(err, "%s", manifest_name);
	import->nlayers = manifest->nlayers;
	r = read_docker_config(import, manifest->config, err);
	import->progress.layers = (unsigned)import->nlayers;
	for (size_t i = 0; r == 0 && i < import->nlayers; i++)
		r = import_docker_layer(import, i, manifest->layers[i], err);
	return r;
}

int oci_import(const struct oci_bundle *bundle, const struct image_import *request, struct image *image, struct oci_held *held, struct err *err)
{
	struct import import = {.bundle = bundle, .request = request, .image = image, .held = held};
	if (request->ref && strlen(request->ref) >= OCI_REF_MAX)
		return err_say(err, ENAMETOOLONG, "the reference '%.60s…' is too long", request->ref);
	return bundle->kind == OCI_KIND_DOCKER ? import_docker(&import, err) : import_layout(&import, err);
}
