/*
 * Verification of layers and blobs; see the header. Two processes: the caller (root, the verb) opens what is to be read and
 * holds the layer; a forked child with no capability but those to read hashes and compares, and tells through a pipe.
 * Whatever is found wrong with the layer is a difference; an error is only what keeps us from telling.
 */
#include "layers/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse.h"
#include "base/sys.h"
#include "layers/hash.h"
#include "layers/store_internal.h"
#include "layers/tree.h"
#include "layers/use.h"

#define READ_BUFFER (256u << 10)
#define FD_FIRST 3 /* of those that the child keeps */
#define FD_PARKING 64

/* The whole of fd, but of more than `size` bytes only one more. Return: 0 with the digests and the bytes read, or -errno. */
static int hash_fd(int fd, uint64_t size, uint8_t ret_id[16], uint8_t ret_sha256[32], uint64_t *ret_bytes, struct err *err)
{
	_cleanup_(hash_cleanup) struct hash *hash = NULL;
	_cleanup_free_ char *buf = malloc(READ_BUFFER);
	uint64_t done = 0;
	int r = buf ? hash_new(&hash, err) : err_set(err, ENOMEM, "hash a file");
	while (r == 0 && done <= size) {
		ssize_t n = fd_read_all(fd, buf, READ_BUFFER);
		if (n < 0)
			return err_set(err, (int)n, "read");
		if (n == 0)
			break;
		hash_update(hash, buf, (size_t)n);
		done += (uint64_t)n;
	}
	*ret_bytes = done;
	return r < 0 ? r : hash_final(hash, ret_id, ret_sha256, err);
}

int verify_content(int fd, uint64_t size, const uint8_t sha256[32], struct err *err)
{
	uint8_t id[16], sha[32];
	uint64_t bytes;
	int r = hash_fd(fd, size, id, sha, &bytes, err);
	return r < 0 ? r : bytes == size && memcmp(sha, sha256, sizeof(sha)) == 0;
}

/* ---- in the child ---- */
int verify_differs(struct verify_child *child, const char *fmt, ...)
{
	struct verify_message message = {.kind = VERIFY_DIFFERS};
	va_list ap;
	if (++child->differences > VERIFY_NAMED_MAX)
		return 0;
	va_start(ap, fmt);
	(void)vsnprintf(message.text, sizeof(message.text), fmt, ap);
	va_end(ap);
	return fd_write_all(child->out, &message, sizeof(message));
}

static int limit(__rlimit_resource_t which, rlim_t value)
{
	const struct rlimit both = {value, value};
	return setrlimit(which, &both) < 0 ? -errno : 0;
}

/*
 * Reading whatever its owner is, and seeing trusted.* attributes, is all that it can: that takes CAP_SYS_ADMIN, xattr(7), so
 * this is no jail. But what it reads it only hashes and compares. Where whoever calls has no CAP_DAC_READ_SEARCH to hand on it is
 * CAP_DAC_OVERRIDE, which includes it.
 */
static int confine(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	struct __user_cap_data_struct data[2];
	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	bool reads = data[0].permitted & SYS_CAP(DAC_READ_SEARCH);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	int r = limit(RLIMIT_CORE, 1); /* with 0 a "|handler" still runs, core(5) */
	if (r == 0)
		r = limit(RLIMIT_FSIZE, 0);
	if (r == 0)
		r = sys_drop_bounding_set();
	return r < 0 ? r : sys_keep_caps(SYS_CAP(SYS_ADMIN) | (reads ? SYS_CAP(DAC_READ_SEARCH) : SYS_CAP(DAC_OVERRIDE)));
}

/* The given fds become FD_FIRST, FD_FIRST + 1, …; all others are closed. Negative ones stay so. */
static int keep_fds(int *const *fds, size_t n)
{
	int next = FD_FIRST;
	for (size_t i = 0; i < n; i++)
		if (*fds[i] >= 0 && (*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, FD_PARKING)) < 0)
			return -errno;
	for (size_t i = 0; i < n; i++) {
		if (*fds[i] < 0)
			continue;
		if (dup3(*fds[i], next, O_CLOEXEC) < 0)
			return -errno;
		*fds[i] = next++;
	}
	return sys_close_range((unsigned)next, ~0u, 0);
}

