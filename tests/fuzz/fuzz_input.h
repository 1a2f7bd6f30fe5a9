/* What the fuzz targets of protocols share: taking an input apart, and saying that something does not hold. */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

struct input {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t take_byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

/* Past the end the rest stays as it was. */
static inline void take_bytes(struct input *in, void *out, size_t len)
{
	size_t n = MIN(len, in->left);
	memcpy(out, in->at, n);
	in->at += n;
	in->left -= n;
}

/* The lowest free descriptor: lower ones that are lost make it higher. */
static inline int lowest_fd(void)
{
	int fd = dup(STDERR_FILENO);
	(void)close(fd);
	return fd;
}

/* How many descriptors of the first 128 are open: finds those as well that were lost while lower ones were in use. */
static inline unsigned open_fds(void)
{
	unsigned n = 0;
	for (int fd = 0; fd < 128; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* A directory of the process's own, in TMPDIR. */
static inline void fuzz_tmp(char *path, size_t cap, const char *name)
{
	const char *tmp = getenv("TMPDIR");
	(void)snprintf(path, cap, "%s/fuzz-%s-XXXXXX", tmp ? tmp : "/tmp", name);
	CHECK(mkdtemp(path));
}
