/*
 * The content-addressed store: blobs, layers and images beneath one state directory (mode 0700).
 *
 *   blobs/ab/abcdef…      content-addressed files, owned by the worker's uid (STORE_WORKER_UID)
 *   layers/<hex>/         diff/ (unpacked tree, on-disk ids shifted by STORE_UID_BASE), tree (its canonical description),
 *                         layer.json, pack (small ones), used (its time is the last use, its lock says "in use")
 *   layers/by-source/     what became of imported archives, by their SHA-256
 *   objects/ab/abcdef…    files that several layers have, hard-linked
 *   images/<name>.json    ordered layer ids, env, cwd, entrypoint, cmd
 *   slots/<n>/            the pool's; the store only creates `slots`
 *
 * All access goes through directory fds opened once, so that a worker that has dropped its privileges keeps
 * exactly what it was given.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/err.h"
#include "base/parse.h"

/* Host ids of petri's own range. The first 65536 are the store's and the worker's; slot n's job ids follow at
 * STORE_UID_BASE + (n + 1) * 65536 (the pool's business). systemd's containers end below, at 0x6fffffff. */
#define STORE_UID_BASE 0x70000000u
#define STORE_UID_COUNT 65536u
#define STORE_JOB_UID 1000u	     /* the job's user, inside every sandbox */
#define STORE_WORKER_UID 0x7ffd0000u /* the unprivileged worker's uid and gid: outside every mapped range */

struct store;

/*
 * store_open - open (as root also create) the store at path.
 * Creates blobs, blobs/tmp, layers, layers/tmp, images, slots and the secret that salts job-made ids.
 * Refuses a path that is a symlink, not owned by the caller, or writable by others.
 */
int store_open(const char *path, struct store **ret, struct err *err);
void store_free(struct store *store);
static inline void store_cleanup(struct store **store) /* for _cleanup_() */
{
	store_free(*store);
}

int store_fd(const struct store *store);	/* the state directory; borrowed */
int store_layers_fd(const struct store *store); /* borrowed */
const char *store_path(const struct store *store);

/* store_sweep - remove the temporary trees and files that a crash left behind. Those in use are locked and stay. As root.
 * Return: how many. */
uint64_t store_sweep(struct store *store);
/* store_settle - make commits durable that are not yet, and remove those that the machine's stop has overtaken. As root, at a worker's
 * start and end: it may wait for the disk. */
void store_settle(struct store *store);
/* store_warm - pay the one-time set-up of the hashes (1.5 ms) now instead of at the first commit or blob. */
void store_warm(void);

/* ---- blobs ---- */
enum store_origin {
	STORE_UPLOAD, /* an operator's upload: the plain XXH3-128 of the content */
	STORE_JOB,    /* made by a job: XXH3-128(secret || SHA-256), so that no job can take an honest upload's id */
};

/*
 * blob_put_fd - stream src (from its current offset) into the store. Usable by the unprivileged worker.
 * @max: more bytes than this is -EFBIG and stores nothing. An id that is already there is compared byte for byte:
 * equal content is shared, different content is -EEXIST and logged. Temporary file, then link(2)/rename(2).
 * Bytes are read only up to max + 1, whatever st_size says.
 */
int blob_put_fd(struct store *store, int src, uint64_t max, enum store_origin origin, uint8_t ret_id[16],
	uint64_t *ret_bytes, struct err *err);
int blob_put_data(struct store *store, const void *data, size_t len, enum store_origin origin, uint8_t ret_id[16],
	struct err *err);
/* blob_open - a read-only fd. Return: the fd (caller owns), -ENOENT, -EUCLEAN when a power cut damaged it, or another
 * -errno. */
int blob_open(struct store *store, const uint8_t id[16], uint64_t *ret_bytes, struct err *err);
/* blob_sha256 - the recorded SHA-256 of the content as 64 hex digits. */
int blob_sha256(struct store *store, const uint8_t id[16], char ret_hex[65], struct err *err);

/* ---- layers ---- */
struct layer_info {
	uint8_t id[16];
	uint64_t bytes; /* of regular files, each inode once */
	uint64_t entries;
	bool has_pack; /* only regular files and directories under one directory of the job's (commit), small enough
			* to be delivered as files: layers/<hex>/pack exists (base/pack.h) */
	bool opaque;   /* the root hides all that lies beneath (OCI): an image needs no layers below this one */
	bool existed;  /* from an import or commit: it was in the store already */
	int held;      /* from an import: an fd, always > 2, whose lock keeps gc away; 0: none. See layer_info_release() */
};

