/*
 * Images: names, import, list, removal. Import and removal are root's; loading and listing are for the worker too.
 */
#include "layers/image_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "layers/oci_import.h"
#include "layers/store_internal.h"
#include "layers/tree.h"

#define JSON_SUFFIX ".json"

bool image_name_valid(const char *name)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	static const char rest[] = "abcdefghijklmnopqrstuvwxyz0123456789._:/@-";
	size_t len = strlen(name), escaped = len;
	if (len == 0 || len > IMAGE_NAME_MAX || !strchr(first, name[0]) || strspn(name, rest) != len)
		return false;
	for (const char *p = name; *p; p++)
		escaped += *p == '/' || *p == ':' ? 2 : 0;
	/* A file name ends at 255 bytes. */
	if (escaped + strlen(JSON_SUFFIX) > 255)
		return false;
	return !strstr(name, "..") && !strstr(name, "//") && name[len - 1] != '/';
}

int image_file_name(const char *name, char ret[IMAGE_FILE_MAX], struct err *err)
{
	if (!image_name_valid(name))
		return err_say(err, EINVAL, "'%.150s' is no image name: it begins with a-z0-9 and goes on with a-z0-9._:/@-",
			name);
	char *p = ret;
	for (; *name; name++) {
		const char *escape = *name == '/' ? "%2F" : *name == ':' ? "%3A"
									 : NULL;
		if (escape)
			p = stpcpy(p, escape);
		else
			*p++ = *name;
	}
	(void)stpcpy(p, JSON_SUFFIX);
	return 0;
}

/* Back from the file's name, in place. Return: whether it is an image's at all. */
static bool name_of_file(char *file)
{
	size_t len = strlen(file);
	if (len <= strlen(JSON_SUFFIX) || strcmp(file + len - strlen(JSON_SUFFIX), JSON_SUFFIX) != 0)
		return false;
	file[len - strlen(JSON_SUFFIX)] = '\0';
	char *to = file;
	for (const char *from = file; *from;) {
		bool slash = strncmp(from, "%2F", 3) == 0, colon = strncmp(from, "%3A", 3) == 0;
		const char escaped = slash ? '/' : ':', plain = *from;
		if (slash || colon)
			*to++ = escaped;
		else
			*to++ = plain;
		from += slash || colon ? 3 : 1;
	}
	*to = '\0';
	return image_name_valid(file);
}

int image_load(struct store *store, const char *name, struct image *ret, struct err *err)
{
	char stamp[IMAGE_STAMP_MAX];
	return image_load_stamp(store, name, ret, stamp, err);
}

