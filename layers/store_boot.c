/* Entries for mounting a store at boot; see the header. Runs as root in `petri store init`. What they say is what store_init() does. */
#include "layers/store_boot.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "layers/tree.h"

#define OPTIONS "loop,prjquota,nosuid,nodev"
#define TABLE_MAX (1u << 20)
#define XFS_MAGIC 0x58465342

/* Return: "xfs" or "ext4", or NULL for what petri did not make. */
static const char *kind_of(const char *state)
{
	struct statfs st;
	if (statfs(state, &st) < 0)
		return NULL;
	return st.f_type == XFS_MAGIC ? "xfs" : st.f_type == EXT4_SUPER_MAGIC ? "ext4"
									      : NULL;
}

static int check(const char *state, const char **ret_kind, struct err *err)
{
	*ret_kind = kind_of(state);
	if (!*ret_kind)
		return err_say(err, EINVAL, "%s is neither xfs nor ext4", state);
	for (const unsigned char *p = (const unsigned char *)state; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			return err_say(err, EINVAL, "a path with control characters has no place in a table of mounts");
	return 0;
}

/* fstab(5): blanks as octal numbers. Backslash and '#' too, which readers differ on. */
static size_t escape_fstab(const char *path, char *ret)
{
	size_t n = 0;
	for (const char *p = path; *p; p++) {
		if (*p == ' ' || *p == '\\' || *p == '#')
			n += (size_t)sprintf(ret + n, "\\%03o", (unsigned char)*p);
		else
			ret[n++] = *p;
	}
	ret[n] = '\0';
	return n;
}

int store_boot_fstab(const char *state, char ret[STORE_BOOT_MAX], struct err *err)
{
	const char *kind;
	char path[4 * PATH_MAX];
	if (strlen(state) >= PATH_MAX)
		return err_set(err, ENAMETOOLONG, "the store's path");
	int r = check(state, &kind, err);
	if (r < 0)
		return r;
	(void)escape_fstab(state, path);
	/* nofail: a store that cannot be mounted must not keep the machine from starting. */
	int n = snprintf(ret, STORE_BOOT_MAX, "%s.img %s %s " OPTIONS ",nofail 0 0", path, path, kind);
	return n < STORE_BOOT_MAX ? 0 : err_set(err, ENAMETOOLONG, "the store's path");
}

/* systemd-escape --path, for an absolute path without a slash at its end. */
static void unit_name(const char *state, char *ret)
{
	size_t n = 0;
	for (const char *p = state + 1; *p; p++) {
		unsigned char c = (unsigned char)*p;
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ':' || c == '_' ||
			(c == '.' && p > state + 1);
		if (c == '/' && p[1] != '/')
			ret[n++] = '-';
		else if (plain)
			ret[n++] = *p;
		else if (c != '/')
			n += (size_t)sprintf(ret + n, "\\x%02x", c);
	}
	memcpy(ret + n, ".mount", sizeof(".mount"));
}

static void escape_unit(const char *path, char *ret)
{
	for (const char *p = path; *p; p++) {
		*ret++ = *p;
		if (*p == '%') /* a specifier, systemd.unit(5) */
			*ret++ = '%';
	}
	*ret = '\0';
}

static int unit_text(const char *state, const char *name, char ret[STORE_BOOT_MAX], struct err *err)
{
	char want[4 * PATH_MAX + sizeof(".mount")], path[2 * PATH_MAX];
	const char *kind;
	int r = check(state, &kind, err);
	if (r < 0)
		return r;
	unit_name(state, want);
	if (strcmp(name, want) != 0)
		return err_say(err, EINVAL, "systemd wants the unit that mounts %.150s to be called %.200s", state, want);
	if (state[strlen(state) - 1] == '\\') /* at the end of a line it continues with the next, systemd.syntax(7) */
		return err_say(err, EINVAL, "a path that ends in a backslash has no place in a unit");
	escape_unit(state, path);
	(void)snprintf(ret, STORE_BOOT_MAX,
		"[Unit]\nDescription=The store of petri\n\n[Mount]\nWhat=%s.img\nWhere=%s\nType=%s\nOptions=" OPTIONS
		"\n\n[Install]\nWantedBy=local-fs.target\n",
		path, path, kind);
	return 0;
}

/* Return: 1 when a line of the table is the entry, -EEXIST when one mounts something else there, else 0. */
static int look_through(const char *table, const char *line, const char *state, struct err *err)
{
	char path[4 * PATH_MAX];
	size_t len = escape_fstab(state, path);
	for (const char *p = table; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		size_t n = strcspn(p, "\n");
		if (n == strlen(line) && strncmp(p, line, n) == 0)
			return 1;
		const char *what = p + strspn(p, " \t"), *where = what + strcspn(what, " \t\n");
		where += strspn(where, " \t");
		if (*what != '#' && strncmp(where, path, len) == 0 && (where[len] == ' ' || where[len] == '\t'))
			return err_say(err, EEXIST, "it has another entry for %s", state);
	}
	return 0;
}

static int table_text(const char *state, int dir, const char *name, char **ret, mode_t *ret_mode, struct err *err)
{
	char line[STORE_BOOT_MAX];
	_cleanup_free_ char *table = NULL;
	struct stat st;
	size_t len = 0;
	int r = store_boot_fstab(state, line, err);
	if (r < 0)
		return r;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!S_ISREG(st.st_mode))
			return err_say(err, EINVAL, "it is no regular file");
		*ret_mode = st.st_mode & 07777;
		r = fd_read_file(dir, name, TABLE_MAX, &table, &len, err);
	} else if (errno != ENOENT) {
		r = err_set(err, errno, "stat it");
	}
	if (r == 0)
		r = table ? look_through(table, line, state, err) : 0;
	if (r != 0)
		return r;
	const char *end = table && len > 0 && table[len - 1] != '\n' ? "\n" : "";
	if (asprintf(ret, "%s%s%s\n", table ? table : "", end, line) < 0)
		return err_set(err, ENOMEM, "make the entry");
	return 0;
}

int store_boot_write(const char *state, const char *file, struct err *err)
{
	char parent[PATH_MAX], base[PATH_MAX];
	if (strlen(file) >= PATH_MAX || strlen(state) >= PATH_MAX)
		return err_set(err, ENAMETOOLONG, "%.200s", file);
	(void)snprintf(parent, sizeof(parent), "%s", file);
	(void)snprintf(base, sizeof(base), "%s", file);
	const char *name = basename(base), *suffix = strrchr(name, '.'), *directory = dirname(parent);
	_cleanup_free_ char *text = NULL;
	mode_t mode = 0644;
	_cleanup_close_ int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(err, errno, "open %s", directory);
	int r;
	if (suffix && strcmp(suffix, ".mount") == 0) {
		text = malloc(STORE_BOOT_MAX);
		r = text ? unit_text(state, name, text, err) : err_set(err, ENOMEM, "make the entry");
	} else {
		r = table_text(state, dir, name, &text, &mode, err);
	}
	if (r == 0)
		r = tree_replace_file(dir, name, text, strlen(text), mode, true, err);
	return r < 0 ? err_wrap(err, "%.200s", file) : r;
}
