/*
 * Scope-bound release of resources: __attribute__((cleanup)) helpers that keep errno, and the macros that
 * hand ownership over. A variable with one of these attributes must be initialised where it is declared.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		(void)close(*fd); /* never retried on EINTR: the fd is gone either way on Linux, close(2) */
		errno = saved;
		*fd = -1;
	}
}

static inline void cleanup_free(void *p)
{
	int saved = errno;
	free(*(void **)p);
	errno = saved;
}

static inline void cleanup_fclose(FILE **f)
{
	if (*f) {
		int saved = errno;
		(void)fclose(*f);
		errno = saved;
	}
}

static inline void cleanup_closedir(DIR **d)
{
	if (*d) {
		int saved = errno;
		(void)closedir(*d);
		errno = saved;
	}
}

#define _cleanup_close_ _cleanup_(cleanup_close)
#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)
#define _cleanup_closedir_ _cleanup_(cleanup_closedir)

/* Evaluate to the value and forget it here, so that the caller becomes the owner. */
#define TAKE_FD(fd) \
	__extension__({ \
		int take_fd_ = (fd); \
		(fd) = -1; \
		take_fd_; \
	})
#define TAKE_PTR(p) \
	__extension__({ \
		__typeof__(p) take_ptr_ = (p); \
		(p) = NULL; \
		take_ptr_; \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
