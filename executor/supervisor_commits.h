/*
 * What the worker has stored by processes of the supervisor's: layers and large outputs (struct commit_request, executor/engine.h). A child each;
 * it answers by itself, and the supervisor does for one that died, or that stands still. Root.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "executor/engine.h"
#include "layers/store.h"
#include "pool/wire.h"

/* A slot has one at a time, but one that has answered may not be reaped yet when the next is asked for. */
#define COMMITS_OF_SLOT 4u
#define COMMITS_MORE 16u
#define COMMITS_MAX (POOL_SLOTS_MAX * COMMITS_OF_SLOT + COMMITS_MORE)
#define COMMITS_PATIENCE_US 60000000u /* one fsync(2) may take long on a busy disk, and does not run meanwhile */

struct commit_child {
	pid_t pid; /* 0: none */
	uint32_t seq;
	bool settled;	 /* it has been answered for, or nobody waits for its answer any more */
	unsigned still;	 /* how many looks in a row found that it had not run */
	uint64_t ran_ns; /* so far */
};

struct commits {
	struct store *store; /* borrowed */
	int sock;	     /* our end of the worker's socket; -1: none */
	unsigned most, n;
	uint64_t patience_us; /* COMMITS_PATIENCE_US, or less for a test */
	uint64_t look_us;     /* when commits_look() is due; 0: there is nothing to look at */
	struct commit_child children[COMMITS_MAX];
};

/* commits_start - store what the fd names; the answer goes to the socket, whatever becomes of it. @request: sane. @fd: stays the caller's. */
void commits_start(struct commits *c, const struct commit_request *request, int fd);
/* commits_refuse - answer a request that was not even begun. */
void commits_refuse(struct commits *c, uint32_t seq, int error, const char *why);
/* commits_ended - a child was reaped, which may be none of these. */
void commits_ended(struct commits *c, pid_t pid, int status);
/*
 * commits_look - when it is due, end the children that have not run at all for so long as patience_us, and say so to the worker: stopped, or waiting for a
 * filesystem that does not answer. A large file takes as long as it takes. commits_poll_ms - until then, for poll(2); -1: nothing to look at.
 */
void commits_look(struct commits *c);
int commits_poll_ms(const struct commits *c);
/* commits_forget - the worker that asked is gone, or waits for none of them: they are ended, and nobody is told. */
void commits_forget(struct commits *c);