static int compare(struct verify_child *child, struct verify_message *end, struct err *err)
{
	uint64_t bytes;
	int r = hash_fd(child->tree, UINT64_MAX - 1, end->id, end->sha256, &bytes, err);
	if (r < 0)
		return err_wrap(err, "the description of the tree");
	/* A description that is not the one that was published proves nothing about the tree. */
	if (memcmp(end->sha256, child->sha256, sizeof(end->sha256)) != 0)
		return verify_differs(child, "its description ('tree') has another SHA-256 than it was published with");
	r = verify_tree(child, err);
	if (r == 0 && child->pack >= 0)
		r = verify_pack(child, err);
	if (r == -EUCLEAN) /* hashed as published, and damaged nevertheless */
		r = verify_differs(child, "%s", err_msg(err));
	return r;
}

static _Noreturn void run_child(struct verify_child *child, pid_t parent)
{
	struct err err = ERR_INIT;
	struct verify_message end = {.kind = VERIFY_END};
	int *const fds[] = {&child->diff, &child->tree, &child->pack, &child->out};
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	int r = getppid() != parent ? -EPIPE : keep_fds(fds, ARRAY_SIZE(fds));
	if (r == 0)
		r = confine();
	r = r < 0 ? err_set(&err, r, "confine the child") : compare(child, &end, &err);
	end.differences = child->differences;
	if (r < 0) {
		end.kind = VERIFY_FAILED;
		end.code = r;
		(void)snprintf(end.text, sizeof(end.text), "%s", err_msg(&err));
	}
	r = fd_write_all(child->out, &end, sizeof(end));
	_exit(r < 0 ? 1 : 0);
}

/* ---- in the caller ---- */
static void found(struct verify *verify, const char *what)
{
	if (++verify->differences <= VERIFY_NAMED_MAX && verify->differs)
		verify->differs(verify->ctx, what);
}

static int listen_to(int in, struct verify *verify, struct verify_message *ret_end, struct err *err)
{
	for (;;) {
		ssize_t n = fd_read_all(in, ret_end, sizeof(*ret_end));
		if (n != sizeof(*ret_end))
			return err_set(err, n < 0 ? (int)n : EPIPE, "hear from the child that verifies");
		ret_end->text[sizeof(ret_end->text) - 1] = '\0';
		if (ret_end->kind == VERIFY_END)
			return 0;
		if (ret_end->kind == VERIFY_FAILED)
			return err_say(err, ret_end->code, "%s", ret_end->text);
		found(verify, ret_end->text);
	}
}

static int run_verify(struct verify_child *child, struct verify *verify, struct verify_message *ret_end, struct err *err)
{
	int pipe_fds[2];
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_set(err, errno, "make a pipe");
	_cleanup_close_ int in = pipe_fds[0];
	child->out = pipe_fds[1];
	(void)fflush(NULL);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0)
		run_child(child, parent);
	int saved = errno;
	(void)close(pipe_fds[1]);
	if (pid < 0)
		return err_set(err, saved, "fork");
	int r = listen_to(in, verify, ret_end, err), status = 0;
	cleanup_close(&in);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == -EPIPE && WIFSIGNALED(status))
		r = err_say(err, EIO, "the child that verifies was killed by signal %d", WTERMSIG(status));
	return r;
}

static int unhex(const char hex[65], uint8_t ret[32])
{
	for (size_t i = 0; i < 32; i++) {
		const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
		char *end;
		ret[i] = (uint8_t)strtoul(pair, &end, 16);
		if (*end)
			return -EINVAL;
	}
	return 0;
}

