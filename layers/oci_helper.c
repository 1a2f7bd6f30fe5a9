/*
 * Documents of strangers, parsed where nothing can be harmed. The caller (root) reads a document and compares its digest; a helper
 * without rights (jail.h), which got the bytes by the fork, parses them and writes a struct of fixed size into memory that both share.
 * The helper cannot fork, and is dead when jail_run() returns: from then on nobody else writes to that memory, and what is in it is
 * checked here as if an attacker had filled it in, since one might have.
 */
#include "layers/oci_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "layers/image_internal.h"
#include "layers/store_internal.h"
#include "layers/tree.h"

/* Root's, so that nothing can be made in it, and empty. */
static int make_root(struct oci_helper *h, struct err *err)
{
	static const char name[] = "image";
	if (mkdirat(h->temp.fd, name, 0755) < 0 || fchmodat(h->temp.fd, name, 0755, 0) < 0)
		return err_set(err, errno, "make a directory for the image helper");
	h->root = tree_open_dir(h->temp.fd, name);
	return h->root < 0 ? err_set(err, h->root, "open the directory of the image helper") : 0;
}

int oci_helper_open(struct store *store, struct oci_helper *ret, struct err *err)
{
	*ret = (struct oci_helper){.store = store, .temp = LAYER_TEMP_INIT, .root = -1};
	json_object_seed(0); /* here, where /dev/urandom is */
	int r = layer_temp_begin(store, &ret->temp, err);
	if (r == 0)
		r = make_root(ret, err);
	if (r < 0)
		oci_helper_clear(ret);
	return r;
}

void oci_helper_clear(struct oci_helper *helper)
{
	if (!helper->store)
		return;
	cleanup_close(&helper->root);
	layer_temp_clear(&helper->temp);
	helper->store = NULL;
}

/* ---- one call ---- */

struct call {
	int (*parse)(const struct call *call, struct err *err); /* in the helper */
	const char *text;
	size_t len;
	const void *want;
	uint64_t number; /* a size or a bound */
	uint64_t max;	 /* of an archive's uncompressed bytes */
	void *answer;	 /* shared */
};

static int run(void *ctx, struct jail_report *report, struct err *err)
{
	const struct call *call = ctx;
	(void)report;
	return call->parse(call, err);
}

static int do_call(struct oci_helper *h, struct call *call, const int *fds, size_t nfds, uint64_t max_file_bytes, struct err *err)
{
	const struct jail jail = {
		.what = "image",
		.root = h->root,
		.fds = fds,
		.nfds = nfds,
		.isolate = true,
		.pure = true,
		.max_file_bytes = max_file_bytes,
		.wipe = h->store->secret,
		.wipe_len = sizeof(h->store->secret),
		.run = run,
		.ctx = call,
	};
	struct jail_report report;
	return jail_run(&jail, &report, err);
}

static void *share(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* Parse a document and copy the answer out. */
static int ask(struct oci_helper *h, struct call *call, void *ret, size_t size, struct err *err)
{
	call->answer = share(size);
	if (!call->answer)
		return err_set(err, errno, "share memory with a helper");
	int r = do_call(h, call, NULL, 0, 0, err);
	if (r == 0)
		memcpy(ret, call->answer, size);
	(void)munmap(call->answer, size);
	return r;
}

static int nonsense(struct err *err)
{
	return err_say(err, EPROTO, "the image helper's answer makes no sense");
}

/* ---- index, manifests ---- */

static int parse_index(const struct call *c, struct err *err)
{
	return oci_index_parse(c->text, c->len, c->want, c->answer, err);
}

int oci_helper_index(struct oci_helper *h, const char *text, size_t len, const struct oci_want *want, struct oci_descriptor *ret, struct err *err)
{
	struct call call = {.parse = parse_index, .text = text, .len = len, .want = want};
	return ask(h, &call, ret, sizeof(*ret), err);
}

static int parse_manifest(const struct call *c, struct err *err)
{
	return oci_manifest_parse(c->text, c->len, c->answer, err);
}

int oci_helper_manifest(struct oci_helper *h, const char *text, size_t len, struct oci_manifest *ret, struct err *err)
{
	struct call call = {.parse = parse_manifest, .text = text, .len = len};
	int r = ask(h, &call, ret, sizeof(*ret), err);
	return r == 0 && (ret->nlayers == 0 || ret->nlayers > IMAGE_LAYERS_MAX) ? nonsense(err) : r;
}

static int parse_docker(const struct call *c, struct err *err)
{
	return docker_manifest_parse(c->text, c->len, c->want, c->answer, err);
}

int oci_helper_docker(struct oci_helper *h, const char *text, size_t len, const char *ref, struct docker_manifest *ret, struct err *err)
{
	struct call call = {.parse = parse_docker, .text = text, .len = len, .want = ref};
	int r = ask(h, &call, ret, sizeof(*ret), err);
	if (r < 0)
		return r;
	if (ret->nlayers == 0 || ret->nlayers > IMAGE_LAYERS_MAX)
		return nonsense(err);
	ret->config[OCI_NAME_MAX - 1] = '\0';
	for (size_t i = 0; i < ret->nlayers; i++)
		ret->layers[i][OCI_NAME_MAX - 1] = '\0';
	return 0;
}

/* ---- configuration ---- */

static int parse_config(const struct call *c, struct err *err)
{
	return oci_config_parse(c->text, c->len, c->answer, err);
}

/* A copy of the string at *at, which is moved past it; NULL with errno when there is none. */
static char *take_text(const struct oci_config *c, uint32_t *at)
{
	errno = EPROTO;
	if (*at >= c->text_len)
		return NULL;
	size_t room = c->text_len - *at, len = strnlen(c->text + *at, room);
	if (len == room)
		return NULL;
	char *copy = strdup(c->text + *at);
	*at += (uint32_t)len + 1;
	return copy;
}

static int take_words(const struct oci_config *c, const struct oci_words *words, char ***ret)
{
	uint32_t at = words->at;
	if (!words->present)
		return 0;
	if (words->count > OCI_WORDS_MAX)
		return -EPROTO;
	char **list = calloc(words->count + 1, sizeof(*list));
	int r = list ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < words->count && r == 0; i++) {
		list[i] = take_text(c, &at);
		r = list[i] ? 0 : -errno;
	}
	if (r < 0)
		image_strings_free(list);
	else
		*ret = list;
	return r;
}

