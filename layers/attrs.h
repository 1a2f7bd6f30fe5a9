/*
 * Extended attributes on their way into a layer: only user.* are kept, and of these none that overlayfs could take for its
 * own. Everything else is dropped, file capabilities too: a job has no_new_privs and nosuid mounts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ATTR_NAME_MAX 255u
#define ATTR_VALUE_MAX 65536u
#define ATTRS_MAX 1024u		     /* of one entry */
#define ATTRS_BYTES_MAX (256u << 10) /* of one entry, names and values */

struct attr {
	char *name;
	void *value;
	size_t len;
};

/* Sorted by name, each name once. A zeroed one is empty. */
struct attrs {
	struct attr *items;
	size_t count, cap, bytes;
};

/* attr_kept - whether a layer keeps an attribute of this name. */
bool attr_kept(const char *name);

/* attr_of_host - whether a security module of the host puts this one on every file: it is none of a layer's. */
bool attr_of_host(const char *name);

/* attrs_add - copy one in; the last of a name counts. Return: 0, -E2BIG past a bound, -EINVAL for a name that is not kept, -ENOMEM. */
int attrs_add(struct attrs *attrs, const char *name, const void *value, size_t len);
void attrs_clear(struct attrs *attrs);

/* attrs_read - add what a layer keeps of an open file or directory. Return: 0, -E2BIG, or -errno. */
int attrs_read(int fd, struct attrs *attrs);

/*
 * attrs_write - have fd carry these (NULL: none) and no other user.* ones. @fresh: it has none yet.
 * Return: 0, or -errno: -E2BIG where the filesystem has no room for them, -EOPNOTSUPP where it takes none.
 */
int attrs_write(int fd, const struct attrs *attrs, bool fresh);
