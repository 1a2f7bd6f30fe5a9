/*
 * libFuzzer target: the reader of canonical descriptions (layers/tree_file.h). Whatever it accepts as a whole must be in
 * canonical form: written anew from what the reader gave, it is the same bytes.
 */
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "layers/tree_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct echo {
	const uint8_t *want;
	size_t left;
};

static void same(struct echo *echo, const void *data, size_t len)
{
	if (len > echo->left || memcmp(echo->want, data, len) != 0) {
		fprintf(stderr, "the reader took a description that is not canonical\n");
		abort();
	}
	echo->want += len;
	echo->left -= len;
}

static void same_u32(struct echo *echo, size_t v)
{
	uint32_t be = htobe32((uint32_t)v);
	same(echo, &be, sizeof(be));
}

static void same_entry(struct echo *echo, const struct tree_file_entry *e)
{
	uint8_t type = (uint8_t)e->type;
	uint64_t bytes = htobe64(e->size);
	same(echo, &type, 1);
	same_u32(echo, e->mode);
	same_u32(echo, e->uid);
	same_u32(echo, e->gid);
	same_u32(echo, e->path_len);
	same(echo, e->path, e->path_len);
	same_u32(echo, e->nxattrs);
	for (size_t i = 0; i < e->nxattrs; i++) {
		same_u32(echo, strlen(e->xattrs[i].name));
		same(echo, e->xattrs[i].name, strlen(e->xattrs[i].name));
		same_u32(echo, e->xattrs[i].len);
		same(echo, e->xattrs[i].value, e->xattrs[i].len);
	}
	if (e->type == TREE_FILE_REG) {
		same(echo, &bytes, sizeof(bytes));
		same(echo, e->sha256, sizeof(e->sha256));
	} else if (e->type == TREE_FILE_LINK) {
		same_u32(echo, strlen(e->target));
		same(echo, e->target, strlen(e->target));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	struct tree_file *t = NULL;
	struct tree_file_entry e;
	char shown[64];
	int fd = memfd_create("tree", MFD_CLOEXEC);
	if (fd < 0 || fd_write_all(fd, data, size) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	struct echo echo = {.want = data, .left = size};
	int r = tree_file_open(fd, NULL, &t, &err);
	if (r == 0) {
		same(&echo, TREE_FILE_MAGIC, strlen(TREE_FILE_MAGIC));
		while ((r = tree_file_next(t, &e, &err)) > 0) {
			same_entry(&echo, &e);
			(void)tree_file_show(e.path, e.path_len, shown, sizeof(shown));
		}
		if (r == 0 && echo.left > 0)
			abort();
	}
	tree_file_free(t);
	close(fd);
	return 0;
}
