/*
 * The collect helper: opens a finished job's files with the job's own credentials, beneath the job's root, and hands
 * the fds to the worker. A throw-away child of the nursery; no capability, no way to another file than those the job
 * itself could have named.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/sys.h"
#include "pool/slot.h"

/*
 * What is to be committed is read by a helper that may read more than the job: so a directory must be the job's own, or lie where only
 * its own things are: in one of its places. What an image has for its root alone stays there.
 */
static bool is_jobs_own(int root, const struct stat *dir)
{
	static const char *const places[] = {"work", "tmp", "dev/shm"};
	const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	struct stat top, st;
	if (fstat(root, &top) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		_cleanup_close_ int fd = sys_openat2(root, places[i], &how);
		if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev != top.st_dev && st.st_dev == dir->st_dev)
			return true;
	}
	return dir->st_dev == top.st_dev && dir->st_uid == geteuid();
}

int open_one(int root, struct open_request *request, struct open_reply *reply)
{
	request->path[sizeof(request->path) - 1] = '\0';
	struct open_how how = {
		.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	if (request->directory)
		how.flags |= O_DIRECTORY;
	_cleanup_close_ int fd = sys_openat2(root, request->path, &how);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0) {
		reply->error = fd < 0 ? fd : -errno;
		return -1;
	}
	/* /work, /tmp and /dev/shm are mounts of their own, so mounts are crossed; but what the kernel makes up is no file of a job's. */
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0) {
		reply->error = -errno;
		return -1;
	}
	bool made_up = fs.f_type == PROC_SUPER_MAGIC;
	bool wrong = request->directory ? !is_jobs_own(root, &st) : !S_ISREG(st.st_mode);
	if (wrong || made_up) {
		reply->error = -EINVAL;
		reply->not_regular = 1;
		return -1;
	}
	reply->size = (uint64_t)st.st_size;
	return TAKE_FD(fd);
}

_Noreturn void open_serve(int sock, int root, uid_t host_uid)
{
	/* Low numbers are standard streams only; whatever the two are, move them out of the way of each other. */
	int keep[2] = {fcntl(sock, F_DUPFD_CLOEXEC, 16), fcntl(root, F_DUPFD_CLOEXEC, 16)};
	if (keep[0] < 0 || keep[1] < 0 || dup3(keep[0], 3, O_CLOEXEC) < 0 || dup3(keep[1], 4, O_CLOEXEC) < 0)
		_exit(1);
	(void)sys_close_range(5, ~0u, 0);
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (sys_drop_bounding_set() < 0 || setgroups(0, NULL) < 0 || setresgid(host_uid, host_uid, host_uid) < 0 ||
		setresuid(host_uid, host_uid, host_uid) < 0 || sys_drop_caps() < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		_exit(1);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	static struct open_request request;
	for (;;) {
		int fds[FD_PASS_MAX];
		size_t nfds = 0;
		ssize_t n = fd_recv(3, &request, sizeof(request), fds, &nfds, 0);
		if (n <= 0)
			_exit(0);
		fd_close_many(fds, nfds);
		struct open_reply reply = {.error = -EBADMSG};
		int fd = -1;
		if (n == sizeof(request)) {
			reply.error = 0;
			fd = open_one(4, &request, &reply);
		}
		if (fd_send(3, &reply, sizeof(reply), &fd, fd >= 0 ? 1 : 0) < 0)
			_exit(1);
		cleanup_close(&fd);
	}
}
