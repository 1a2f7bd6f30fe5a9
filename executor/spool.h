/*
 * Records that must outlive the process, in files of a directory of its own: here, results that wait for Redis. Records are
 * kept in batches, one file a batch, so that many cost one fsync(2). A file is there whole or not at all: written under
 * another name, synced, renamed, and the directory synced. What a crash left otherwise, or changed, is told and left aside.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "executor/loop.h"

struct spool;
struct spool_batch;

/*
 * spool_make_dir - by root, beneath the state directory: spool/results-NAME, which belongs to uid alone. It is locked for as
 * long as the fd is open: two workers of one name must not deliver each other's results.
 * Return: an fd, -EBUSY when another has it, or -errno.
 */
int spool_make_dir(int statefd, const char *name, uid_t uid, struct err *err);

/* spool_open - @dir: becomes the spool's. @max_bytes: what all files together may take. */
int spool_open(struct loop *loop, int dir, uint64_t max_bytes, struct spool **ret, struct err *err);
/* spool_free - the files stay. A batch that is just being written may be there later or not. */
void spool_free(struct spool *spool);

/* A record of an earlier life; @batch: spool_done() it once the record is needed no more. */
typedef void (*spool_record_fn)(void *data, struct spool_batch *batch, const void *record, size_t len);
/* spool_load - every record of every file, the oldest first. Blocks: for the start. */
void spool_load(struct spool *spool, spool_record_fn fn, void *data);

/* spool_begin - NULL without memory. */
struct spool_batch *spool_begin(struct spool *spool);
/* spool_add - Return: 0, -ENOMEM, or -ENOSPC when the spool is as large as it may be. */
int spool_add(struct spool_batch *batch, const void *record, size_t len);
/*
 * spool_commit - fn(data, 0) when the batch is on disk, or fn(data, -errno), and then the batch and its file are gone. One at
 * a time: not while spool_busy(). Never calls fn from inside.
 */
void spool_commit(struct spool_batch *batch, void (*fn)(void *data, int error), void *data);
bool spool_busy(const struct spool *spool);
/* spool_drop - a batch that was not committed. */
void spool_drop(struct spool_batch *batch);
/* spool_done - one of its records is needed no more; with the last one the file goes. */
void spool_done(struct spool_batch *batch);
