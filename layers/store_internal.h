/* What the files of the store share: the opened directories and the secret. Not for other folders. */
#pragma once

#include "layers/hash.h"
#include "layers/store.h"

#define STORE_SECRET_LEN HASH_SALT_LEN

struct store {
	char *path;
	int fd;		/* the state directory */
	int blobs;	/* the worker's */
	int blobs_tmp;	/* the worker's */
	int layers;	/* root's, anyone may pass through */
	int layers_tmp; /* root's alone */
	int by_source;	/* layers/by-source, root's alone */
	int objects;	/* root's alone */
	int images;	/* root's, anyone may read */
	uint8_t secret[STORE_SECRET_LEN];
};

/* store_is_hex - whether a name is exactly n lower-case hex digits. store_parse_hex - the id in a name of 32. */
bool store_is_hex(const char *name, size_t n);
bool store_parse_hex(const char *name, uint8_t ret[16]);

/* blob_open_unused - blob_open() that does not count as a use. */
int blob_open_unused(struct store *store, const uint8_t id[16], uint64_t *ret_bytes, struct err *err);

/*
 * store_lock - flock(2) on fd, LOCK_SH or LOCK_EX; waits for at most a tenth of a second, for whoever keeps it longer
 * than its few system calls is stopped or hostile. Return: 0, -EBUSY or -errno.
 */
int store_lock(int fd, int how);

/*
 * sweep_hold_off - while the returned fd (the caller's) is open, no sweep looks into this directory: for the moment between
 * making a temporary entry and locking it. Return: the fd or -errno.
 */
int sweep_hold_off(int dirfd);
