/*
 * What a container image's files say, as plain structs. The parsers here are pure (bytes in, struct out): they run in a helper
 * (oci_helper.h), since the bytes are a stranger's, and in the fuzz target. Every struct is of a fixed size and without pointers, so
 * that the helper can hand it over in shared memory, and so that its reader can take it as hostile.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "layers/store.h"

#define OCI_INDEX_MAX (4u << 20)  /* bytes of index.json, of a manifest list, of a manifest, of docker's manifest.json */
#define OCI_CONFIG_MAX (8u << 20) /* bytes of an image's configuration */
#define OCI_VALUES_MAX 65536u	  /* JSON values in one document: bounds the parser's memory to some 30 MiB */
#define OCI_DEPTH_MAX 32u	  /* JSON arrays and objects within each other */
#define OCI_NESTING_MAX 4u	  /* manifest lists within each other, index.json included */
#define OCI_REF_MAX 256u	  /* bytes of a reference or tag, with the NUL */
#define OCI_NAME_MAX 256u	  /* bytes of a file's name in an archive, with the NUL */
#define OCI_WORDS_MAX 4096u	  /* strings in Env, Entrypoint, Cmd each */
#define OCI_TEXT_MAX (256u << 10) /* bytes of all of a configuration's strings, NULs included */
#define OCI_NO_TEXT UINT32_MAX

/* What is looked for in an index. */
struct oci_want {
	char ref[OCI_REF_MAX]; /* a name or tag, or "" */
	const char *os, *architecture;
};
/* oci_machine - this machine's name in image indexes: "amd64", "arm64". */
const char *oci_machine(void);

struct oci_descriptor {
	uint8_t sha256[32];
	uint64_t size;
	uint32_t is_index; /* of manifests, rather than a manifest */
	uint32_t reserved;
};

/* oci_index_parse - choose one manifest of an index: by want->ref, else the only one, else by platform. -ENOENT when none fits, -EINVAL. */
int oci_index_parse(const char *text, size_t len, const struct oci_want *want, struct oci_descriptor *ret, struct err *err);

struct oci_manifest {
	struct oci_descriptor config;
	uint32_t nlayers, reserved;
	struct oci_descriptor layers[IMAGE_LAYERS_MAX]; /* lowest first */
};
/* oci_manifest_parse - -E2BIG with more than IMAGE_LAYERS_MAX layers, -EOPNOTSUPP for layers that cannot be read (foreign, encrypted). */
int oci_manifest_parse(const char *text, size_t len, struct oci_manifest *ret, struct err *err);

/* `count` strings one after the other, each with its NUL, from text + at on. */
struct oci_words {
	uint32_t present, count, at;
};
struct oci_config {
	uint32_t ndiff_ids;
	uint8_t diff_ids[IMAGE_LAYERS_MAX][32]; /* SHA-256 of the uncompressed tars, lowest first */
	struct oci_words env, entrypoint, cmd;
	uint32_t cwd, user, platform; /* where in text, or OCI_NO_TEXT */
	uint32_t text_len;
	char text[OCI_TEXT_MAX];
};
/* oci_config_parse - an image's configuration, of OCI or Docker. */
int oci_config_parse(const char *text, size_t len, struct oci_config *ret, struct err *err);

/* One image of docker's manifest.json: names of files beside it. */
struct docker_manifest {
	char config[OCI_NAME_MAX];
	uint32_t nlayers, reserved;
	char layers[IMAGE_LAYERS_MAX][OCI_NAME_MAX];
};
/* docker_manifest_parse - choose by ref ("" : the only one): "name:tag", or the tag alone. */
int docker_manifest_parse(const char *text, size_t len, const char *ref, struct docker_manifest *ret, struct err *err);

/* ---- archives ---- */

enum oci_kind {
	OCI_KIND_TREE, /* nothing of an image: a root file system, or no tar at all */
	OCI_KIND_LAYOUT,
	OCI_KIND_DOCKER,
	OCI_KIND_MAX
};
enum oci_packing {
	OCI_PACKING_NONE,
	OCI_PACKING_COMPRESSED, /* gzip, zstd or xz */
	OCI_PACKING_MAX
};

#define OCI_FILES_MAX 16384u

struct oci_file {
	uint64_t offset, size; /* of the content in the archive */
	char name[OCI_NAME_MAX];
	char link[OCI_NAME_MAX]; /* while indexing: where a link leads */
};
struct oci_archive {
	uint32_t kind, packing;
	uint32_t count, reserved;
	struct oci_file files[OCI_FILES_MAX]; /* in the archive's order; of equal names the last is meant */
};

/*
 * oci_tar_index - what an uncompressed tar holds and where, in ret->files, if it is an archive of an image. Reads headers only, by pread(2).
 * @size: bytes of the file. Damage is an error only in what is one; anything else is OCI_KIND_TREE, for layer_import() to judge.
 */
int oci_tar_index(int fd, uint64_t size, struct oci_archive *ret, struct err *err);
/*
 * oci_tar_peek - the kind of a compressed tar: reads until that is clear, all of it if need be, but no more than OCI_PEEK_MAX uncompressed
 * bytes of what has no name that an image has. @max: of what has one; more is -EFBIG. Moves the file offset.
 */
#define OCI_PEEK_MAX (64u << 20)
int oci_tar_peek(int fd, uint64_t max, struct oci_archive *ret, struct err *err);
/* oci_tar_decompress - gzip, zstd or xz from fd (its offset on) into out. More than max bytes is -EFBIG. */
int oci_tar_decompress(int fd, int out, uint64_t max, struct err *err);

/* What tells an archive of an image from a root file system; the names of its entries, one after the other. */
struct oci_marks {
	bool layout, index, manifest, parts, root;
	unsigned others;
};
/* oci_marks_note - one more name. Return: whether it is clear by now that this is no image. */
bool oci_marks_note(struct oci_marks *marks, const char *name, bool regular);
enum oci_kind oci_marks_kind(const struct oci_marks *marks);
