/*
 * The zygote's child, from "waiting" to execve: one datagram brings the job. It runs as the job's user in the job's
 * root, so whatever the packs and strings say can harm nobody else; still each length is checked before it is used.
 * Nothing here forks or mounts. Only async-signal-safe calls.
 */
#include "pool/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/pack.h"
#include "base/sys.h"
#include "pool/steps.h"

#define COPY_CHUNK 65536

/* Untouched pages of these cost nothing while the zygote waits. */
static char datagram[sizeof(struct dispatch) + DISPATCH_INLINE_MAX];
static char *vector[DISPATCH_WORDS_MAX + 2];
static char copy_buffer[COPY_CHUNK];

static void *mapped; /* the strings of the last job that had many */
static size_t mapped_len;

struct failure {
	unsigned step;
	int error;
	int index;
};

static int fail(struct failure *f, unsigned step, int error, int index)
{
	*f = (struct failure){step, error < 0 ? -error : error, index};
	return -1;
}

/* ---- the pack ---- */
static int read_exact(int fd, void *buf, size_t len)
{
	ssize_t n = fd_read_all(fd, buf, len);
	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EBADMSG;
}

/* Parents are made as the job's user may make them; one that is there is fine, whatever it is: the open decides. */
static void make_parents(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		(void)mkdir(path, 0755);
		*p = '/';
	}
}

static int copy_bytes(int from, int to, uint64_t size, bool exact)
{
	while (size > 0) {
		ssize_t n = read(from, copy_buffer, MIN(size, (uint64_t)sizeof(copy_buffer)));
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			return exact ? -EBADMSG : 0;
		int r = fd_write_all(to, copy_buffer, (size_t)n);
		if (r < 0)
			return r;
		size -= (uint64_t)n;
	}
	return 0;
}

