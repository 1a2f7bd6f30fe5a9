/*
 * Which files of an image are cached on the account of certain groups, and having them read into the cache on another's. Runs in
 * throw-away children of petri-nursery, in its mount namespace (layers/stamp.h), and links only libc. What is read is root's: layers, and
 * the machine's /usr.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "layers/stamp.h"

struct resident_groups {
	const uint64_t *inodes; /* of the groups' directories, in the hierarchy that has the memory controller; ascending */
	size_t n;
};

/*
 * resident_list - write the paths of a plan's files with pages that these groups are charged with into @list (a memfd), each with its
 * NUL, until @until_us (now_us()). A few pages of each file are looked at, those of files whose first page is cached: Linux,
 * Documentation/admin-guide/mm/pagemap.rst, kpagecgroup. A kernel or filesystem that does not tell has none.
 * resident_list_tree - the same for all beneath a directory.
 */
void resident_list(const struct stamp_plan *plan, const struct resident_groups *groups, int list, uint64_t until_us);
void resident_list_tree(const char *path, const struct resident_groups *groups, int list, uint64_t until_us);
/*
 * resident_read - have the files of a list read into the cache, at most @bytes in all, which charges the caller's group. The cache lets go
 * of those that these groups are charged with first, except for pages that somebody has mapped: they stay whose they are. What is gone or
 * no regular file any more is passed over.
 */
void resident_read(int list, const struct resident_groups *groups, uint64_t bytes);
