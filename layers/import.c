/*
 * Imports. Three processes, each of which knows less than the one before:
 *
 *   caller (root)                parser                          writer
 *   reads the source,            no files, no rights:            its tree is all it has; never sees the archive:
 *   hashes the raw bytes  ─────▶ decompresses, takes the  ─────▶ writes diff/, hashes contents meanwhile; then
 *                                tar apart                       walks diff/ in order and writes `tree`
 *                         socket                          stream
 *
 * For a directory the caller writes the stream itself. A parser that was taken over can make no more than some tree of
 * plain files; a writer that was taken over from there no more than a tree and a wrong description of it. Afterwards the
 * caller reads the description like a stranger's file (tree_file.h), computes the id over it, marks what is opaque, and
 * publishes. A failure of one process ends the others by broken pipes; whoever has more to say than that is believed.
 */
#include "layers/import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "layers/canonical.h"
#include "layers/hash.h"
#include "layers/layer.h"
#include "layers/share.h"
#include "layers/store_internal.h"

#define SOCKET_BUFFER (1 << 20)
#define PARSER_DIR "parser" /* in the temporary layer: the parser's empty root directory */

struct import {
	struct store *store;
	const struct import_source *source;
	struct layer_bounds bounds;
	struct import_raw raw;
	uint8_t sha256[32]; /* of the raw bytes */
	uint64_t raw_bytes;
	bool want_diff_id;
	uint8_t diff_id[32];
	int raw_in, raw_out;	   /* caller → parser; -1: none */
	int stream_in, stream_out; /* → writer */
};

static void stream_cleanup(struct stream **s)
{
	stream_free(*s);
}

static void unpack_cleanup(struct unpack **u)
{
	unpack_free(*u);
}

/* ---- in the writer ---- */

static int run_writer(void *ctx, struct jail_report *report, struct err *err)
{
	const struct import *import = ctx;
	const struct unpack_options options = {.max_bytes = import->bounds.bytes,
		.max_entries = import->bounds.entries,
		.block = IMPORT_BLOCK,
		.keep_owner = true,
		.oci = import->source->archive && import->source->archive->oci};
	_cleanup_(unpack_cleanup) struct unpack *u = NULL;
	(void)umask(0); /* files get their modes when they are made */
	int r = unpack_new(JAIL_ROOT, &options, &u, err);
	if (r == 0)
		r = stream_unpack(JAIL_FDS, u, err);
	if (r == 0)
		r = unpack_finish(u, err);
	if (r < 0)
		return r;
	report->skipped = unpack_skipped(u);
	return layer_describe(u, &import->bounds, JAIL_FDS + 1, NULL, report, err);
}

/* ---- in the parser ---- */

static int run_parser(void *ctx, struct jail_report *report, struct err *err)
{
	const struct import *import = ctx;
	_cleanup_(stream_cleanup) struct stream *stream = NULL;
	int r = stream_new(JAIL_FDS + 1, &stream, err);
	if (r < 0)
		return r;
	const struct import_sink sink = import_sink_stream(stream);
	r = import_tar_parse(JAIL_FDS, import->source->archive->oci, import->bounds.bytes, &sink, import->want_diff_id ? report->sha256 : NULL, err);
	return r < 0 ? r : stream_end(stream, err);
}

/* ---- in the caller ---- */

