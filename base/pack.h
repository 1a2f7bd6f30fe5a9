/*
 * The pack: a flat sequence of small files on their way into a sandbox. A job's inline files travel in one
 * (a sealed memfd), a small committed layer is kept as one in the store, and the zygote's child unpacks them
 * with the job's own uid inside the job's own root. Every reader treats it as hostile.
 *
 *   magic "PTRIPAK1", then entries: struct pack_entry, path (path_len bytes, absolute, no NUL), then for
 *   PACK_FILE with PACK_INLINE `size` bytes of data. PACK_END (all other fields 0) closes it.
 * Integers are in host order: a pack never leaves the machine it was made on.
 */
#pragma once

#include <stdint.h>

#define PACK_MAGIC "PTRIPAK1"
#define PACK_MAGIC_LEN 8
#define PACK_PATH_MAX 4095

enum pack_type {
	PACK_END = 0,
	PACK_FILE = 1,
	PACK_DIR = 2,
};

enum pack_source {
	PACK_INLINE = 0, /* the data follows the path */
	PACK_FD = 1,	 /* the data is the whole content of passed fd number `fd` */
};

struct pack_entry {
	uint8_t type;
	uint8_t source;
	uint16_t path_len;
	uint32_t mode; /* permission bits only */
	uint64_t size; /* bytes; for PACK_FD the most that is copied */
	uint32_t fd;   /* index among the fds passed beside the pack */
	uint32_t reserved;
};
