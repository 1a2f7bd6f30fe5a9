/* What the tests of the store share: a state directory of their own, and tars written byte by byte. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "layers/store.h"
#include "layers/tree.h"

struct fixture {
	char dir[64];	/* /tmp/…, removed at the end */
	char state[80]; /* dir/state */
	int dirfd;
	struct store *store;
};

__attribute__((unused)) static void fixture_open(struct fixture *f, bool with_store)
{
	struct err err = ERR_INIT;
	if (geteuid() != 0)
		cr_skip_test("needs root");
	snprintf(f->dir, sizeof(f->dir), "/tmp/petri-layers-XXXXXX");
	cr_assert(mkdtemp(f->dir));
	snprintf(f->state, sizeof(f->state), "%s/state", f->dir);
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(f->dirfd >= 0);
	f->store = NULL;
	if (with_store)
		cr_assert_eq(store_open(f->state, &f->store, &err), 0, "%s", err_msg(&err));
}

__attribute__((unused)) static void fixture_close(struct fixture *f)
{
	struct err err = ERR_INIT;
	store_free(f->store);
	close(f->dirfd);
	cr_assert_eq(tree_remove(AT_FDCWD, f->dir, &err), 0, "%s", err_msg(&err));
}

/* The layer's directory layers/<hex>/SUB. */
__attribute__((unused)) static int layer_dir(struct fixture *f, const struct layer_info *info, const char *sub)
{
	char hex[33], path[64];
	format_hex(info->id, 16, hex);
	snprintf(path, sizeof(path), "%s/%s", hex, sub);
	int fd = openat(store_layers_fd(f->store), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

__attribute__((unused)) static struct stat stat_at(int dir, const char *path)
{
	struct stat st;
	cr_assert_eq(fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW), 0, "%s: %s", path, strerror(errno));
	return st;
}

__attribute__((unused)) static void write_at(int dir, const char *path, const char *text, mode_t mode)
{
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	cr_assert_eq(fd_write_all(fd, text, strlen(text)), 0);
	cr_assert_eq(fchmod(fd, mode), 0);
	close(fd);
}

__attribute__((unused)) static void content_is(int dir, const char *path, const char *text)
{
	struct err err = ERR_INIT;
	_cleanup_free_ char *got = NULL;
	cr_assert_eq(fd_read_file(dir, path, 1 << 20, &got, NULL, &err), 0, "%s", err_msg(&err));
	cr_assert_str_eq(got, text);
}

/* How many entries a directory of the store holds. */
__attribute__((unused)) static size_t count_in(int dir, const char *path)
{
	struct tree_names names = TREE_NAMES_INIT;
	int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(fd >= 0 && tree_list(fd, 100000, &names) == 0, "%s", path);
	size_t n = names.count;
	tree_names_clear(&names);
	close(fd);
	return n;
}

/* ---- ustar, byte by byte ---- */

struct ustar {
	const char *path;
	char type; /* '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' dir, '6' FIFO, 'x' pax */
	const char *link;
	const char *data; /* content, or NULL */
	size_t len;	  /* of data; 0: strlen */
	unsigned mode;
	unsigned long uid, gid;
	long mtime;
	const char *raw_size; /* 12 bytes for the size field instead of the length */
};

__attribute__((unused)) static void tar_add(int fd, const struct ustar *e)
{
	unsigned char h[512] = {0};
	static const char zeros[512];
	size_t len = e->data ? (e->len ? e->len : strlen(e->data)) : 0;
	strncpy((char *)h, e->path, 100);
	snprintf((char *)h + 100, 8, "%07o", e->mode);
	snprintf((char *)h + 108, 8, "%07lo", e->uid);
	snprintf((char *)h + 116, 8, "%07lo", e->gid);
	if (e->raw_size)
		memcpy(h + 124, e->raw_size, 12);
	else
		snprintf((char *)h + 124, 12, "%011lo", (unsigned long)len);
	snprintf((char *)h + 136, 12, "%011lo", (unsigned long)e->mtime);
	h[156] = (unsigned char)e->type;
	if (e->link)
		strncpy((char *)h + 157, e->link, 100);
	memcpy(h + 257, "ustar\0"
			"00",
		8);
	memset(h + 148, ' ', 8);
	unsigned sum = 0;
	for (size_t i = 0; i < sizeof(h); i++)
		sum += h[i];
	snprintf((char *)h + 148, 8, "%06o", sum);
	cr_assert_eq(fd_write_all(fd, h, sizeof(h)), 0);
	if (len > 0) {
		cr_assert_eq(fd_write_all(fd, e->data, len), 0);
		cr_assert_eq(fd_write_all(fd, zeros, (512 - len % 512) % 512), 0);
	}
}

/* A whole tar of the given entries (path NULL ends them) in a memfd, at its beginning. */
__attribute__((unused)) static int tar_of(const struct ustar *entries)
{
	static const char zeros[1024];
	int fd = memfd_create("tar", MFD_CLOEXEC);
	cr_assert(fd >= 0);
	for (; entries->path; entries++)
		tar_add(fd, entries);
	cr_assert_eq(fd_write_all(fd, zeros, sizeof(zeros)), 0);
	cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

#define TAR(...) tar_of((const struct ustar[]){__VA_ARGS__, {NULL}})
