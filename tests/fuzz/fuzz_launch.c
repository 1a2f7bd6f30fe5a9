/*
 * The zygote's child against a hostile worker, and against the packs of hostile jobs: a dispatch and the descriptors beside it, up to
 * the exec. What it would do to files, limits and the process itself is only looked at: paths are absolute, strings end, vectors are
 * closed by NULL, modes are permissions alone. An input: flags and the length of the strings, the datagram, then the packs.
 *
 * Taken out once: the look at paths in unpack(); a relative one is then opened (corpus: relative_path).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fuzz_input.h"

#include "base/fd.h"
#include "base/sys.h"
#include "pool/steps.h"
#include "pool/zygote.h"

static unsigned mood;	      /* which calls fail */
static bool executed, inside; /* inside: it is the child that calls, not libFuzzer */

static int check_path(const char *path)
{
	CHECK(path[0] == '/' && strlen(path) <= 4095);
	return ++mood % 5 == 0 ? (errno = ENOENT, -1) : 0;
}

int __wrap_open64(const char *path, int flags, ...);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_unlink(const char *path);
int __wrap_rmdir(const char *path);
int __wrap_chmod(const char *path, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_lstat64(const char *path, struct stat *st);
int __wrap_setrlimit64(int resource, const struct rlimit *limit);
int __wrap_execve(const char *path, char *const argv[], char *const envp[]);
int __wrap_sys_openat2(int dirfd, const char *path, const struct open_how *how);
int __wrap_fchdir(int fd);
int __wrap_dup2(int from, int to);

int __real_open64(const char *path, int flags, ...);
int __real_mkdir(const char *path, mode_t mode);
int __real_unlink(const char *path);
int __real_rmdir(const char *path);
int __real_lstat64(const char *path, struct stat *st);
int __real_setrlimit64(int resource, const struct rlimit *limit);
int __real_dup2(int from, int to);

int __wrap_open64(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = va_arg(ap, mode_t);
	va_end(ap);
	if (!inside)
		return __real_open64(path, flags, mode);
	CHECK((flags & (O_CREAT | O_EXCL | O_NOFOLLOW)) == (O_CREAT | O_EXCL | O_NOFOLLOW));
	return check_path(path) < 0 ? -1 : memfd_create("file", MFD_CLOEXEC);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
	if (!inside)
		return __real_mkdir(path, mode);
	return check_path(path);
}

int __wrap_unlink(const char *path)
{
	if (!inside)
		return __real_unlink(path);
	(void)check_path(path);
	errno = mood & 1 ? EISDIR : ENOENT;
	return -1;
}

int __wrap_rmdir(const char *path)
{
	if (!inside)
		return __real_rmdir(path);
	return check_path(path);
}

int __wrap_chmod(const char *path, mode_t mode)
{
	CHECK(!(mode & ~0777u));
	return check_path(path);
}

int __wrap_fchmod(int fd, mode_t mode)
{
	CHECK(!(mode & ~0777u) && fd >= 0);
	return 0;
}

int __wrap_lstat64(const char *path, struct stat *st)
{
	if (!inside)
		return __real_lstat64(path, st);
	*st = (struct stat){.st_mode = mood & 1 ? S_IFDIR : S_IFREG};
	return check_path(path);
}

int __wrap_setrlimit64(int resource, const struct rlimit *limit)
{
	if (!inside)
		return __real_setrlimit64(resource, limit);
	CHECK(limit->rlim_cur == limit->rlim_max);
	return 0;
}

int __wrap_sys_openat2(int dirfd, const char *path, const struct open_how *how)
{
	CHECK(strlen(path) < DISPATCH_STRINGS_MAX && how->resolve == RESOLVE_NO_MAGICLINKS);
	return dup(STDERR_FILENO);
}

int __wrap_fchdir(int fd)
{
	return 0;
}

int __wrap_dup2(int from, int to)
{
	if (!inside)
		return __real_dup2(from, to);
	CHECK(from > 2 && (to == 3 || to == 4));
	return to;
}

int __wrap_execve(const char *path, char *const argv[], char *const envp[])
{
	size_t bytes = strlen(path);
	CHECK(argv[0]);
	for (size_t i = 0; argv[i]; i++)
		bytes += strlen(argv[i]);
	for (size_t i = 0; envp[i]; i++)
		bytes += strlen(envp[i]);
	CHECK(bytes < 3 * DISPATCH_STRINGS_MAX);
	executed = true;
	errno = ENOENT;
	return -1;
}

/* The calls are replaced by their names in the object files; should one have another name here, nothing may come of it. */
static void check_wraps(void)
{
	struct rlimit limit = {7, 7}, now;
	struct stat st;
	inside = true;
	int fd = open("/nowhere/at/all", O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0600);
	CHECK(fd >= 0 && mkdir("/nowhere/at/all", 0) == 0 && rmdir("/nowhere/at/all") == 0 && lstat("/nowhere/at/all", &st) == 0);
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0 && unlink("/nowhere/at/all") < 0);
	inside = false;
	CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur != 7);
	close(fd);
}

static int memfd_of(const uint8_t *data, size_t size)
{
	int fd = memfd_create("pack", MFD_CLOEXEC);
	CHECK(fd >= 0 && fd_write_all(fd, data, size) == 0);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct zygote_page page = {0};
	static bool checked;
	if (!checked)
		check_wraps();
	checked = true;
	int pair[2], fds[4];
	unsigned first = take_byte(&in);
	size_t len = first & 15 ? sizeof(struct dispatch) + take_byte(&in) : take_byte(&in);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	if (len > in.left)
		len = in.left;
	if (len == 0) {
		close(pair[0]);
		close(pair[1]);
		return 0;
	}
	char datagram[sizeof(struct dispatch) + 256];
	memcpy(datagram, in.at, len);
	in.at += len;
	in.left -= len;
	/* The rest is the strings' memfd, a pack and a blob in one: which is which, the head decides. */
	size_t nfds = first >> 4 & 3;
	for (size_t i = 0; i < nfds; i++)
		fds[i] = memfd_of(in.at, in.left);
	CHECK(fd_send(pair[0], datagram, len, fds, nfds) == 0 && dup3(pair[1], ZYGOTE_CONTROL_FD, O_CLOEXEC) >= 0);
	fd_close_many(fds, nfds);
	mood = first;
	executed = false;
	inside = true;
	launch_job(&page, NULL, NULL);
	inside = false;
	CHECK(page.step != STEP_NONE && page.step < STEP_MAX && page.error >= 0 && (page.step == STEP_EXEC || !executed));
	launch_forget();
	/* The child would be gone now, and what it was given with it. */
	(void)sys_close_range(ZYGOTE_CONTROL_FD, ~0u, 0);
	close(pair[0]);
	close(pair[1]);
	return 0;
}
