/*
 * The open helper against a hostile worker, and a job that left links behind: whatever path is asked for, what is opened is a file or
 * directory of the job's root, never what a link points at, never anything but a file or a directory.
 *
 * Taken out once: the `resolve` flags; the host's /etc/passwd is then opened (corpus: host_file).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "fuzz_input.h"

#include "base/fd.h"
#include "layers/tree.h"
#include "pool/slot.h"

static char top[64];
static int root = -1;
static ino_t ours[4];
static dev_t device;

static void clean_up(void)
{
	(void)tree_remove(AT_FDCWD, top, NULL);
}

static ino_t inode(const char *path)
{
	struct stat st;
	CHECK(fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0);
	device = st.st_dev;
	return st.st_ino;
}

/* top/r is the root: a file in a directory, and every kind of way out of it. */
static void set_up(void)
{
	fuzz_tmp(top, sizeof(top), "open");
	(void)atexit(clean_up);
	int dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir >= 0 && mkdirat(dir, "r", 0755) == 0 && mkdirat(dir, "r/d", 0755) == 0);
	root = openat(dir, "r", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int file = openat(root, "d/f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), outside = openat(dir, "o", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	CHECK(root >= 0 && file >= 0 && outside >= 0);
	CHECK(symlinkat("/etc/passwd", root, "l") == 0 && symlinkat("../o", root, "u") == 0 && symlinkat("d", root, "s") == 0);
	CHECK(symlinkat("/proc/self/fd/2", root, "m") == 0 && mkfifoat(root, "p", 0644) == 0 && linkat(root, "d/f", root, "h", 0) == 0);
	close(file);
	close(outside);
	close(dir);
	ours[0] = inode("d/f");
	ours[1] = inode("d");
	ours[2] = inode(".");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct open_request request;
	struct input in = {data, size};
	struct open_reply reply = {0};
	struct stat st;
	if (root < 0)
		set_up();
	int lowest = lowest_fd();
	memset(&request, 0, sizeof(request));
	request.directory = take_byte(&in) & 1;
	take_bytes(&in, request.path, sizeof(request.path));
	int fd = open_one(root, &request, &reply);
	CHECK(fd >= 0 ? reply.error == 0 : reply.error < 0 && reply.error >= -4095);
	if (fd >= 0) {
		CHECK(fstat(fd, &st) == 0 && (request.directory ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)));
		CHECK(st.st_dev == device && (st.st_ino == ours[0] || st.st_ino == ours[1] || st.st_ino == ours[2]));
		close(fd);
	}
	CHECK(lowest_fd() == lowest);
	return 0;
}
