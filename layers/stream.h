/*
 * The internal stream: entries on their way from a walker with root's rights into the helper that unpacks them.
 * struct stream_head, path, target, then for a file exactly `size` bytes; a head of type STREAM_END closes it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "layers/unpack.h"

struct stream; /* the writing end */

/*
 * stream_new - buffered writing to a connected stream socket (which stays the caller's).
 * A reader that went away makes the functions below return -EPIPE, without a signal.
 */
int stream_new(int sock, struct stream **ret, struct err *err);
void stream_free(struct stream *s);

/* stream_entry - write an entry; for a file its content must follow by stream_data(), entry->size bytes in all. */
int stream_entry(struct stream *s, const struct unpack_entry *entry, struct err *err);
int stream_data(struct stream *s, const void *data, size_t len, struct err *err);
/* stream_skip - tell that an entry was left out. */
int stream_skip(struct stream *s, struct err *err);
/* stream_end - close and flush. Without it the reader takes the stream as cut off. */
int stream_end(struct stream *s, struct err *err);

/* stream_unpack - read a whole stream from fd into u. */
int stream_unpack(int fd, struct unpack *u, struct err *err);