static int make_pair(int *ret_in, int *ret_out, struct err *err)
{
	int sv[2], size = SOCKET_BUFFER;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(err, errno, "make a socket pair");
	*ret_in = sv[0];
	*ret_out = sv[1];
	/* Only for speed: fewer switches between the processes. */
	(void)setsockopt(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	return 0;
}

static int start_writer(struct import *import, const struct layer_temp *temp, struct jail *jail, struct jail_process *ret,
	struct err *err)
{
	const int fds[] = {import->stream_out, temp->tree};
	*jail = (struct jail){
		.what = "import",
		.root = temp->diff,
		.fds = fds,
		.nfds = ARRAY_SIZE(fds),
		.isolate = true,
		.max_file_bytes = MAX(import->bounds.bytes, IMPORT_MAX_BYTES),
		.wipe = import->store->secret,
		.wipe_len = sizeof(import->store->secret),
		.run = run_writer,
		.ctx = import,
	};
	int r = jail_start(jail, ret, err);
	cleanup_close(&import->stream_out);
	return r;
}

static int start_parser(struct import *import, const struct layer_temp *temp, struct jail *jail, struct jail_process *ret,
	struct err *err)
{
	/* Root's, so that nothing can be made in it, and empty. */
	if (mkdirat(temp->fd, PARSER_DIR, 0755) < 0 || fchmodat(temp->fd, PARSER_DIR, 0755, 0) < 0)
		return err_set(err, errno, "make a directory for the parser");
	_cleanup_close_ int root = tree_open_dir(temp->fd, PARSER_DIR);
	if (root < 0)
		return err_set(err, root, "open the directory of the parser");
	const int fds[] = {import->raw_out, import->stream_in};
	*jail = (struct jail){
		.what = "archive",
		.root = root,
		.fds = fds,
		.nfds = ARRAY_SIZE(fds),
		.isolate = true,
		.pure = true,
		.wipe = import->store->secret,
		.wipe_len = sizeof(import->store->secret),
		.run = run_parser,
		.ctx = import,
	};
	int r = jail_start(jail, ret, err);
	cleanup_close(&import->raw_out);
	cleanup_close(&import->stream_in);
	if (unlinkat(temp->fd, PARSER_DIR, AT_REMOVEDIR) < 0 && r == 0)
		return err_set(err, errno, "remove the directory of the parser");
	return r;
}

static int feed_walk(struct import *import, struct err *err)
{
	_cleanup_close_ int sock = TAKE_FD(import->stream_in);
	_cleanup_(stream_cleanup) struct stream *stream = NULL;
	int r = stream_new(sock, &stream, err);
	if (r == 0)
		r = import->source->walk(import->source->ctx, stream, err);
	return r < 0 ? r : stream_end(stream, err);
}

static int feed_archive(struct import *import, struct err *err)
{
	_cleanup_close_ int sock = TAKE_FD(import->raw_in);
	return import_raw_read(&import->raw, sock, import->sha256, &import->raw_bytes, err);
}

/* Of several failures the one that is no consequence of another. Each has its own message. */
static int blame(const int *codes, const struct err *errs, size_t n, struct err *err)
{
	size_t worst = n;
	for (size_t i = 0; i < n; i++)
		if (codes[i] < 0 && (worst == n || (codes[worst] == -EPIPE && codes[i] != -EPIPE)))
			worst = i;
	if (worst == n)
		return 0;
	if (err)
		*err = errs[worst];
	/* All say that somebody else went away: then nobody said why. */
	return codes[worst] == -EPIPE ? err_say(err, EPROTO, "the import broke off: %s", err_msg(&errs[worst])) : codes[worst];
}

/* The source's bytes become diff/ and tree of the temporary layer. */
static int run_pipeline(struct import *import, struct layer_temp *temp, struct jail_report *ret, struct err *err)
{
	enum { FEED,
		WRITER,
		PARSER,
		PARTS };
	struct jail jails[PARTS];
	struct jail_process writer = JAIL_PROCESS_INIT, parser = JAIL_PROCESS_INIT;
	struct jail_report parsed = {.magic = 0};
	struct err errs[PARTS] = {ERR_INIT, ERR_INIT, ERR_INIT};
	int codes[PARTS] = {0};
	bool archive = import->source->archive;
	int r = make_pair(&import->stream_in, &import->stream_out, err);
	if (r == 0 && archive)
		r = make_pair(&import->raw_in, &import->raw_out, err);
	if (r == 0)
		r = start_writer(import, temp, &jails[WRITER], &writer, err);
	if (r < 0)
		return r;
	if (archive)
		codes[PARSER] = start_parser(import, temp, &jails[PARSER], &parser, &errs[PARSER]);
	if (codes[PARSER] == 0)
		codes[FEED] = archive ? feed_archive(import, &errs[FEED]) : feed_walk(import, &errs[FEED]);
	bool killed = codes[PARSER] < 0 || (codes[FEED] < 0 && codes[FEED] != -EPIPE);
	if (killed) {
		jail_kill(&parser);
		jail_kill(&writer);
	}
	cleanup_close(&import->raw_in); /* open still when nothing was fed */
	cleanup_close(&import->stream_in);
	/* What became of killed ones is no news. */
	if (parser.pid > 0)
		r = jail_wait(&parser, &parsed, killed ? NULL : &errs[PARSER]);
	codes[PARSER] = killed ? codes[PARSER] : r;
	r = jail_wait(&writer, ret, killed ? NULL : &errs[WRITER]);
	codes[WRITER] = killed ? 0 : r;
	memcpy(import->diff_id, parsed.sha256, sizeof(import->diff_id));
	return blame(codes, errs, PARTS, err);
}

/* Compare a digest with what was asked for (64 hex digits, or NULL). */
static int check_digest(const char *what, const char *expected, const uint8_t sha256[32], struct err *err)
{
	char hex[65];
	format_hex(sha256, 32, hex);
	if (!expected || strcmp(expected, hex) == 0)
		return 0;
	return err_say(err, EBADMSG, "%s has the digest sha256:%s, not sha256:%.70s", what, hex, expected);
}

static int check_digests(const struct import *import, struct err *err)
{
	const struct layer_source *archive = import->source->archive;
	if (!archive)
		return 0;
	int r = check_digest("the archive", archive->sha256, import->sha256, err);
	return r < 0 ? r : check_digest("the uncompressed archive", archive->diff_id, import->diff_id, err);
}

static void note_source(const struct import *import, const struct layer_info *info)
{
	char hex[65];
	struct import_known known = {.size = import->raw_bytes};
	memcpy(known.id, info->id, sizeof(known.id));
	if (import->want_diff_id)
		format_hex(import->diff_id, 32, known.diff_id);
	format_hex(import->sha256, 32, hex);
	import_known_note(import->store, hex, import->source->archive->oci, &known);
}

/* As a new layer, or the one that is there with the same tree. */
static int store_tree(struct import *import, struct layer_temp *temp, const struct jail_report *report,
	struct layer_info *ret, struct err *err)
{
	struct layer_made made = {.bytes = report->bytes};
	int r = layer_read_tree(temp, &made, err);
	if (r < 0)
		return r;
	if (made.entries != report->entries)
		return err_say(err, EPROTO, "the import helper's description of the tree is not what it says it is");
	r = layer_find(import->store, &made, ret, err);
	if (r != 0)
		return r < 0 ? r : 0;
	share_large(import->store, temp);
	return layer_publish(temp, &made, true, ret, err);
}

int import_run(struct store *store, const struct import_source *source, struct layer_info *ret, struct err *err)
{
	_cleanup_(layer_temp_clear) struct layer_temp temp = LAYER_TEMP_INIT;
	struct import import = {.store = store, .source = source, .raw_in = -1, .raw_out = -1, .stream_in = -1, .stream_out = -1};
	struct jail_report report = {.magic = 0};
	int r = source->archive ? import_raw_open(source->archive, &import.raw, err) : 0;
	if (r < 0)
		return r;
	import.want_diff_id = source->archive && source->archive->diff_id;
	hash_prepare(); /* before the helpers are forked, or each of them pays */
	r = layer_bounds_get(store, &import.bounds, err);
	if (r == 0)
		r = layer_temp_begin(store, &temp, err);
	if (r == 0)
		r = run_pipeline(&import, &temp, &report, err);
	cleanup_close(&import.raw_in);
	cleanup_close(&import.raw_out);
	cleanup_close(&import.stream_in);
	cleanup_close(&import.stream_out);
	if (r == 0)
		r = check_digests(&import, err);
	if (r < 0)
		return r;
	if (report.skipped > 0)
		log_debug("import: devices, FIFOs or sockets left out count=%" PRIu64, report.skipped);
	r = store_tree(&import, &temp, &report, ret, err);
	if (r == 0 && source->archive)
		note_source(&import, ret);
	return r;
}

/* ---- sources that are known ---- */

/* Hold the layer of a record, if it is still there and all that was asked for is known. Return: whether it is. */
static bool take_known(struct store *store, const struct layer_source *args, const struct import_known *known,
	struct layer_info *ret)
{
	if (args->diff_id && strcmp(args->diff_id, known->diff_id) != 0)
		return false; /* unknown, or wrong: then the import says so */
	return layer_take(store, known->id, ret, NULL) == 0;
}

/*
 * A source that was imported before costs only its reading. Return: 1 with the layer, 0 when it must be imported, or
 * -errno. What a digest was given for is read in any case: it may have changed.
 */
static int try_known(struct store *store, const struct layer_source *args, struct layer_info *ret, struct err *err)
{
	struct import_raw raw;
	struct import_known known;
	uint8_t sha256[32];
	uint64_t bytes;
	char hex[65];
	int r = import_raw_open(args, &raw, err);
	if (r < 0 || !raw.regular)
		return r;
	if (args->sha256 ? !import_known_find(store, args->sha256, args->oci, &known)
			 : !import_known_size(store, raw.size, args->oci))
		return 0;
	r = import_raw_read(&raw, -1, sha256, &bytes, err);
	if (r == 0)
		r = check_digest("the archive", args->sha256, sha256, err);
	if (r < 0)
		return r;
	format_hex(sha256, 32, hex);
	return import_known_find(store, hex, args->oci, &known) && take_known(store, args, &known, ret);
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
	if (S_ISDIR(st.st_mode)) {
		if (args->oci || args->sha256 || args->diff_id || args->offset > 0 || args->size > 0)
			return err_say(err, EINVAL, "a directory has neither digests nor whiteouts");
		if (import_dry(store, fd, ret))
			return 0;
		const struct import_source source = {.walk = walk_dirfd, .ctx = &fd};
		return import_run(store, &source, ret, err);
	}
	int r = try_known(store, args, ret, err);
	if (r != 0)
		return r < 0 ? r : 0;
	const struct import_source source = {.archive = args};
	return import_run(store, &source, ret, err);
}

int layer_import_dir(struct store *store, int dirfd, struct layer_info *ret, struct err *err)
{
	struct stat st;
	const struct layer_source source = {.fd = dirfd};
	if (fstat(dirfd, &st) == 0 && !S_ISDIR(st.st_mode))
		return err_say(err, ENOTDIR, "the source of the import is no directory");
	return layer_import(store, &source, ret, err);
}

int layer_import_tar(struct store *store, int fd, struct layer_info *ret, struct err *err)
{
	const struct layer_source source = {.fd = fd};
	return layer_import(store, &source, ret, err);
}
