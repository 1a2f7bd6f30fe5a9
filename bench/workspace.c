/* The temporary directory, and images of any shape in it; see the header. Root, before anything is measured. */
#include "bench/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "executor/job.h"
#include "layers/store.h"

#define FILES_A_DIRECTORY 1000

volatile sig_atomic_t bench_interrupted;

static void on_signal(int sig)
{
	bench_interrupted = sig;
}

static void set_handlers(void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler}; /* no SA_RESTART: a wait is to end */
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGHUP, &action, NULL);
}

void bench_catch_signals(void)
{
	set_handlers(on_signal);
}

void bench_default_signals(void)
{
	set_handlers(SIG_DFL);
}

int bench_file(const char *name, char *ret, size_t cap, struct err *err)
{
	char self[512];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return err_set(err, errno, "read /proc/self/exe");
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	if ((size_t)snprintf(ret, cap, "%s/%s", self, name) >= cap)
		return err_set(err, ENAMETOOLONG, "%s", self);
	return access(ret, X_OK) == 0 ? 0 : err_set(err, errno, "find %s", ret);
}

static int copy_program(const char *from, const char *to, struct err *err)
{
	_cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	static char buf[65536];
	ssize_t n = -1;
	if (out < 0)
		return err_set(err, errno, "copy %s to %s", from, to);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (fd_write_all(out, buf, (size_t)n) < 0)
			return err_set(err, EIO, "write %s", to);
	return n < 0 ? err_set(err, errno, "read %s", from) : 0;
}

int workspace_make(struct workspace *ws, struct err *err)
{
	char program[600];
	const char *tmp = getenv("TMPDIR");
	if ((size_t)snprintf(ws->dir, sizeof(ws->dir), "%s/petri-bench-XXXXXX", tmp && *tmp ? tmp : "/var/tmp") >= sizeof(ws->dir) - 32) {
		ws->dir[0] = '\0';
		return err_set(err, ENAMETOOLONG, "TMPDIR");
	}
	if (!mkdtemp(ws->dir)) {
		int saved = errno;
		ws->dir[0] = '\0';
		return err_set(err, saved, "make a directory in %s", tmp && *tmp ? tmp : "/var/tmp");
	}
	(void)snprintf(ws->state, sizeof(ws->state), "%.240s/store", ws->dir);
	(void)snprintf(ws->floor, sizeof(ws->floor), "%.240s/true", ws->dir);
	if (chmod(ws->dir, 0711) < 0)
		return err_set(err, errno, "chmod %s", ws->dir);
	int r = bench_file("bench-true", program, sizeof(program), err);
	return r < 0 ? r : copy_program(program, ws->floor, err);
}

/* ---- the image ---- */
static int make_files(const char *root, unsigned files, struct err *err)
{
	_cleanup_close_ int dir = -1;
	for (unsigned i = 0; i < files; i++) {
		char name[600];
		if (i % FILES_A_DIRECTORY == 0) {
			(void)snprintf(name, sizeof(name), "%s/files-%u", root, i / FILES_A_DIRECTORY);
			cleanup_close(&dir);
			if (mkdir(name, 0755) < 0)
				return err_set(err, errno, "make %s", name);
			dir = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		}
		(void)snprintf(name, sizeof(name), "%u", i);
		_cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0 || fd_write_all(fd, name, strlen(name)) < 0)
			return err_set(err, errno, "make file %u of the image", i);
	}
	return 0;
}

/* A small layer, and another one for every number. */
static int import_small_layer(struct workspace *ws, struct store *store, unsigned i, struct layer_info *ret, struct err *err)
{
	char dir[300], name[32];
	(void)snprintf(dir, sizeof(dir), "%s/layer-%u", ws->dir, i);
	(void)snprintf(name, sizeof(name), "layer-%u", i);
	if (mkdir(dir, 0755) < 0)
		return err_set(err, errno, "make %s", dir);
	_cleanup_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_set(err, errno, "make %s/%s", dir, name);
	return layer_import_dir(store, dirfd, ret, err);
}

