/*
 * What is known of the files of a tree in the making, by inode: the SHA-256 of the content, taken while it was written,
 * so that nothing is read again. 48 bytes a file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file_digest {
	uint64_t ino;
	uint8_t sha256[32];
	uint32_t seq;
	bool attrs; /* it has extended attributes */
};

/* A zeroed one is empty. */
struct digests {
	struct file_digest *items;
	size_t count, cap;
	bool sorted;
};

/* digests_add - the last one of an inode counts: its number may have belonged to a file that is gone. Return: 0 or -ENOMEM. */
int digests_add(struct digests *digests, uint64_t ino, const uint8_t sha256[32], bool attrs);
/* digests_find - NULL when it is not there. Sorts first, so add no more between. */
const struct file_digest *digests_find(struct digests *digests, uint64_t ino);
void digests_clear(struct digests *digests);
