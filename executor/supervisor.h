/*
 * The supervisor: the root process that `petri run`, `worker`, `doctor` and the bench are started as. It opens the
 * store, starts petri-nursery and the unprivileged worker with the fds that each needs, commits layers for the worker,
 * and reaps both. It parses nothing that comes from a job.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "executor/confine.h"
#include "executor/loop.h"
#include "layers/store.h"

struct worker_fds {
	struct loop *loop;
	struct store *store;
	int nursery, supervisor;
	int beats;	  /* a pipe to the supervisor, non-blocking, for a byte of enum beat (notify.h) now and then; -1: not wanted */
	uint64_t beat_us; /* how often */
	int spool;	  /* 0: none */
};

struct supervisor_config {
	const char *state; /* directory */
	unsigned nslots;
	const char *spool; /* whose results may be kept on disk while Redis is away: the worker's name; NULL: none */
	bool force_tmpfs;
	const char *project_ids;    /* of the slots, "FIRST-LAST"; NULL or "": PETRI_PROJECT_IDS, else those that the store has on record */
	const char *core_sched;	    /* executor/core_sched.h; NULL: off */
	bool keep_cache;	    /* struct nursery_config */
	bool handles_signals;	    /* the worker reads worker_signals(); otherwise they end it as usual */
	bool restart;		    /* a worker or nursery that dies is replaced; systemd is told of it all (NOTIFY_SOCKET) */
	uint64_t stop_ms;	    /* how long the worker may take to end after a signal, for systemd */
	struct confine_needs needs; /* the worker's */
	/* Runs in the worker, without privileges and confined; its return value is the worker's exit code. */
	int (*worker)(const struct worker_fds *fds, void *ctx);
	void *ctx;
};

#define DEFAULT_STATE "/var/lib/petri"
#define WORKER_EXIT_RESTART 70 /* the nursery is gone: start both anew */

/* worker_signals - in the worker: a signalfd(2) for SIGTERM, SIGINT and SIGHUP, non-blocking; -1 on failure. */
int worker_signals(void);

/* commit_request_sane - whether a request of the worker may be acted upon: a blob's bound, or a directory's place and a slot's range
 * of ids. */
struct commit_request;
bool commit_request_sane(const struct commit_request *request);

/* supervise - until the worker has ended. Return: its exit code, or 125 after logging why it could not start. */
int supervise(const struct supervisor_config *config);

/* state_dir - --state, else PETRI_STATE, else DEFAULT_STATE. */
const char *state_dir(const char *flag);