/* Put small layers upon the image's. images/NAME.json is documented: README, "Images and the store". */
static int add_layers(struct workspace *ws, struct store *store, unsigned layers_wanted, struct err *err)
{
	char path[320], text[ID128_TEXT_MAX];
	(void)snprintf(path, sizeof(path), "%s/images/" BENCH_IMAGE ".json", ws->state);
	struct layer_info info = {0};
	int r = 0;
	json_t *root = json_load_file(path, 0, NULL), *layers = json_object_get(root, "layers");
	if (!json_is_array(layers))
		r = err_say(err, EINVAL, "%s is not as expected", path);
	for (unsigned i = 1; r == 0 && i < layers_wanted; i++) {
		r = import_small_layer(ws, store, i, &info, err);
		format_id128(info.id, text);
		(void)json_array_append_new(layers, json_string(text));
	}
	if (r == 0 && (unlink(path) < 0 || json_dump_file(root, path, JSON_INDENT(1)) < 0 || chmod(path, 0444) < 0))
		r = err_set(err, errno, "write %s", path);
	json_decref(root);
	return r;
}

/* The directory to import: the caller's, or one with nothing but the static true. Files come into a directory of ours only. */
static int make_root(struct workspace *ws, const struct options *o, char *root, size_t cap, struct err *err)
{
	char target[320];
	if (o->rootfs) {
		(void)snprintf(root, cap, "%s", o->rootfs);
		return o->files ? err_say(err, EINVAL, "--files makes files in a root of its own: leave --rootfs out") : 0;
	}
	(void)snprintf(root, cap, "%.240s/image", ws->dir);
	(void)snprintf(target, sizeof(target), "%.250s/true", root);
	if (mkdir(root, 0755) < 0)
		return err_set(err, errno, "make %s", root);
	int r = copy_program(ws->floor, target, err);
	char load[600];
	(void)snprintf(target, sizeof(target), "%.250s/load", root);
	r = r < 0 ? r : bench_file("bench-load", load, sizeof(load), err);
	r = r < 0 ? r : copy_program(load, target, err);
	return r < 0 ? r : make_files(root, o->files, err);
}

int workspace_image(struct workspace *ws, const struct options *o, struct err *err)
{
	struct store *store = NULL;
	char root[512];
	if (o->host) /* built in: the supervisor makes it */
		return o->rootfs || o->layers || o->files ? err_say(err, EINVAL, "--host is an image of its own") : 0;
	int r = make_root(ws, o, root, sizeof(root), err);
	if (r == 0)
		r = store_open(ws->state, &store, err);
	if (r == 0)
		r = image_import(store, BENCH_IMAGE, root, NULL, err);
	if (r == 0 && o->layers > 1)
		r = add_layers(ws, store, o->layers, err);
	/* What was written is not to reach the disk in the middle of a measurement. */
	if (r == 0 && syncfs(store_fd(store)) < 0)
		r = err_set(err, errno, "sync %s", ws->state);
	store_free(store);
	return r == 0 && bench_interrupted ? err_say(err, EINTR, "interrupted") : r;
}

int workspace_file(const struct options *o, char **ret_path, char **ret_data, size_t *ret_len, struct err *err)
{
	const char *eq = strchr(o->file, '=');
	if (!eq || o->file[0] != '/')
		return err_say(err, EINVAL, "--file wants DEST=SRC, DEST absolute");
	int r = fd_read_file(AT_FDCWD, eq + 1, JOB_JSON_MAX, ret_data, ret_len, err);
	if (r < 0)
		return r;
	*ret_path = strndup(o->file, (size_t)(eq - o->file));
	return *ret_path ? 0 : err_set(err, ENOMEM, "--file");
}

void workspace_remove(const struct workspace *ws)
{
	char *argv[] = {(char *)"rm", (char *)"-rf", (char *)"--one-file-system", (char *)ws->dir, NULL};
	pid_t pid;
	if (ws->dir[0] && posix_spawnp(&pid, "rm", NULL, NULL, argv, environ) == 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
}
