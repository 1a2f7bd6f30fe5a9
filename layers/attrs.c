/* Extended attributes; see the header. Runs in the helpers, and as root in the walk over the operator's own directory. */
#include "layers/attrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/cleanup.h"

#define LIST_MAX (64u << 10) /* XATTR_LIST_MAX of the kernel */

bool attr_kept(const char *name)
{
	static const char user[] = "user.", overlay[] = "user.overlay.";
	return strncmp(name, user, strlen(user)) == 0 && name[strlen(user)] &&
		strncmp(name, overlay, strlen(overlay)) != 0;
}

bool attr_of_host(const char *name)
{
	static const char *const names[] = {"security.selinux", "security.SMACK64", "security.ima", "security.evm", "security.apparmor"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* The place of a name. Return: its index, with *ret_there; else where it belongs. */
static size_t place_of(const struct attrs *attrs, const char *name, bool *ret_there)
{
	size_t low = 0, high = attrs->count;
	*ret_there = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(attrs->items[mid].name, name);
		if (c == 0) {
			*ret_there = true;
			return mid;
		}
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int attrs_add(struct attrs *attrs, const char *name, const void *value, size_t len)
{
	bool there;
	if (!attr_kept(name))
		return -EINVAL;
	size_t at = place_of(attrs, name, &there), name_len = strlen(name);
	if (name_len > ATTR_NAME_MAX || len > ATTR_VALUE_MAX || attrs->bytes + name_len + len > ATTRS_BYTES_MAX)
		return -E2BIG;
	void *copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	if (len > 0)
		memcpy(copy, value, len);
	if (there) {
		struct attr *old = &attrs->items[at];
		attrs->bytes = attrs->bytes - old->len + len;
		free(old->value);
		old->value = copy;
		old->len = len;
		return 0;
	}
	if (attrs->count == attrs->cap) {
		size_t cap = attrs->cap ? attrs->cap * 2 : 8;
		struct attr *bigger = attrs->count < ATTRS_MAX ? reallocarray(attrs->items, cap, sizeof(*bigger)) : NULL;
		if (!bigger) {
			free(copy);
			return attrs->count < ATTRS_MAX ? -ENOMEM : -E2BIG;
		}
		attrs->items = bigger;
		attrs->cap = cap;
	}
	char *name_copy = strdup(name);
	if (!name_copy) {
		free(copy);
		return -ENOMEM;
	}
	memmove(attrs->items + at + 1, attrs->items + at, (attrs->count - at) * sizeof(*attrs->items));
	attrs->items[at] = (struct attr){.name = name_copy, .value = copy, .len = len};
	attrs->count++;
	attrs->bytes += name_len + len;
	return 0;
}

void attrs_clear(struct attrs *attrs)
{
	for (size_t i = 0; i < attrs->count; i++) {
		free(attrs->items[i].name);
		free(attrs->items[i].value);
	}
	free(attrs->items);
	*attrs = (struct attrs){.count = 0};
}

/* The names of fd's attributes, one after another. Return: their length in all, or -errno. */
static ssize_t list_names(int fd, char **ret)
{
	ssize_t len = flistxattr(fd, NULL, 0);
	if (len == 0 || (len < 0 && errno == EOPNOTSUPP))
		return 0;
	if (len < 0)
		return -errno;
	char *list = malloc(LIST_MAX);
	if (!list)
		return -ENOMEM;
	len = flistxattr(fd, list, LIST_MAX);
	if (len < 0) {
		len = -errno;
		free(list);
		return len;
	}
	*ret = list;
	return len;
}

int attrs_read(int fd, struct attrs *attrs)
{
	_cleanup_free_ char *list = NULL;
	_cleanup_free_ char *value = NULL;
	ssize_t len = list_names(fd, &list);
	if (len < 0)
		return (int)len;
	for (const char *name = list; len > 0 && name < list + len; name += strlen(name) + 1) {
		if (!attr_kept(name))
			continue;
		if (!value && !(value = malloc(ATTR_VALUE_MAX)))
			return -ENOMEM;
		ssize_t n = fgetxattr(fd, name, value, ATTR_VALUE_MAX);
		if (n < 0)
			return -errno;
		int r = attrs_add(attrs, name, value, (size_t)n);
		if (r < 0)
			return r;
	}
	return 0;
}

int attrs_write(int fd, const struct attrs *attrs, bool fresh)
{
	_cleanup_free_ char *list = NULL;
	ssize_t len = fresh ? 0 : list_names(fd, &list);
	if (len < 0)
		return (int)len;
	for (const char *name = list; len > 0 && name < list + len; name += strlen(name) + 1)
		if (strncmp(name, "user.", 5) == 0 && fremovexattr(fd, name) < 0)
			return -errno;
	for (size_t i = 0; attrs && i < attrs->count; i++) {
		if (fsetxattr(fd, attrs->items[i].name, attrs->items[i].value, attrs->items[i].len, 0) == 0)
			continue;
		/* ext4 says ENOSPC when they do not fit into the inode's one block: no word of a full disk. */
		return errno == ENOSPC ? -E2BIG : -errno;
	}
	return 0;
}
