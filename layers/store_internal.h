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
