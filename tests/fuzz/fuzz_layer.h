/* What the fuzz targets of layers share: a directory to unpack in, and the judgement over what lies in it afterwards. */
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "layers/canonical.h"
#include "layers/tree.h"
#include "layers/tree_file.h"
#include "layers/unpack.h"

#define MAX_BYTES (8u << 20)
#define MAX_ENTRIES 2000u

static int base = -1;
static char path[4096];

static void remove_base(void)
{
	(void)rmdir(path);
}

static void open_base(void)
{
	const char *tmp = getenv("TMPDIR");
	(void)snprintf(path, sizeof(path), "%s/fuzz-layer-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(path) || (base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	(void)atexit(remove_base);
}

static _Noreturn void wrong(const char *what, const struct err *err)
{
	fprintf(stderr, "%s: %s\n", what, err_msg(err));
	abort();
}

/* Serialise the tree, with the digests taken while writing or with what lies on disk. Return: a memfd. */
static int describe(int root, struct unpack *u, struct digests *digests, uint8_t ret_id[16])
{
	const struct canonical_tree tree = {.root = root,
		.max_bytes = MAX_BYTES,
		.max_entries = MAX_ENTRIES + 1,
		.digests = digests,
		.opaque = unpack_opaque(u),
		.whiteouts = true};
	struct err err = ERR_INIT;
	struct canonical sum;
	struct hash *hash;
	uint8_t sha[32];
	int fd = memfd_create("tree", MFD_CLOEXEC);
	if (fd < 0 || hash_new(&hash, &err) < 0 || canonical_write(&tree, fd, hash, &sum, &err) < 0 ||
		hash_final(hash, ret_id, sha, &err) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		wrong("an unpacked tree is not fit for a layer", &err);
	hash_free(hash);
	return fd;
}

/* What was unpacked must be a layer, its description what lies on disk, and acceptable to the reader of descriptions. */
static void judge(int root, struct unpack *u)
{
	struct err err = ERR_INIT;
	struct tree_file *t;
	struct tree_file_entry e;
	uint8_t id[16], again[16];
	int fd = describe(root, u, NULL, again), r;
	close(fd);
	fd = describe(root, u, unpack_digests(u), id);
	if (memcmp(id, again, sizeof(id)) != 0)
		wrong("a tree is not what its description says", &err);
	if (tree_file_open(fd, NULL, &t, &err) < 0)
		wrong("a description cannot be read", &err);
	while ((r = tree_file_next(t, &e, &err)) == 1)
		;
	if (r < 0)
		wrong("a description cannot be read", &err);
	tree_file_free(t);
	close(fd);
}

/* Make the tree to unpack in. Return: its fd. */
static int tree_begin(struct unpack **u)
{
	const struct unpack_options options = {
		.max_bytes = MAX_BYTES, .max_entries = MAX_ENTRIES, .keep_owner = geteuid() == 0, .oci = true};
	struct err err = ERR_INIT;
	if (base < 0)
		open_base();
	if (mkdirat(base, "tree", 0700) < 0)
		abort();
	int root = tree_open_dir(base, "tree");
	if (root < 0 || unpack_new(root, &options, u, &err) < 0)
		abort();
	return root;
}

/* @r: what unpacking said. Nothing may lie beside the tree, which is removed. */
static void tree_end(int root, struct unpack *u, int r)
{
	struct tree_names names;
	struct err err = ERR_INIT;
	if (r == 0)
		r = unpack_finish(u, &err);
	if (r == 0)
		judge(root, u);
	unpack_free(u);
	close(root);
	if (tree_list(base, 10, &names) < 0 || names.count != 1)
		wrong("something lies beside the tree", &err);
	tree_names_clear(&names);
	if (tree_remove(base, "tree", &err) < 0)
		wrong("remove the tree", &err);
}
