/*
 * libFuzzer target: the internal stream, as a parser that was taken over might send it to the writer. The corpus has whole
 * streams of every kind of entry.
 */
#include "fuzz_layer.h"

#include "layers/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct unpack *u;
	struct err err = ERR_INIT;
	int fd = memfd_create("stream", MFD_CLOEXEC);
	if (fd < 0 || fd_write_all(fd, data, size) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	int root = tree_begin(&u);
	tree_end(root, u, stream_unpack(fd, u, &err));
	close(fd);
	return 0;
}
