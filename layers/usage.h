/* How much of the disk trees take: blocks, each inode once. For gc. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "layers/inotab.h"

struct usage_link { /* an inode with several names */
	uint64_t bytes;
	uint32_t links, seen; /* that it has; that were met */
};

struct usage {
	uint64_t bytes; /* on disk, of inodes with one name and of directories */
	uint64_t entries;
	struct inotab inodes; /* of those with several: index + 1 in links */
	struct usage_link *links;
	size_t nlinks, cap;
};

#define USAGE_INIT ((struct usage){.bytes = 0})

/*
 * usage_add - count the tree at name beneath dirfd, itself included. Through no link and into no other mount, whatever its depth.
 * What is removed meanwhile counts as far as it was met. Return: 0 (also if there is no such name), or -errno.
 */
int usage_add(struct usage *usage, int dirfd, const char *name, struct err *err);
/* usage_all - bytes of all that was counted. usage_own - without inodes that have more than `elsewhere` names that were not met. */
uint64_t usage_all(const struct usage *usage);
uint64_t usage_own(const struct usage *usage, unsigned elsewhere);
void usage_clear(struct usage *usage);