static int write_file(const struct pack_entry *entry, char *path, int pack, const int *blobs, size_t nblobs)
{
	int source = pack;
	if (entry->source == PACK_FD) {
		if (entry->fd >= nblobs)
			return -EBADMSG;
		source = blobs[entry->fd];
		if (lseek(source, 0, SEEK_SET) < 0)
			return -errno;
	}
	/* What lies beneath is replaced, whatever its mode or kind, as an upper layer would cover it. */
	if (unlink(path) < 0 && errno == EISDIR)
		(void)rmdir(path);
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
	int fd = open(path, flags, 0600);
	if (fd < 0 && errno == ENOENT) {
		make_parents(path);
		fd = open(path, flags, 0600);
	}
	if (fd < 0)
		return -errno;
	int r = copy_bytes(source, fd, entry->size, entry->source == PACK_INLINE);
	if (r == 0 && fchmod(fd, entry->mode & 0777) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int make_entry_dir(const struct pack_entry *entry, char *path)
{
	struct stat st;
	if (lstat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		(void)unlink(path);
	if (mkdir(path, 0700) < 0 && errno == ENOENT) {
		make_parents(path);
		(void)mkdir(path, 0700);
	}
	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return chmod(path, entry->mode & 0777) < 0 ? -errno : 0;
}

static int unpack(int pack, const int *blobs, size_t nblobs, struct failure *f)
{
	char magic[PACK_MAGIC_LEN], path[PACK_PATH_MAX + 1];
	/* Received fds share their offset with whoever sent them: a kept pack is read from its start each time. */
	if (lseek(pack, 0, SEEK_SET) < 0)
		return fail(f, STEP_PACK, errno, 0);
	int r = read_exact(pack, magic, sizeof(magic));
	if (r < 0 || memcmp(magic, PACK_MAGIC, sizeof(magic)) != 0)
		return fail(f, STEP_PACK, r < 0 ? r : EBADMSG, 0);
	for (int i = 0;; i++) {
		struct pack_entry entry;
		r = read_exact(pack, &entry, sizeof(entry));
		if (r < 0)
			return fail(f, STEP_PACK, r, i);
		if (entry.type == PACK_END)
			return 0;
		if (entry.path_len == 0 || entry.path_len > PACK_PATH_MAX)
			return fail(f, STEP_PACK, EBADMSG, i);
		r = read_exact(pack, path, entry.path_len);
		if (r < 0)
			return fail(f, STEP_PACK, r, i);
		path[entry.path_len] = '\0';
		if (path[0] != '/' || strlen(path) != entry.path_len)
			return fail(f, STEP_PACK, EBADMSG, i);
		if (entry.type == PACK_FILE)
			r = write_file(&entry, path, pack, blobs, nblobs);
		else if (entry.type == PACK_DIR)
			r = make_entry_dir(&entry, path);
		else
			r = -EBADMSG;
		if (r < 0)
			return fail(f, STEP_FILE, r, i);
	}
}

/* ---- the strings ---- */
struct words {
	char **argv, **envp;
	const char *cwd;
};

static int split(const struct dispatch *d, char *strings, struct words *ret)
{
	if (d->argc == 0 || (uint64_t)d->argc + d->envc > DISPATCH_WORDS_MAX || d->strings_len == 0 ||
		strings[d->strings_len - 1] != '\0')
		return -EBADMSG;
	char *p = strings, *end = strings + d->strings_len;
	size_t at = 0;
	for (uint32_t i = 0; i < d->argc + d->envc; i++) {
		if (p >= end)
			return -EBADMSG;
		if (i == d->argc)
			vector[at++] = NULL;
		vector[at++] = p;
		p += strlen(p) + 1;
	}
	if (d->envc == 0)
		vector[at++] = NULL;
	vector[at] = NULL;
	if (p >= end)
		return -EBADMSG;
	ret->argv = vector;
	ret->envp = vector + d->argc + 1;
	ret->cwd = p;
	return 0;
}

static int set_limits(const struct dispatch *d, struct failure *f)
{
	const struct {
		int resource;
		uint64_t value;
	} limits[] = {{RLIMIT_NOFILE, d->open_files}, {RLIMIT_STACK, d->stack_bytes}, {RLIMIT_FSIZE, d->file_bytes}};
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit want = {limits[i].value, limits[i].value};
		if (setrlimit((__rlimit_resource_t)limits[i].resource, &want) < 0)
			return fail(f, STEP_RLIMIT, errno, limits[i].resource);
	}
	return 0;
}

/* Those that are the same for every job; a host that has less already is stricter still. */
int launch_common_limits(void)
{
	static const struct {
		int resource;
		rlim_t value;
	} limits[] = {
		/* 1, not 0: with 0 a core_pattern that is a pipe would still get the job's memory, core(5). Where the host has 0, the
		 * nursery saw to it that it is harmless. */
		{RLIMIT_CORE, 1},
		{RLIMIT_MSGQUEUE, 819200},
		{RLIMIT_MEMLOCK, 65536},
		{RLIMIT_RTPRIO, 0},
		{RLIMIT_NICE, 0},
	};
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit held;
		if (getrlimit((__rlimit_resource_t)limits[i].resource, &held) < 0)
			return -errno;
		rlim_t value = MIN(held.rlim_max, limits[i].value);
		struct rlimit want = {value, value};
		if (setrlimit((__rlimit_resource_t)limits[i].resource, &want) < 0)
			return -errno;
	}
	return 0;
}

/* ---- exec ---- */
static const char *find_env(char **envp, const char *key)
{
	size_t len = strlen(key);
	for (; *envp; envp++)
		if (strncmp(*envp, key, len) == 0 && (*envp)[len] == '=')
			return *envp + len + 1;
	return NULL;
}

/* Like execvpe(3), but with the job's own PATH, and telling "not there" from "not executable" apart. */
static int exec_in_path(const struct words *w, struct zygote_page *page)
{
	const char *name = w->argv[0], *path = find_env(w->envp, "PATH");
	char file[PATH_MAX];
	int seen = ENOENT;
	if (!path)
		path = "/usr/local/bin:/usr/bin:/bin";
	if (strchr(name, '/')) {
		page->exec_ns = now_ns();
		(void)execve(name, w->argv, w->envp);
		return errno;
	}
	for (const char *p = path; p; p = strchr(p, ':') ? strchr(p, ':') + 1 : NULL) {
		size_t len = strcspn(p, ":"), name_len = strlen(name);
		if (len + name_len + 2 > sizeof(file))
			continue;
		memcpy(file, p, len);
		file[len] = '/';
		memcpy(file + len + 1, name, name_len + 1);
		page->exec_ns = now_ns();
		(void)execve(len == 0 ? name : file, w->argv, w->envp);
		if (errno == EACCES)
			seen = EACCES;
		else if (errno != ENOENT && errno != ENOTDIR)
			return errno;
	}
	return seen;
}

/* Not by way of an fd of this process: what is open here is not the job's. */
static int enter(const char *cwd)
{
	const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
	_cleanup_close_ int fd = sys_openat2(AT_FDCWD, cwd, &how);
	return fd < 0 ? fd : fchdir(fd) < 0 ? -errno
					    : 0;
}

static int receive(struct dispatch *d, char **ret_strings, int *fds, size_t *nfds, struct failure *f)
{
	ssize_t n = fd_recv(ZYGOTE_CONTROL_FD, datagram, sizeof(datagram), fds, nfds, 0);
	if (n == 0)
		_exit(0); /* the worker gave this zygote up */
	if (n < 0)
		return fail(f, STEP_DISPATCH, (int)n, 0);
	if ((size_t)n < sizeof(*d))
		return fail(f, STEP_DISPATCH, EBADMSG, 0);
	memcpy(d, datagram, sizeof(*d));
	if (d->magic != DISPATCH_MAGIC || d->strings_len > DISPATCH_STRINGS_MAX)
		return fail(f, STEP_DISPATCH, EBADMSG, 1);
	if (!(d->flags & DISPATCH_ARGS_MEMFD)) {
		if ((size_t)n != sizeof(*d) + d->strings_len)
			return fail(f, STEP_DISPATCH, EBADMSG, 2);
		*ret_strings = datagram + sizeof(*d);
		return 0;
	}
	if (*nfds == 0)
		return fail(f, STEP_DISPATCH, EBADMSG, 3);
	/* Sealed by the sender; private all the same, since split() keeps pointers into it. */
	void *map = mmap(NULL, d->strings_len, PROT_READ, MAP_PRIVATE, fds[0], 0);
	if (map == MAP_FAILED)
		return fail(f, STEP_DISPATCH, errno, 4);
	mapped = map;
	mapped_len = d->strings_len;
	*ret_strings = map;
	return 0;
}

/* A runtime's two fds, at the numbers that it expects them at; its exec is to keep them. First out of each other's way. */
static int place_runtime_fds(const int fds[2])
{
	int ready = fcntl(fds[0], F_DUPFD_CLOEXEC, ZYGOTE_CONTROL_FD + 1), job = fcntl(fds[1], F_DUPFD_CLOEXEC, ZYGOTE_CONTROL_FD + 1);
	return ready < 0 || job < 0 || dup2(ready, 3) < 0 || dup2(job, 4) < 0 ? -errno : 0;
}

static int launch(struct zygote_page *page, int (*lock)(void *ctx), void *lock_ctx, struct failure *f)
{
	struct dispatch d;
	struct words words;
	char *strings;
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	if (receive(&d, &strings, fds, &nfds, f) < 0)
		return -1;
	size_t first = d.flags & DISPATCH_ARGS_MEMFD ? 1 : 0;
	bool runtime = d.flags & DISPATCH_RUNTIME;
	size_t kept = runtime ? 2 : 0;
	if (split(&d, strings, &words) < 0 || first + d.npacks + kept > nfds)
		return fail(f, STEP_DISPATCH, EBADMSG, 5);
	/* Where the filter comes late, fds are still shared with the init, and what may be called after it is not known. */
	if (runtime && lock)
		return fail(f, STEP_DISPATCH, EBADMSG, 6);
	nfds -= kept;
	const int *blobs = fds + first + d.npacks;
	size_t nblobs = nfds - first - d.npacks;
	for (uint32_t i = 0; i < d.npacks; i++)
		if (unpack(fds[first + i], blobs, nblobs, f) < 0)
			return -1;
	fd_close_many(fds, nfds);
	int r = enter(words.cwd);
	if (r < 0)
		return fail(f, STEP_CWD, r, 0);
	if (set_limits(&d, f) < 0)
		return -1;
	r = lock ? lock(lock_ctx) : 0;
	if (r < 0)
		return fail(f, STEP_FILTER, r, 0);
	r = runtime ? place_runtime_fds(fds + nfds) : 0;
	if (r < 0)
		return fail(f, STEP_DISPATCH, r, 7);
	return fail(f, STEP_EXEC, exec_in_path(&words, page), 0);
}

void launch_forget(void)
{
	/* The child mapped them into the memory that it shared with the room, and its exec only left that. */
	if (mapped)
		(void)munmap(mapped, mapped_len);
	mapped = NULL;
}

void launch_job(struct zygote_page *page, int (*lock)(void *ctx), void *lock_ctx)
{
	struct failure f = {0, 0, 0};
	(void)launch(page, lock, lock_ctx, &f);
	page->exec_ns = 0;
	page->step = f.step;
	page->error = f.error;
	page->index = f.index;
}
