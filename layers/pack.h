/* Writing a pack (base/pack.h) of a small commit. Inside the helper. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pack {
	int fd; /* the file being written, or -1 when there is none or it was given up */
	uint64_t bytes;
	unsigned entries;
	size_t buffered;
	char buf[64u << 10];
};

/* pack_begin - start writing to fd (borrowed). */
void pack_begin(struct pack *pack, int fd);
/* pack_give_up - the tree turned out to be none that is delivered as files; the rest of the calls does nothing. */
void pack_give_up(struct pack *pack);
/* pack_entry - a directory or file (enum pack_type) with an absolute path; `size` bytes of pack_data() follow a file.
 * Gives up when the bounds are passed. Return: 0 or -errno. */
int pack_entry(struct pack *pack, int type, const char *path, uint32_t mode, uint64_t size);
int pack_data(struct pack *pack, const void *data, size_t len);
/* pack_end - close it. Return: 1 when the pack is whole, 0 when it was given up, or -errno. */
int pack_end(struct pack *pack);