static int take_one(const struct oci_config *c, uint32_t at, char **ret)
{
	if (at == OCI_NO_TEXT)
		return 0;
	*ret = take_text(c, &at);
	return *ret ? 0 : -errno;
}

static int take_config(const struct oci_config *c, struct image *image)
{
	if (c->text_len > OCI_TEXT_MAX || c->ndiff_ids == 0 || c->ndiff_ids > IMAGE_LAYERS_MAX)
		return -EPROTO;
	int r = take_words(c, &c->env, &image->env);
	if (r == 0)
		r = take_words(c, &c->entrypoint, &image->entrypoint);
	if (r == 0)
		r = take_words(c, &c->cmd, &image->cmd);
	if (r == 0)
		r = take_one(c, c->cwd, &image->cwd);
	if (r == 0)
		r = take_one(c, c->user, &image->user);
	return r == 0 ? take_one(c, c->platform, &image->platform) : r;
}

int oci_helper_config(struct oci_helper *h, const char *text, size_t len, struct image *image, uint8_t (*ret_diff_ids)[32], size_t *ret_ndiff_ids,
	struct err *err)
{
	_cleanup_free_ struct oci_config *c = calloc(1, sizeof(*c));
	struct call call = {.parse = parse_config, .text = text, .len = len};
	if (!c)
		return err_set(err, ENOMEM, "read the configuration");
	int r = ask(h, &call, c, sizeof(*c), err);
	if (r < 0)
		return r;
	r = take_config(c, image);
	if (r < 0)
		return r == -EPROTO ? nonsense(err) : err_set(err, r, "read the configuration");
	memcpy(ret_diff_ids, c->diff_ids, sizeof(c->diff_ids[0]) * c->ndiff_ids);
	*ret_ndiff_ids = c->ndiff_ids;
	return 0;
}

/* ---- archives ---- */

static int parse_archive(const struct call *c, struct err *err)
{
	struct oci_archive *a = c->answer;
	int r = oci_tar_index(JAIL_FDS, c->number, a, err);
	return r == 0 && a->packing == OCI_PACKING_COMPRESSED ? oci_tar_peek(JAIL_FDS, c->max, a, err) : r;
}

static bool archive_good(struct oci_archive *a, uint64_t size)
{
	if (a->kind >= OCI_KIND_MAX || a->packing >= OCI_PACKING_MAX || a->count > OCI_FILES_MAX)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		struct oci_file *f = &a->files[i];
		f->name[OCI_NAME_MAX - 1] = '\0';
		if (f->offset > size || f->size > size - f->offset)
			return false;
	}
	return true;
}

int oci_helper_archive(struct oci_helper *h, int fd, struct oci_archive **ret, struct err *err)
{
	struct call call = {.parse = parse_archive, .answer = share(sizeof(struct oci_archive))};
	struct layer_bounds bounds;
	struct stat st;
	if (!call.answer)
		return err_set(err, errno, "share memory with a helper");
	int r = fstat(fd, &st) < 0 ? err_set(err, errno, "stat the archive") : layer_bounds_get(h->store, &bounds, err);
	if (r == 0) {
		call.number = (uint64_t)st.st_size;
		call.max = bounds.bytes / 2; /* as oci_helper_decompress(), which would come next */
		r = do_call(h, &call, &fd, 1, 0, err);
	}
	/* The helper reads through the same open file. */
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = err_set(err, errno, "seek in the archive");
	if (r == 0 && !archive_good(call.answer, call.number))
		r = nonsense(err);
	if (r < 0)
		oci_archive_free(call.answer);
	else
		*ret = call.answer;
	return r;
}

void oci_archive_free(struct oci_archive *archive)
{
	if (archive)
		(void)munmap(archive, sizeof(*archive));
}

static int run_decompress(const struct call *c, struct err *err)
{
	return oci_tar_decompress(JAIL_FDS, JAIL_FDS + 1, c->number, err);
}

int oci_helper_decompress(struct oci_helper *h, int fd, struct err *err)
{
	static const char name[] = "archive";
	struct layer_bounds bounds;
	struct call call = {.parse = run_decompress};
	int r = layer_bounds_get(h->store, &bounds, err);
	if (r < 0)
		return r;
	_cleanup_close_ int out = openat(h->temp.fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0 || unlinkat(h->temp.fd, name, 0) < 0)
		return err_set(err, errno, "make a temporary file in the store");
	const int fds[] = {fd, out};
	/* Layers are unpacked beside it: half of the room at most. */
	call.number = bounds.bytes / 2;
	r = do_call(h, &call, fds, ARRAY_SIZE(fds), call.number, err);
	return r < 0 ? r : TAKE_FD(out);
}
