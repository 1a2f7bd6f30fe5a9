/* File descriptors: whole reads and writes, fd passing, small-file access relative to a directory fd. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * fd_write_all - write all of buf, retrying on EINTR and short writes. Blocking fds only.
 * Return: 0, or -errno.
 */
int fd_write_all(int fd, const void *buf, size_t len);

/*
 * fd_read_all - read until end of file or until cap bytes were read.
 * Return: bytes read, or -errno. One more byte may be waiting when it returns cap.
 */
ssize_t fd_read_all(int fd, void *buf, size_t cap);

/*
 * fd_read_file - read a whole file beneath dirfd into a fresh, NUL-terminated buffer.
 * @max: refuse (-EFBIG) a file with more bytes. @ret: the caller frees it. @ret_len: may be NULL.
 * Links are not followed, and only a regular file is read (O_NONBLOCK, then fstat).
 */
int fd_read_file(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len, struct err *err);

/* fd_put - write a short string to a (kernel) file beneath dirfd, in one write. Return: 0 or -errno. */
int fd_put(int dirfd, const char *name, const char *value);

/* fd_pread_u64 - read the first number of a (kernel) file through a kept fd. Return: 0 or -errno. */
int fd_pread_u64(int fd, uint64_t *ret);

/*
 * fd_pread_key - read "key NUMBER" from a flat-keyed (kernel) file through a kept fd.
 * Return: 0, -ENOENT when the key is not there, or -errno.
 */
int fd_pread_key(int fd, const char *key, uint64_t *ret);

#define FD_PASS_MAX 32

/* fd_attach - put up to FD_PASS_MAX fds (SCM_RIGHTS, unix(7)) beside a message that the caller sends; @space lives as long as that. */
struct fd_space {
	_Alignas(struct cmsghdr) char bytes[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
};
void fd_attach(struct msghdr *msg, struct fd_space *space, const int *fds, size_t nfds);

/*
 * fd_send - one datagram with up to FD_PASS_MAX fds; the fds stay the caller's.
 * Return: 0 or -errno (-EAGAIN on a full non-blocking socket; -ENOMEM once it has been tried for some milliseconds).
 */
int fd_send(int sock, const void *buf, size_t len, const int *fds, size_t nfds);
/* fd_send_now - the same, but -EAGAIN where that would wait for the receiver. */
int fd_send_now(int sock, const void *buf, size_t len, const int *fds, size_t nfds);

/* fd_try_later - of a result of fd_recv() or read(): nothing came, and the other end may well be there: -EAGAIN, or no memory. */
static inline bool fd_try_later(ssize_t r)
{
	return r == -EAGAIN || r == -ENOMEM || r == -ENOBUFS;
}

/*
 * fd_recv - receive one datagram and its fds, close-on-exec.
 * @fds: room for FD_PASS_MAX; the caller owns the *ret_nfds that were received.
 * @flags: recvmsg(2) flags.
 * Return: bytes, 0 at end of file, -EMSGSIZE when it did not fit (fds are then closed), or -errno.
 */
ssize_t fd_recv(int sock, void *buf, size_t cap, int *fds, size_t *ret_nfds, int flags);

/* fd_close_many - close n fds and set them to -1; negative ones are skipped. */
void fd_close_many(int *fds, size_t n);

/*
 * fd_sealed_memfd - a memfd with the given content, sealed against any change.
 * Return: the fd (caller owns), or -errno.
 */
int fd_sealed_memfd(const char *name, const void *data, size_t len);
