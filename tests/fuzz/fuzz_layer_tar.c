/*
 * libFuzzer target: a stranger's tar, from its first byte to the last written file, in this process and without the
 * helper around it. After each input nothing may lie beside the tree, and the tree must pass canonical_hash(), the judge
 * of what a layer may hold. Owners are kept only for root. TMPDIR should be a tmpfs.
 */
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
#include "layers/import.h"
#include "layers/tree.h"

#define MAX_BYTES (8u << 20)
#define MAX_ENTRIES 2000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* Mutate, then mend the checksum of every block that looks like a header: else nearly all inputs end at the first. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	size = LLVMFuzzerMutate(data, size, max);
	if (seed % 8 == 0)
		return size;
	for (size_t at = 0; at + 512 <= size; at += 512) {
		uint8_t *h = data + at;
		char digits[8];
		unsigned sum = 8 * ' ';
		if (memcmp(h + 257, "ustar", 5) != 0)
			continue;
		for (size_t i = 0; i < 512; i++)
			sum += i >= 148 && i < 156 ? 0 : h[i];
		(void)snprintf(digits, sizeof(digits), "%06o", sum & 0777777);
		memcpy(h + 148, digits, 7);
		h[155] = ' ';
	}
	return size;
}

static int base = -1;
static char path[4096];

static void remove_base(void)
{
	(void)rmdir(path);
}

static void open_base(void)
{
	const char *tmp = getenv("TMPDIR");
	(void)snprintf(path, sizeof(path), "%s/fuzz-tar-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(path) || (base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	(void)atexit(remove_base);
}

static void check(int root)
{
	struct hash *hash;
	struct canonical sum;
	struct err err = ERR_INIT;
	uint8_t id[16], sha[32];
	if (hash_new(&hash, &err) < 0 || canonical_hash(root, MAX_BYTES, MAX_ENTRIES + 1, hash, &sum, &err) < 0 ||
		hash_final(hash, id, sha, &err) < 0) {
		fprintf(stderr, "an unpacked tree is not fit for a layer: %s\n", err_msg(&err));
		abort();
	}
	hash_free(hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct unpack_options options = {
		.max_bytes = MAX_BYTES, .max_entries = MAX_ENTRIES, .keep_owner = geteuid() == 0};
	struct unpack *u;
	struct tree_names names;
	struct err err = ERR_INIT;
	if (base < 0)
		open_base();
	int fd = memfd_create("tar", MFD_CLOEXEC);
	if (fd < 0 || fd_write_all(fd, data, size) < 0 || lseek(fd, 0, SEEK_SET) < 0 || mkdirat(base, "tree", 0700) < 0)
		abort();
	int root = tree_open_dir(base, "tree");
	if (root < 0 || unpack_new(root, &options, &u, &err) < 0)
		abort();
	int r = import_tar_unpack(fd, u, &err);
	if (r == 0)
		r = unpack_finish(u, &err);
	unpack_free(u);
	if (r == 0)
		check(root);
	close(root);
	close(fd);
	if (tree_list(base, 10, &names) < 0 || names.count != 1) {
		fprintf(stderr, "something lies beside the tree\n");
		abort();
	}
	tree_names_clear(&names);
	if (tree_remove(base, "tree", &err) < 0) {
		fprintf(stderr, "%s\n", err_msg(&err));
		abort();
	}
	return 0;
}
