/* The parsers of oci.h in helpers (jail.h), one helper a document. Called by root; what comes back is checked and safe to use. */
#pragma once

#include "layers/layer.h"
#include "layers/oci.h"

struct oci_helper {
	struct store *store;
	struct layer_temp temp;
	int root; /* the helpers' root directory, in temp: empty */
};

int oci_helper_open(struct store *store, struct oci_helper *ret, struct err *err);
void oci_helper_clear(struct oci_helper *helper);

int oci_helper_index(struct oci_helper *h, const char *text, size_t len, const struct oci_want *want, struct oci_descriptor *ret, struct err *err);
int oci_helper_manifest(struct oci_helper *h, const char *text, size_t len, struct oci_manifest *ret, struct err *err);
int oci_helper_docker(struct oci_helper *h, const char *text, size_t len, const char *ref, struct docker_manifest *ret, struct err *err);
/* oci_helper_config - into *image: env, entrypoint, cmd, cwd, user and platform, which the caller frees. */
int oci_helper_config(struct oci_helper *h, const char *text, size_t len, struct image *image, uint8_t (*ret_diff_ids)[32], size_t *ret_ndiff_ids,
	struct err *err);

/* oci_helper_archive - what kind of archive fd is; *ret is a mapping, released by oci_archive_free(). */
int oci_helper_archive(struct oci_helper *h, int fd, struct oci_archive **ret, struct err *err);
void oci_archive_free(struct oci_archive *archive);
/* oci_helper_decompress - fd's content, decompressed, as a nameless file of the store's filesystem. Return: its fd (caller owns) or -errno. */
int oci_helper_decompress(struct oci_helper *h, int fd, struct err *err);
