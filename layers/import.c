/*
 * Imports. Two helpers in turn: the first unpacks the stranger's bytes; the second, which has never seen them, walks
 * what lies on disk, refuses what a layer must not hold, and computes the id. So even a parser that was taken over can
 * make no more than some tree of plain files, under that tree's own id.
 */
#include "layers/import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "layers/hash.h"
#include "layers/layer.h"
#include "layers/store_internal.h"

struct import {
	const struct import_source *source;
	struct layer_bounds bounds;
	int feed_end, helper_end; /* of the stream's socket; -1 for a tar */
};

static void unpack_cleanup(struct unpack **u)
{
	unpack_free(*u);
}

static void stream_cleanup(struct stream **s)
{
	stream_free(*s);
}

/* In the first helper. */
static int run_unpack(void *ctx, struct jail_report *report, struct err *err)
{
	struct import *import = ctx;
	const struct unpack_options options = {.max_bytes = import->bounds.bytes, .max_entries = import->bounds.entries, .keep_owner = true};
	_cleanup_(unpack_cleanup) struct unpack *u = NULL;
	int r = unpack_new(JAIL_ROOT, &options, &u, err);
	if (r == 0)
		r = import->source->walk ? stream_unpack(JAIL_FDS, u, err) : import_tar_unpack(JAIL_FDS, u, err);
	if (r == 0)
		r = unpack_finish(u, err);
	if (r == 0)
		report->skipped = unpack_skipped(u);
	return r;
}

/* In the second. */
static int run_hash(void *ctx, struct jail_report *report, struct err *err)
{
	struct import *import = ctx;
	return layer_hash(&import->bounds, report, err);
}

/* In the caller, while the first helper runs. */
static int feed(void *ctx, struct err *err)
{
	struct import *import = ctx;
	_cleanup_close_ int sock = TAKE_FD(import->feed_end);
	_cleanup_(stream_cleanup) struct stream *stream = NULL;
	cleanup_close(&import->helper_end);
	int r = stream_new(sock, &stream, err);
	if (r == 0)
		r = import->source->walk(import->source->ctx, stream, err);
	return r < 0 ? r : stream_end(stream, err);
}

static int unpack(struct import *import, struct layer_temp *temp, struct store *store, struct err *err)
{
	int sv[2] = {-1, -1};
	if (import->source->walk && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(err, errno, "make a socket pair");
	import->feed_end = sv[0];
	import->helper_end = sv[1];
	int input = import->source->walk ? sv[1] : import->source->fd;
	const struct jail jail = {
		.what = "import",
		.root = temp->diff,
		.fds = &input,
		.nfds = 1,
		.isolate = true,
		.max_file_bytes = import->bounds.bytes,
		.wipe = store->secret,
		.wipe_len = sizeof(store->secret),
		.run = run_unpack,
		.feed = import->source->walk ? feed : NULL,
		.ctx = import,
	};
	struct jail_report report;
	int r = jail_run(&jail, &report, err);
	cleanup_close(&import->feed_end); /* still open when jail_run() never came to feed() */
	cleanup_close(&import->helper_end);
	if (r == 0 && report.skipped > 0)
		log_debug("import: devices, FIFOs or sockets left out count=%" PRIu64, report.skipped);
	return r;
}

static bool has(int dir, const char *name, mode_t type)
{
	struct stat st;
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == type;
}

static int refuse_archives(int diff, struct err *err)
{
	bool root = has(diff, "usr", S_IFDIR) || has(diff, "etc", S_IFDIR) || has(diff, "bin", S_IFDIR);
	if (has(diff, "oci-layout", S_IFREG))
		return err_say(err, EOPNOTSUPP,
			"this is an OCI image layout, which cannot be imported yet; export the image's file system as a tar");
	if (has(diff, "manifest.json", S_IFREG) && !root)
		return err_say(err, EOPNOTSUPP,
			"this is a docker-save archive, which cannot be imported yet; use `docker export` of a container");
	return 0;
}

int import_run(struct store *store, const struct import_source *source, struct layer_info *ret, struct err *err)
{
	_cleanup_(layer_temp_clear) struct layer_temp temp = LAYER_TEMP_INIT;
	struct import import = {.source = source, .feed_end = -1, .helper_end = -1};
	hash_prepare(); /* before the helpers are forked, or each of them pays */
	int r = layer_bounds_get(store, &import.bounds, err);
	if (r == 0)
		r = layer_temp_begin(store, &temp, err);
	if (r == 0)
		r = unpack(&import, &temp, store, err);
	if (r == 0 && source->refuse_archives_of_images)
		r = refuse_archives(temp.diff, err);
	if (r < 0)
		return r;
	const struct jail jail = {
		.what = "hash",
		.root = temp.diff,
		.max_file_bytes = 0,
		.wipe = store->secret,
		.wipe_len = sizeof(store->secret),
		.run = run_hash,
		.ctx = &import,
	};
	struct jail_report report;
	r = jail_run(&jail, &report, err);
	return r < 0 ? r : layer_publish(&temp, &report, true, ret, err);
}

static int walk_dirfd(void *ctx, struct stream *stream, struct err *err)
{
	return import_dir_walk(*(const int *)ctx, stream, err);
}

int layer_import(struct store *store, const struct layer_source *args, struct layer_info *ret, struct err *err)
{
	struct stat st;
	int fd = args->fd;
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat the source of the import");
	struct import_source source = {.fd = fd};
	if (S_ISDIR(st.st_mode)) {
		source.walk = walk_dirfd;
		source.ctx = &fd;
	} else if (args->offset > 0 && lseek(fd, (off_t)args->offset, SEEK_SET) < 0) {
		return err_set(err, errno, "seek in the source of the import");
	}
	return import_run(store, &source, ret, err);
}

int layer_import_dir(struct store *store, int dirfd, struct layer_info *ret, struct err *err)
{
	const struct layer_source source = {.fd = dirfd};
	return layer_import(store, &source, ret, err);
}

int layer_import_tar(struct store *store, int fd, struct layer_info *ret, struct err *err)
{
	const struct layer_source source = {.fd = fd};
	return layer_import(store, &source, ret, err);
}
