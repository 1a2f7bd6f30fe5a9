/*
 * The engine: runs jobs in the nursery's slots. It holds the slots' leaves and zygotes by fd, hands each job to a
 * zygote that was made for the same plan (or has one made), enforces the deadlines, relays the streams, decides the
 * verdict and collects the outputs. Worker process, unprivileged, on the event loop.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "executor/job.h"
#include "executor/loop.h"
#include "executor/result.h"
#include "layers/store.h"

struct engine;

struct engine_job {
	struct job job;	      /* owned by whoever made the engine_job; untouched by the engine */
	struct result result; /* filled by the engine; the owner clears it */
	int stdin_fd;	      /* JOB_SOURCE_STREAM: relayed into the job; stays the owner's. -1 otherwise */
	/* Output as it comes (`petri run`); it is kept in the result as well. NULL: not wanted. */
	void (*output)(struct engine_job *ej);
	/* The job was handed to its zygote. NULL: not wanted. */
	void (*started)(struct engine_job *ej);
	/* The first process has ended; verdict and outputs are not known yet. NULL: not wanted (bench uses it). */
	void (*ended)(struct engine_job *ej);
	void (*done)(struct engine_job *ej);
	void *user;
	uint64_t dispatched_ns, ended_ns; /* CLOCK_MONOTONIC */
	bool stamp_layers;		  /* the engine's: delivering layers as files failed, so stamp them */
	unsigned unborn;		  /* the engine's: how many zygotes died with it before its program began */
	bool run_cold;			  /* the engine's: its image's runtime declined it */
	bool placed;			  /* the engine's: it is counted, however often it changes slots */
	struct run *run;		  /* the engine's */
	struct engine_job *next;	  /* the engine's */
};

struct engine_config {
	struct loop *loop;
	struct store *store;
	int nursery;	  /* SOCK_SEQPACKET; the engine's from now on. It closes it when it dies, which ends the nursery */
	int supervisor;	  /* SOCK_SEQPACKET for commits; the engine's */
	const char *name; /* the worker's, for results */
	const char *const *policy_dirs;
	/* What idle slots are made for until jobs teach better: "IMAGE[=SLOTS],…", where so many slots stay with an image. NULL: host. */
	const char *warm_image, *warm_policy;
	const struct job_limits *max_limits; /* or NULL */
	const char *allow_unenforced;	     /* or NULL; see unenforced_check() */
	bool pin;			     /* slot i's jobs run on CPU i (modulo their number) unless they ask for a set of their own */
	cpu_set_t cpus;			     /* what a job's cpuset may hold: this process's own at first; empty: not known */
	bool one_job;			     /* nothing follows the first job: its slot is not made ready again */
	/* More jobs can be started, or fewer. */
	void (*capacity)(void *ctx);
	/* The nursery is gone or cannot make slots: nothing can run any more. The jobs are being killed, and end one by one as usual; those that still
	 * wait can be cancelled. */
	void (*fatal)(void *ctx, const struct err *err);
	void *ctx;
};

int engine_new(const struct engine_config *config, struct engine **ret, struct err *err);
/* engine_free - at the process' end, before loop_free(). */
void engine_free(struct engine *engine);
/* engine_replace - after `fatal`, once every job is done: a new engine with the same configuration on a new nursery's socket and a new
 * one of the supervisor's (both its own from now on, closed on failure too). The old one is freed, when its last operation is back. */
int engine_replace(struct engine *old, int nursery, int supervisor, struct engine **ret, struct err *err);
/* engine_end - after `fatal`, once every job is done: let go of all files. The engine can still be asked for its figures. */
void engine_end(struct engine *engine);

/* engine_warmth - jobs that were placed so far, and how many of them got a slot made for their image, policy and network (in which a
 * zygote waited, or was being made); the others had one stamped for them. */
void engine_warmth(const struct engine *engine, uint64_t *ret_placed, uint64_t *ret_hits);

/* engine_start - run a job; done is called exactly once, possibly before this returns (a rejected job). */
void engine_start(struct engine *engine, struct engine_job *ej);
/* engine_cancel - kill it, or forget it if it waits; done comes with STATUS_CANCELLED unless it ended before. */
void engine_cancel(struct engine *engine, struct engine_job *ej);

/* engine_free_slots - how many more jobs could be started now without waiting for another job's end. */
unsigned engine_free_slots(const struct engine *engine);
/* engine_ready_slots - slots whose zygote waits. */
unsigned engine_ready_slots(const struct engine *engine);
unsigned engine_nslots(const struct engine *engine); /* 0 until the nursery said hello */
unsigned engine_running(const struct engine *engine);
/* engine_ask - ask the nursery for a sign of life; nothing is sent while it owes one. */
void engine_ask(struct engine *engine);
/* engine_answered_us - when it last gave one (CLOCK_MONOTONIC); 0: never yet, or it is gone. */
uint64_t engine_answered_us(const struct engine *engine);
enum engine_slot_state {
	ENGINE_SLOT_READY,    /* a zygote waits */
	ENGINE_SLOT_RUNNING,  /* from the hand-over of a job to its result */
	ENGINE_SLOT_STAMPING, /* being made */
	ENGINE_SLOT_RETIRED,  /* would not empty, or could not be cleaned: not used any more until the worker's next start */
	ENGINE_SLOT_MAX
};
const char *engine_slot_state_name(enum engine_slot_state state);
/* engine_slots - how many slots are in each state. */
void engine_slots(const struct engine *engine, unsigned ret[ENGINE_SLOT_MAX]);
/* engine_limits - the names of the limits that can be enforced here, as in a job's `limits`, separated by spaces. Return: false
 * while no slot has told. */
bool engine_limits(const struct engine *engine, char *buf, size_t cap);
/* engine_cgroup - the path of the v2 group that the slots' own lie in. Return: false while no slot has told. */
bool engine_cgroup(const struct engine *engine, char *buf, size_t cap);
struct wire_host;
const struct wire_host *engine_host(const struct engine *engine);
/* engine_slot_number - the host-wide number of slot i, after which its cgroups are called. */
unsigned engine_slot_number(const struct engine *engine, unsigned i);

/* What the worker asks the supervisor for (executor/supervisor.c). */
enum commit_kind {
	COMMIT_LAYER,	/* the fd is a directory, to be stored as a layer */
	COMMIT_BLOB,	/* the fd is a file, to be stored as a blob of at most max_bytes; only seq and max_bytes are looked at */
	COMMIT_NURSERY, /* no fd: start another nursery, as the last one has ended or is about to; its socket comes with the reply, whose seq is 0 */
};
struct commit_request {
	uint32_t seq; /* not 0 */
	uint32_t uid_base;
	uint32_t kind; /* enum commit_kind */
	uint64_t max_bytes, max_entries;
	char prefix[JOB_PATH_MAX + 1];
};
struct commit_reply {
	uint32_t seq;
	int32_t error;
	uint8_t id[16]; /* of the layer or blob */
	uint64_t bytes; /* of the blob */
	char message[256];
};
