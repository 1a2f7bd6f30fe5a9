/* From the files of a container image to layers and defaults. Not for other folders. */
#pragma once

#include "layers/oci_bundle.h"

/* The layers of an image in the making, held (layer_info_release()) until its description names them. */
struct oci_held {
	size_t count;
	struct layer_info layers[IMAGE_LAYERS_MAX];
};
void oci_held_clear(struct oci_held *held);

/*
 * oci_import - the image of bundle->kind OCI_KIND_LAYOUT or OCI_KIND_DOCKER: check it, import its layers, fill *image (layers, env, cwd,
 * entrypoint, cmd, user, platform, digest) and *held. What was filled in before an error is the caller's to clear.
 */
int oci_import(const struct oci_bundle *bundle, const struct image_import *request, struct image *image, struct oci_held *held, struct err *err);

/* oci_held_add - one more layer above the others, as overlay wants them: without repetition, and nothing beneath an opaque root. */
int oci_held_add(struct oci_held *held, struct image *image, struct layer_info *layer, struct err *err);
