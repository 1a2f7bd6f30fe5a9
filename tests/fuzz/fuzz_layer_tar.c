/*
 * libFuzzer target: a stranger's tar, from its first byte to the last written file, in this process and without the
 * helpers around it: what the parser does, whiteouts included, and what the writer does. Owners are kept only for root.
 * TMPDIR should be a tmpfs.
 */
#include "fuzz_layer.h"
#include "fuzz_tar.h"

#include "layers/import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* One in eight keeps its wrong checksums. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	size = LLVMFuzzerMutate(data, size, max);
	if (seed % 8 != 0)
		mend_checksums(data, size, 0);
	return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct unpack *u;
	struct err err = ERR_INIT;
	uint8_t diff_id[32];
	int fd = memfd_create("tar", MFD_CLOEXEC);
	if (fd < 0 || fd_write_all(fd, data, size) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	int root = tree_begin(&u);
	const struct import_sink sink = import_sink_unpack(u);
	tree_end(root, u, import_tar_parse(fd, true, MAX_BYTES, &sink, diff_id, &err));
	close(fd);
	return 0;
}
