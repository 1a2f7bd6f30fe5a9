/*
 * The internal stream: entries on their way into the helper that writes them, from the parser of an archive (a helper
 * too) or from a walker with root's rights. struct stream_head, path, target, attributes; then for a file chunks, data or
 * holes, that sum up to its size. A head of type STREAM_END closes it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "layers/unpack.h"

/* stream_send - all of it into a connected stream socket. Return: 0, -EPIPE without a signal when the reader went away, or -errno. */
int stream_send(int sock, const void *data, size_t len, struct err *err);

struct stream; /* the writing end */

/*
 * stream_new - buffered writing to a connected stream socket (which stays the caller's).
 * A reader that went away makes the functions below return -EPIPE, without a signal.
 */
int stream_new(int sock, struct stream **ret, struct err *err);
void stream_free(struct stream *s);

/* stream_entry - write an entry; for a file its content must follow, entry->size bytes in all, or stream_file_end(). */
int stream_entry(struct stream *s, const struct unpack_entry *entry, struct err *err);
/* stream_data - the next bytes of the file. More than its size is -EINVAL. */
int stream_data(struct stream *s, const void *data, size_t len, struct err *err);
/* stream_data_at - bytes at an offset that only grows; what was left out is a hole. */
int stream_data_at(struct stream *s, const void *data, size_t len, uint64_t offset, struct err *err);
/* stream_file_end - what is missing of the file is a hole. Does nothing when it is complete. */
int stream_file_end(struct stream *s, struct err *err);
/* stream_skip - tell that an entry was left out. */
int stream_skip(struct stream *s, struct err *err);
/* stream_end - close and flush. Without it the reader takes the stream as cut off. */
int stream_end(struct stream *s, struct err *err);

/* stream_unpack - read a whole stream from fd into u. Trusts nothing in it. */
int stream_unpack(int fd, struct unpack *u, struct err *err);