/* layer_info_release - let go of the lock. Once an image names the layer, that keeps it. Does nothing to a zeroed one. */
void layer_info_release(struct layer_info *info);

#define LAYER_PACK_MAX_BYTES (16u << 20)
#define LAYER_PACK_MAX_ENTRIES 256u

/* What an import reads. */
struct layer_source {
	int fd;		       /* a directory, or a file that holds the archive from `offset` on; borrowed */
	uint64_t offset, size; /* of the archive in the file, in bytes; size 0: to the end of the file */
	bool oci;	       /* names beginning with .wh. are whiteouts; archives only */
	const char *sha256;    /* 64 hex digits that the raw bytes must have, or NULL */
	const char *diff_id;   /* 64 hex digits of the uncompressed tar (OCI rootfs.diff_ids), or NULL */
	/* Called now and then in the caller while it reads; total is 0 where it is not known. Or NULL. */
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

/*
 * layer_import - make a layer of a directory (owned by host ids as found) or of a tar (plain, gzip, zstd, xz).
 * docs/store.md says what a layer keeps and what it drops, and the bounds. Refused, naming the entry: absolute paths,
 * "..", paths through a link, hard links to anything but a file of the same tree, owners out of 0..65535.
 * A tree that is stored already is shared; -EEXIST when another one has the same id; -EBADMSG when a digest differs.
 * Parsing and writing happen in two children without rights: own user namespaces mapped onto the store's range,
 * empty network namespaces, seccomp, closed fds. Nothing is stored unless all of it was good. Call as root.
 * The layer in *ret is held: gc leaves it alone until layer_info_release() or the end of the process.
 */
int layer_import(struct store *store, const struct layer_source *source, struct layer_info *ret, struct err *err);

/* layer_import_dir, layer_import_tar - layer_import() of all of it, without digests and progress. */
int layer_import_dir(struct store *store, int dirfd, struct layer_info *ret, struct err *err);
int layer_import_tar(struct store *store, int fd, struct layer_info *ret, struct err *err);

struct layer_commit {
	int dirfd;	    /* the directory inside a finished job's root; walked without following links */
	const char *prefix; /* where it lies in the sandbox: "/work" */
	uid_t uid_base;	    /* host uid of the slot's root: its range of 65536 is mapped back to the store's */
	uint64_t max_bytes;
	uint64_t max_entries;
};
/*
 * layer_commit - make a layer of a job's directory: ids salted (STORE_JOB), all files the job user's and of one fixed
 * time (the same outputs are the same layer), hard links copied, symbolic links kept, everything else skipped. It has a
 * pack when it is small, lies under /work and the job's user could write it. Not synced: a power cut may lose it.
 * -EFBIG past a bound (holes count). Call as root, the job's processes being gone.
 */
int layer_commit(struct store *store, const struct layer_commit *commit, struct layer_info *ret, struct err *err);

/* layer_load - what layer.json says. Usable by the unprivileged worker. Return: 0, -ENOENT, or -errno. */
int layer_load(struct store *store, const uint8_t id[16], struct layer_info *ret, struct err *err);
/* layer_open_pack - read-only fd of the pack; -ENOENT when there is none. */
int layer_open_pack(struct store *store, const uint8_t id[16], struct err *err);
/* layer_sha256 - the recorded SHA-256 of the canonical serialisation, as 64 hex digits. */
int layer_sha256(struct store *store, const uint8_t id[16], char ret_hex[65], struct err *err);

/* ---- images ---- */
#define IMAGE_LAYERS_MAX 64
#define IMAGE_NAME_MAX 128

/*
 * What an image says of its runtime, an interpreter that waits for the job (docs/runtimes.md): the name of one that comes with petri,
 * or its command line and the argv[0]s that it stands in for. All NULL: it has none.
 */
struct image_runtime {
	char *shipped;
	char **argv, **serves; /* NULL-terminated */
};
#define IMAGE_RUNTIME_NAME_MAX 32
#define IMAGE_RUNTIME_WORDS_MAX 64
#define IMAGE_RUNTIME_BYTES_MAX (16u << 10) /* of argv and of serves, NULs included */

struct image {
	char name[IMAGE_NAME_MAX + 1];
	bool host_usr; /* the built-in `host`: the machine's own /usr is shown at /usr */
	size_t nlayers;
	uint8_t layers[IMAGE_LAYERS_MAX][16]; /* lowest first */
	char **env;			      /* NULL-terminated, or NULL */
	char **entrypoint;		      /* NULL-terminated, or NULL */
	char **cmd;
	char *cwd;	/* or NULL */
	char *user;	/* shown only */
	char *digest;	/* "sha256:…" of the OCI manifest, or of docker-save's configuration, that it was imported from; or NULL */
	char *platform; /* "linux/amd64" as the image's configuration says; or NULL */
	struct image_runtime runtime;
};

/* image_name_valid - [a-z0-9] then [a-z0-9._:/@-]…, at most IMAGE_NAME_MAX, no "..", no "//". '/' is stored as
 * '%2F' in the file name. */
bool image_name_valid(const char *name);
/* image_load - by name. "host" is built in (see image_host_prepare). Worker-safe. Return: 0, -ENOENT, -errno. */
int image_load(struct store *store, const char *name, struct image *ret, struct err *err);
/* image_identity - what changes whenever an image is imported anew: its file's inode and times. Return: 0, -ENOENT, -EINVAL, -errno. */
struct image_identity {
	uint64_t inode, size;
	struct timespec changed;
};
int image_identify(struct store *store, const char *name, struct image_identity *ret, struct err *err);
void image_clear(struct image *image);

enum image_layer_state {
	IMAGE_ARCHIVE_UNPACKING, /* before the layers: a compressed archive of an image is decompressed; layer is 0 */
	IMAGE_LAYER_READING,
	IMAGE_LAYER_STORED,
	IMAGE_LAYER_EXISTED, /* it was in the store already */
};
struct image_progress {
	unsigned layer, layers; /* the first is 1 */
	enum image_layer_state state;
	uint64_t done, total; /* bytes of the source; total 0: not known */
	char digest[72];      /* of the layer as it comes, or "" */
};
struct image_import {
	const char *source;						    /* a directory or a file */
	const char *ref;						    /* which image of a source with several: a tag, or a name with it; or NULL */
	void (*progress)(void *ctx, const struct image_progress *progress); /* or NULL */
	void *ctx;
};
/*
 * image_import_from - import an OCI image layout or a docker-save (both as a directory or as a tar), or a directory or a tar as a single
 * layer; tars plain or compressed by gzip, zstd or xz. Replaces the name atomically. As root. "host" is refused.
 * An image's configuration gives env, cwd, entrypoint, cmd and user. Every blob is compared with its digest (-EBADMSG) and no link is
 * followed in the source. -ENOENT, -EINVAL, -EOPNOTSUPP, -E2BIG name what is missing, wrong, not supported (foreign and encrypted
 * layers, schema 1, sha512) or too many. Layers that were stored before an error stay, for gc.
 */
int image_import_from(struct store *store, const char *name, const struct image_import *request, struct image *ret, struct err *err);
/* image_is_foreign - its configuration says that it is for another kind of machine than this one. */
bool image_is_foreign(const struct image *image);
/* image_import - image_import_from() of a source with one image. */
int image_import(struct store *store, const char *name, const char *source, struct image *ret, struct err *err);
/* image_list - NULL-terminated sorted names in one allocation per name; free with image_list_free(). */
int image_list(struct store *store, char ***ret, struct err *err);
void image_list_free(char **names);
/* image_sizes - of n images: bytes of all layers, and of those that no other of the n has. ret[i].error: a description or a layer that cannot
 * be read. */
struct image_size {
	size_t layers;
	uint64_t bytes, own;
	int error;
};
int image_sizes(struct store *store, char *const *names, size_t n, struct image_size *ret, struct err *err);
int image_rm(struct store *store, const char *name, struct err *err);
/* image_runtime_parse - a runtime's own description, JSON {"argv": […], "serves": […]}. Return: 0, or -errno with the field in err. */
int image_runtime_parse(const char *text, size_t len, struct image_runtime *ret, struct err *err);
void image_runtime_clear(struct image_runtime *runtime);
/* image_set_runtime - as root: have it recorded with the image, `host` included. */
int image_set_runtime(struct store *store, const char *name, const struct image_runtime *runtime, struct err *err);
/* image_host_prepare - as root: build (or find unchanged) the small layer of the `host` image: /bin -> usr/bin and
 * the like as the machine has them, generated /etc, linker cache, alternatives; and record it. */
int image_host_prepare(struct store *store, struct err *err);
