/* File-descriptor helpers, usable in every petri process. Nothing here allocates but fd_read_file(). */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

int fd_write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;
	while (len > 0) {
		ssize_t n = write(fd, p, len);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t fd_read_all(int fd, void *buf, size_t cap)
{
	size_t got = 0;
	while (got < cap) {
		ssize_t n = read(fd, (char *)buf + got, cap - got);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

int fd_read_file(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len, struct err *err)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return err_set(err, errno, "open %s", name);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat %s", name);
	if (!S_ISREG(st.st_mode))
		return err_say(err, EINVAL, "%s is not a regular file", name);
	/* st_size is 0 in procfs and may grow in between: grow as we read, and never past max. */
	size_t cap = (size_t)MIN((uint64_t)MAX(st.st_size, 0), (uint64_t)max) + 1, len = 0;
	_cleanup_free_ char *buf = malloc(cap + 1);
	if (!buf)
		return err_set(err, ENOMEM, "read %s", name);
	for (;;) {
		ssize_t n = fd_read_all(fd, buf + len, cap - len);
		if (n < 0)
			return err_set(err, (int)-n, "read %s", name);
		len += (size_t)n;
		if (len < cap)
			break;
		if (len > max)
			return err_say(err, EFBIG, "%s is larger than %zu bytes", name, max);
		cap = MIN(cap * 2, max + 1);
		char *bigger = realloc(buf, cap + 1);
		if (!bigger)
			return err_set(err, ENOMEM, "read %s", name);
		buf = bigger;
	}
	buf[len] = '\0';
	if (ret_len)
		*ret_len = len;
	*ret = TAKE_PTR(buf);
	return 0;
}

int fd_put(int dirfd, const char *name, const char *value)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, value, strlen(value));
	return n < 0 ? -errno : 0;
}

int fd_pread_u64(int fd, uint64_t *ret)
{
	char buf[64];
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	char *end;
	errno = 0;
	unsigned long long v = strtoull(buf, &end, 10);
	if (end == buf)
		return -EINVAL;
	*ret = v;
	return 0;
}

int fd_pread_key(int fd, const char *key, uint64_t *ret)
{
	char buf[4096];
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	size_t klen = strlen(key);
	for (char *line = buf; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		if (strncmp(line, key, klen) == 0 && line[klen] == ' ') {
			*ret = strtoull(line + klen + 1, NULL, 10);
			return 0;
		}
	}
	return -ENOENT;
}

void fd_attach(struct msghdr *msg, struct fd_space *space, const int *fds, size_t nfds)
{
	if (nfds == 0)
		return;
	memset(space, 0, sizeof(*space));
	msg->msg_control = space->bytes;
	msg->msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
}

#define SEND_TRIES 10 /* a millisecond apart */

static int send_with(int sock, const void *buf, size_t len, const int *fds, size_t nfds, int flags)
{
	struct iovec iov = {.iov_base = (void *)buf, .iov_len = len};
	struct fd_space space;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (nfds > FD_PASS_MAX)
		return -EINVAL;
	fd_attach(&msg, &space, fds, nfds);
	/* Whoever waits for a message that is lost waits for ever: where the kernel is out of memory for a moment, again. */
	for (int tries = 0;;) {
		ssize_t n = sendmsg(sock, &msg, MSG_NOSIGNAL | flags);
		if (n >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		if ((errno != ENOMEM && errno != ENOBUFS) || (flags & MSG_DONTWAIT) || ++tries == SEND_TRIES)
			return -errno;
		(void)poll(NULL, 0, 1);
	}
}

int fd_send(int sock, const void *buf, size_t len, const int *fds, size_t nfds)
{
	return send_with(sock, buf, len, fds, nfds, 0);
}

int fd_send_now(int sock, const void *buf, size_t len, const int *fds, size_t nfds)
{
	return send_with(sock, buf, len, fds, nfds, MSG_DONTWAIT);
}

ssize_t fd_recv(int sock, void *buf, size_t cap, int *fds, size_t *ret_nfds, int flags)
{
	struct iovec iov = {.iov_base = buf, .iov_len = cap};
	union {
		char bytes[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
		struct cmsghdr align;
	} control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	ssize_t n;
	do {
		n = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	size_t count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (count < FD_PASS_MAX)
				fds[count++] = fd;
			else
				(void)close(fd);
		}
	}
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		fd_close_many(fds, count);
		return -EMSGSIZE;
	}
	*ret_nfds = count;
	return n;
}

void fd_close_many(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		cleanup_close(&fds[i]);
}

int fd_sealed_memfd(const char *name, const void *data, size_t len)
{
	_cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	int r = fd_write_all(fd, data, len);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return -errno;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return TAKE_FD(fd);
}
