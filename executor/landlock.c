/*
 * The worker's Landlock domain, landlock(7); see executor/confine.h. What it opens by path: objects of the store, beneath the fd
 * that it holds; policies; what the C library reads to look a name up; the counters of cgroups. Everything else that it works with
 * came to it as an fd.
 *
 * The numbers stand here because the headers of Debian 12 end with the second version of the interface. Versions: 2 (Linux 5.19)
 * is the first in which files can be renamed across directories at all, so the least of use; 3 (6.2) knows truncation, 5 (6.10)
 * ioctl on devices, 6 (6.12) signals and abstract sockets.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "executor/confine.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

#define CREATE_VERSION 1u
#define RULE_PATH_BENEATH 1
#define VERSION_MIN 2

#define FS_EXECUTE (1u << 0)
#define FS_WRITE_FILE (1u << 1)
#define FS_READ_FILE (1u << 2)
#define FS_READ_DIR (1u << 3)
#define FS_REMOVE_FILE (1u << 5)
#define FS_MAKE_DIR (1u << 7)
#define FS_MAKE_REG (1u << 8)
#define FS_REFER (1u << 13)
#define FS_TRUNCATE (1u << 14)
#define FS_IOCTL_DEV (1u << 15)
#define FS_ALL_V2 ((1u << 14) - 1)
#define SCOPE_ABSTRACT_UNIX 1u
#define SCOPE_SIGNAL 2u

#define READ (FS_READ_FILE | FS_READ_DIR)
#define KEEP (READ | FS_WRITE_FILE | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER | FS_TRUNCATE)

struct ruleset { /* struct landlock_ruleset_attr; later members are cut off for older kernels by its size */
	uint64_t fs, net, scoped;
};

struct beneath { /* struct landlock_path_beneath_attr */
	uint64_t allowed;
	int32_t parent;
} __attribute__((packed));

int landlock_version(void)
{
	long r = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
	return r < 0 ? 0 : (int)r;
}

static int create(int version, uint64_t *ret_handled)
{
	struct ruleset rules = {.fs = FS_ALL_V2 | (version >= 3 ? FS_TRUNCATE : 0) | (version >= 5 ? FS_IOCTL_DEV : 0)};
	size_t size = version >= 6 ? sizeof(rules) : offsetof(struct ruleset, net);
	if (version >= 6)
		rules.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
	*ret_handled = rules.fs;
	int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
	return fd < 0 ? -errno : fd;
}

struct domain {
	int ruleset;
	uint64_t handled;
};

static int add_fd(const struct domain *d, int fd, uint64_t rights)
{
	struct stat st;
	struct beneath rule = {.allowed = rights & d->handled, .parent = fd};
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		rule.allowed &= FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE;
	return syscall(SYS_landlock_add_rule, d->ruleset, RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

/* What is not there needs no right. */
static int add_path(const struct domain *d, int at, const char *path, uint64_t rights)
{
	_cleanup_close_ int fd = openat(at, path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	return add_fd(d, fd, rights);
}

/* Where the file really lies, which /etc is often only the way to, and what may be put in its place. */
static int add_directory_of(const struct domain *d, const char *path)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	char *slash = real ? strrchr(real, '/') : NULL;
	if (!slash || slash == real)
		return 0;
	*slash = '\0';
	return add_path(d, AT_FDCWD, real, READ);
}

/* For looking names up, getaddrinfo(3) and nss(5), while running. */
static int add_name_service(const struct domain *d)
{
	static const char *const paths[] = {"/etc", "/usr/lib", "/usr/lib64", "/usr/share", "/lib", "/lib64", "/run/systemd/resolve"};
	int r = 0;
	for (size_t i = 0; i < ARRAY_SIZE(paths) && r == 0; i++)
		r = add_path(d, AT_FDCWD, paths[i], READ);
	if (r == 0)
		r = add_directory_of(d, "/etc/resolv.conf");
	return r == 0 ? add_directory_of(d, "/etc/hosts") : r;
}

static int add_rules(const struct domain *d, const struct confine_needs *needs, int store, int spool)
{
	static const char *const counters[] = {"/proc/cgroups", "/sys/fs/cgroup", "/sys/devices/system/cpu", "/proc/sys/kernel/random/boot_id"};
	int r = add_fd(d, store, READ);
	if (r == 0)
		r = add_path(d, store, "blobs", KEEP);
	if (r == 0 && spool > 0)
		r = add_fd(d, spool, KEEP);
	for (size_t i = 0; i < ARRAY_SIZE(counters) && r == 0; i++)
		r = add_path(d, AT_FDCWD, counters[i], READ);
	for (size_t i = 0; i < CONFINE_DIRS_MAX && r == 0; i++)
		if (needs->dirs[i] && *needs->dirs[i])
			r = add_path(d, AT_FDCWD, needs->dirs[i], READ);
	return r == 0 && needs->network ? add_name_service(d) : r;
}

int confine_paths(const struct confine_needs *needs, int store, int spool, struct err *err)
{
	struct domain d;
	int version = landlock_version();
	if (version < VERSION_MIN) {
		log_debug("worker: this kernel has no Landlock of use (version %d)", version);
		return 1;
	}
	_cleanup_close_ int ruleset = create(version, &d.handled);
	d.ruleset = ruleset;
	int r = ruleset < 0 ? ruleset : add_rules(&d, needs, store, spool);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	return r < 0 ? err_set(err, r, "enter a Landlock domain") : 0;
}