/* Return: 1 to go on, 0 when it was told that there is nothing to go on with, or -errno. */
static int open_layer(struct store *store, const uint8_t id[16], struct verify_child *child, struct verify *verify, struct err *err)
{
	char hex[33], sha[65];
	struct layer_info info;
	format_hex(id, 16, hex);
	int r = layer_load(store, id, &info, err);
	if (r == 0)
		r = layer_sha256(store, id, sha, err);
	if (r == -EUCLEAN) {
		found(verify, err_msg(err));
		return 0;
	}
	if (r < 0)
		return r;
	if (unhex(sha, child->sha256) < 0)
		return err_say(err, EUCLEAN, "its SHA-256 cannot be read");
	_cleanup_close_ int dir = tree_open_dir(store->layers, hex);
	if (dir < 0)
		return err_set(err, dir, "open the layer");
	child->tree = openat(dir, "tree", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (child->tree < 0 && errno == ENOENT) {
		found(verify, "its description ('tree') is missing: it was removed, or an earlier petri made the layer; import it again");
		return 0;
	}
	child->diff = child->tree < 0 ? -errno : tree_open_dir(dir, "diff");
	if (child->diff == -ENOENT) {
		found(verify, "missing: its tree ('diff')");
		return 0;
	}
	struct stat st;
	if (child->diff < 0 || fstat(child->tree, &st) < 0)
		return err_set(err, child->diff < 0 ? child->diff : errno, "open the layer");
	if (!S_ISREG(st.st_mode)) {
		found(verify, "its description ('tree') is no file");
		return 0;
	}
	if (!info.has_pack)
		return 1;
	child->pack = layer_open_pack(store, id, err);
	if (child->pack >= 0)
		return 1;
	found(verify, err_msg(err));
	return 0;
}

/* A layer without the file that is locked is one of an earlier petri. */
static bool is_there(struct store *store, const uint8_t id[16])
{
	char hex[33];
	format_hex(id, 16, hex);
	return faccessat(store->layers, hex, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void child_clear(struct verify_child *child)
{
	cleanup_close(&child->diff);
	cleanup_close(&child->tree);
	cleanup_close(&child->pack);
}

int layer_verify(struct store *store, const uint8_t id[16], struct verify *verify, struct err *err)
{
	_cleanup_(child_clear) struct verify_child child = {.diff = -1, .tree = -1, .pack = -1, .out = -1};
	struct verify_message end = {.kind = VERIFY_END};
	uint8_t salted[16];
	verify->differences = 0;
	_cleanup_close_ int held = layer_hold(store, id, err);
	if (held == -ENOENT && is_there(store, id)) {
		found(verify, err_msg(err));
		return 0;
	}
	if (held < 0)
		return held;
	hash_prepare();
	int r = open_layer(store, id, &child, verify, err);
	if (r <= 0)
		return r;
	r = run_verify(&child, verify, &end, err);
	if (r < 0)
		return r;
	verify->differences = end.differences;
	hash_salt(store->secret, end.sha256, salted);
	if (memcmp(end.id, id, 16) != 0 && memcmp(salted, id, 16) != 0)
		found(verify, "its id is not that of its description ('tree')");
	return 0;
}

/* One file, of which nothing is parsed: no child is needed. */
int blob_verify(struct store *store, const uint8_t id[16], struct verify *verify, struct err *err)
{
	uint8_t plain[16], salted[16], sha[32];
	char recorded[65], now[65];
	uint64_t size = 0, bytes;
	verify->differences = 0;
	_cleanup_close_ int fd = blob_open_unused(store, id, &size, err);
	if (fd == -EUCLEAN) {
		found(verify, err_msg(err));
		return 0;
	}
	if (fd < 0)
		return fd;
	int r = hash_fd(fd, size, plain, sha, &bytes, err);
	if (r < 0)
		return r;
	format_hex(sha, sizeof(sha), now);
	hash_salt(store->secret, sha, salted);
	if (bytes != size)
		found(verify, "its size changed");
	else if (memcmp(plain, id, 16) != 0 && memcmp(salted, id, 16) != 0)
		found(verify, "changed content: its id is another one");
	r = blob_sha256(store, id, recorded, err);
	if (r == -ENOENT)
		return r;
	if (r < 0 || strcmp(recorded, now) != 0)
		found(verify, "changed content: its SHA-256 is another one");
	return 0;
}