int image_identify(struct store *store, const char *name, struct image_identity *ret, struct err *err)
{
	char file[IMAGE_FILE_MAX];
	struct stat st;
	int r = image_file_name(name, file, err);
	if (r < 0)
		return r;
	if (fstatat(store->images, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(err, errno, "look at image %s", name);
	*ret = (struct image_identity){.inode = st.st_ino, .size = (uint64_t)st.st_size, .changed = st.st_ctim};
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int image_list(struct store *store, char ***ret, struct err *err)
{
	struct tree_names names = TREE_NAMES_INIT;
	int r = tree_list(store->images, 1000000, &names);
	if (r < 0)
		return err_set(err, r, "list the images");
	size_t kept = 0;
	for (size_t i = 0; i < names.count; i++) {
		if (name_of_file(names.names[i]))
			names.names[kept++] = names.names[i];
		else
			free(names.names[i]);
	}
	names.count = kept;
	char **list = reallocarray(names.names, kept + 1, sizeof(*list));
	if (!list) {
		tree_names_clear(&names);
		return err_set(err, ENOMEM, "list the images");
	}
	list[kept] = NULL;
	/* Escapes sort elsewhere than what they stand for. */
	if (kept > 1)
		qsort(list, kept, sizeof(*list), compare_names);
	*ret = list;
	return 0;
}

void image_list_free(char **names)
{
	for (char **n = names; n && *n; n++)
		free(*n);
	free(names);
}

int image_rm(struct store *store, const char *name, struct err *err)
{
	char file[IMAGE_FILE_MAX];
	int r = image_file_name(name, file, err);
	if (r < 0)
		return r;
	if (strcmp(name, IMAGE_HOST) == 0)
		return err_say(err, EINVAL, "the image " IMAGE_HOST " is built in and cannot be removed");
	if (unlinkat(store->images, file, 0) < 0) {
		if (errno == ENOENT)
			return err_say(err, ENOENT, "there is no image %s", name);
		return err_set(err, errno, "remove the image %s", name);
	}
	return fsync(store->images) < 0 ? err_set(err, errno, "remove the image %s", name) : 0;
}

/* ---- import ---- */

static char **default_env(void)
{
	char **env = calloc(2, sizeof(*env));
	if (env)
		env[0] = strdup(IMAGE_DEFAULT_PATH);
	if (env && !env[0]) {
		free(env);
		env = NULL;
	}
	return env;
}

struct tree_progress {
	const struct image_import *request;
	struct image_progress now;
};

static void on_tree_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct tree_progress *p = ctx;
	p->now.done = done;
	p->now.total = total;
	p->request->progress(p->request->ctx, &p->now);
}

/* No image, but files: they are one layer. */
static int import_tree(struct store *store, int fd, const struct image_import *request, struct image *image, struct oci_held *held, struct err *err)
{
	struct tree_progress progress = {.request = request, .now = {.state = IMAGE_LAYER_READING, .layer = 1, .layers = 1}};
	const struct layer_source source = {.fd = fd, .progress = request->progress ? on_tree_progress : NULL, .ctx = &progress};
	struct layer_info layer = {.bytes = 0};
	if (request->ref)
		return err_say(err, EINVAL, "it is no image, so that there is no '%.60s' in it", request->ref);
	image->env = default_env();
	if (!image->env)
		return err_set(err, ENOMEM, "describe the image");
	int r = layer_import(store, &source, &layer, err);
	if (r < 0)
		return r;
	if (request->progress) {
		progress.now.state = layer.existed ? IMAGE_LAYER_EXISTED : IMAGE_LAYER_STORED;
		request->progress(request->ctx, &progress.now);
	}
	return oci_held_add(held, image, &layer, err);
}

static int import_bundle(struct store *store, int fd, const struct image_import *request, struct image *image, struct oci_held *held, struct err *err)
{
	_cleanup_(oci_helper_clear) struct oci_helper helper = {.store = NULL};
	_cleanup_(oci_bundle_clear) struct oci_bundle bundle = OCI_BUNDLE_INIT;
	int r = oci_helper_open(store, &helper, err);
	if (r == 0)
		r = oci_bundle_open(&helper, fd, request, &bundle, err);
	if (r < 0)
		return r;
	return bundle.kind == OCI_KIND_TREE ? import_tree(store, fd, request, image, held, err)
					    : oci_import(&bundle, request, image, held, err);
}

static int import_source(struct store *store, const struct image_import *request, struct image *image, struct oci_held *held, struct err *err)
{
	const char *path = request->source;
	/* O_NONBLOCK: a FIFO must not hang us before it is refused. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "open %s", path);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_say(err, EINVAL, "%s is neither a directory nor a tar file", path);
	int r = import_bundle(store, fd, request, image, held, err);
	return r < 0 ? err_wrap(err, "import %s", path) : 0;
}

int image_import_from(struct store *store, const char *name, const struct image_import *request, struct image *ret, struct err *err)
{
	char file[IMAGE_FILE_MAX];
	_cleanup_(oci_held_clear) struct oci_held held = {.count = 0};
	_cleanup_(image_clear) struct image image = {.nlayers = 0};
	int r = image_file_name(name, file, err);
	if (r < 0)
		return r;
	if (strcmp(name, IMAGE_HOST) == 0)
		return err_say(err, EINVAL, "the image " IMAGE_HOST " is built in; choose another name");
	r = import_source(store, request, &image, &held, err);
	if (r < 0)
		return r;
	(void)snprintf(image.name, sizeof(image.name), "%s", name);
	r = image_save(store, &image, NULL, err);
	if (r < 0)
		return r;
	if (ret) {
		*ret = image;
		image = (struct image){.nlayers = 0};
	}
	return 0;
}

int image_import(struct store *store, const char *name, const char *source, struct image *ret, struct err *err)
{
	const struct image_import request = {.source = source};
	return image_import_from(store, name, &request, ret, err);
}

bool image_is_foreign(const struct image *image)
{
	char own[64];
	int len = snprintf(own, sizeof(own), "linux/%s", oci_machine());
	if (!image->platform)
		return false;
	/* A variant may follow. */
	return strncmp(image->platform, own, (size_t)len) != 0 || (image->platform[len] != '\0' && image->platform[len] != '/');
}
