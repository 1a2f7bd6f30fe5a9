/* See the header. Nothing here fails: what cannot be looked at or read is left out. */
#include "layers/resident.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "base/sys.h"

#define DEPTH_MAX 40	     /* an fd each */
#define LIST_MAX (16u << 20) /* bytes */
#define BUFFER 65536u
#define LIST_SAMPLES 4u	  /* pages of a file: its beginning may be cached by another than the rest */
#define READ_SAMPLES 128u /* of the few that are listed, closer */
#define PM_PRESENT (UINT64_C(1) << 63)
#define PM_FRAME ((UINT64_C(1) << 55) - 1)
#define PIECE (128u << 10)
#define HOLES_MAX (1u << 20) /* a file with more than that is not read: holes would be filled with pages of zeros */
#define READ_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOATIME)

/* How it is known whose a page is. */
struct owners {
	const struct resident_groups *groups;
	int pagemap, kpagecgroup;
	size_t page;
};

struct listing {
	struct owners owners;
	int fd;
	uint64_t until_us;
	size_t written, buffered;
	char path[PATH_MAX];
	char buffer[BUFFER];
};

static bool is_one_of(const struct resident_groups *groups, uint64_t inode)
{
	size_t low = 0, high = groups->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (groups->inodes[middle] == inode)
			return true;
		if (groups->inodes[middle] < inode)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static void owners_open(struct owners *o, const struct resident_groups *groups)
{
	o->groups = groups;
	o->page = (size_t)sysconf(_SC_PAGESIZE);
	o->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	o->kpagecgroup = open("/proc/kpagecgroup", O_RDONLY | O_CLOEXEC);
}

static void owners_close(struct owners *o)
{
	cleanup_close(&o->pagemap);
	cleanup_close(&o->kpagecgroup);
}

/* Whether a page of a mapping, if it is cached, is on the account of one of the groups. By madvise(2) and not by looking: a file that
 * is cut short meanwhile would be a signal. */
static bool page_is_theirs(const struct owners *o, char *at)
{
	unsigned char cached = 0;
	uint64_t entry = 0, inode = 0;
	if (mincore(at, o->page, &cached) < 0 || !(cached & 1) || madvise(at, o->page, MADV_POPULATE_READ) < 0)
		return false;
	if (pread(o->pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)at / o->page * sizeof(entry))) != sizeof(entry) || !(entry & PM_PRESENT))
		return false;
	uint64_t frame = entry & PM_FRAME;
	return frame != 0 && pread(o->kpagecgroup, &inode, sizeof(inode), (off_t)(frame * sizeof(inode))) == sizeof(inode) && is_one_of(o->groups, inode);
}

static bool file_is_theirs(const struct owners *o, int fd, uint64_t size, size_t samples)
{
	size_t pages = ((size_t)size + o->page - 1) / o->page;
	char *map = mmap(NULL, pages * o->page, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return false;
	bool theirs = false;
	for (size_t i = 0; !theirs && i < samples; i++)
		theirs = page_is_theirs(o, map + (pages - 1) * i / (samples - 1) * o->page);
	(void)munmap(map, pages * o->page);
	return theirs;
}

static bool is_theirs(const struct owners *o, int dir, const char *name)
{
	char byte;
	const struct iovec one = {.iov_base = &byte, .iov_len = 1};
	struct stat st;
	_cleanup_close_ int fd = openat(dir, name, READ_FLAGS);
	/* Most are not cached at all; this is the quickest way to know. */
	if (fd < 0 || preadv2(fd, &one, 1, 0, RWF_NOWAIT) != 1)
		return false;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && file_is_theirs(o, fd, (uint64_t)st.st_size, LIST_SAMPLES);
}

static void flush(struct listing *l)
{
	for (size_t done = 0; done < l->buffered;) {
		ssize_t n = write(l->fd, l->buffer + done, l->buffered - done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	l->written += l->buffered;
	l->buffered = 0;
}

static void add(struct listing *l, size_t len)
{
	if (l->written + l->buffered + len + 1 > LIST_MAX)
		return;
	if (l->buffered + len + 1 > BUFFER)
		flush(l);
	memcpy(l->buffer + l->buffered, l->path, len + 1);
	l->buffered += len + 1;
}

static unsigned char type_of(int dir, const struct dirent *e)
{
	struct stat st;
	if (e->d_type != DT_UNKNOWN)
		return e->d_type;
	if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return DT_UNKNOWN;
	return S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG
								  : DT_UNKNOWN;
}

/* @fd: the directory at the path of @len bytes; taken. */
static void walk(struct listing *l, int fd, size_t len, unsigned depth)
{
	_cleanup_closedir_ DIR *dir = fdopendir(fd);
	if (!dir) {
		(void)close(fd);
		return;
	}
	for (struct dirent *e; now_us() < l->until_us && (e = readdir(dir));) {
		size_t name = strlen(e->d_name);
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || len + 1 + name >= sizeof(l->path))
			continue;
		unsigned char type = type_of(dirfd(dir), e);
		l->path[len] = '/';
		memcpy(l->path + len + 1, e->d_name, name + 1);
		if (type == DT_REG && is_theirs(&l->owners, dirfd(dir), e->d_name)) {
			add(l, len + 1 + name);
		} else if (type == DT_DIR && depth < DEPTH_MAX) {
			int sub = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW | O_NOATIME);
			if (sub >= 0)
				walk(l, sub, len + 1 + name, depth + 1);
		}
	}
}

static void list_tree(struct listing *l)
{
	if (l->owners.pagemap < 0 || l->owners.kpagecgroup < 0)
		return;
	int fd = open(l->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW | O_NOATIME); /* /usr/sbin may be a link to bin */
	if (fd >= 0)
		walk(l, fd, strlen(l->path), 0);
}

/* A child's only one, and too much for its stack. */
static struct listing *begin(const struct resident_groups *groups, int list, uint64_t until_us)
{
	static struct listing l;
	l.fd = list;
	l.until_us = until_us;
	struct stat st;
	l.written = fstat(list, &st) == 0 ? (size_t)st.st_size : LIST_MAX; /* of what is in it already */
	l.buffered = 0;
	owners_open(&l.owners, groups);
	return &l;
}

static void end(struct listing *l)
{
	flush(l);
	owners_close(&l->owners);
}

void resident_list_tree(const char *path, const struct resident_groups *groups, int list, uint64_t until_us)
{
	struct listing *l = begin(groups, list, until_us);
	(void)snprintf(l->path, sizeof(l->path), "%s", path);
	list_tree(l);
	end(l);
}

void resident_list(const struct stamp_plan *plan, const struct resident_groups *groups, int list, uint64_t until_us)
{
	/* The machine's /usr is large: what programs are and load comes before what they may look up. */
	static const char *const usr[] = {"bin", "sbin", "lib", "lib64", "libexec", "local", "include", "share"};
	struct listing *l = begin(groups, list, until_us);
	/* The uppermost first: in it is what belongs to fewest. */
	for (uint32_t i = plan->nlayers; i-- > 0;) {
		char hex[33];
		format_hex(plan->layers[i], 16, hex);
		(void)snprintf(l->path, sizeof(l->path), "/state/layers/%s/diff", hex);
		list_tree(l);
	}
	for (size_t i = 0; plan->host_usr && i < ARRAY_SIZE(usr); i++) {
		(void)snprintf(l->path, sizeof(l->path), "/usr/%s", usr[i]);
		list_tree(l);
	}
	end(l);
}

/* Return: the bytes that it may have read. */
static uint64_t read_in(const struct owners *o, const char *path, uint64_t most)
{
	const struct open_how how = {.flags = READ_FLAGS, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	_cleanup_close_ int fd = sys_openat2(AT_FDCWD, path, &how);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return 0;
	uint64_t size = (uint64_t)st.st_size;
	if (size > (uint64_t)st.st_blocks * 512 + HOLES_MAX || size > most)
		return 0;
	if (file_is_theirs(o, fd, size, READ_SAMPLES))
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	/* One call reads no more than the device's readahead. */
	for (uint64_t at = 0; at < size; at += PIECE)
		(void)readahead(fd, (off64_t)at, PIECE);
	return size;
}

void resident_read(int list, const struct resident_groups *groups, uint64_t bytes)
{
	struct owners owners;
	struct stat st;
	if (fstat(list, &st) < 0 || st.st_size <= 0)
		return;
	size_t size = (size_t)st.st_size;
	char *paths = mmap(NULL, size, PROT_READ, MAP_PRIVATE, list, 0);
	if (paths == MAP_FAILED)
		return;
	owners_open(&owners, groups);
	for (size_t at = 0; at < size && bytes > 0;) {
		size_t len = strnlen(paths + at, size - at);
		if (at + len == size)
			break; /* cut off */
		bytes -= read_in(&owners, paths + at, bytes);
		at += len + 1;
	}
	owners_close(&owners);
	(void)munmap(paths, size);
}
