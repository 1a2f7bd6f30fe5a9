/*
 * The wire between worker and nursery: fixed-size binary messages over a SOCK_SEQPACKET pair, with fds beside
 * them. No JSON, no paths: layers are named by their 128-bit ids, policies by a small index. Both ends are built
 * together, so the layout is the compiler's. The nursery checks every field, for the worker is the process that
 * parses hostile input.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define POOL_SLOTS_MAX 1024
#define WIRE_VERSION 7u /* changes with the layout: a nursery of another build must not be taken for ours */
#define POOL_POLICIES_MAX 32
#define POOL_LAYERS_MAX 64
#define POOL_DEVICES_MAX 4

/* Ids of a slot: host ids POOL_UID_BASE + number * 65536 are 0…65535 inside. The store's range lies below. */
#define POOL_UID_BASE 0x70010000u
#define POOL_UID_COUNT 65536u
#define POOL_NUMBERS_MAX 4000
#define POOL_KEEPER_TASKS 2u /* in a hybrid leaf: pool/keeper.h, and the room */
#define POOL_JOB_UID 1000u   /* the job's user and group, inside */

enum wire_type {
	/* worker → nursery */
	WIRE_POLICY = 1, /* + sealed memfd: a BPF program under an index */
	WIRE_STAMP,	 /* + the zygote's end of a control socket, [the last zygote's mount namespace, to be let go of]: make a
			  * zygote for a plan in a slot, which says HELLO there; whatever
			  * the slot held is ended and scrubbed first */
	WIRE_RESIZE,	 /* other disk limits for a ready zygote */
	WIRE_OPEN,	 /* + socket, a job's root: a helper with the slot's credentials serves struct open_request on it */
	WIRE_RETIRE,	 /* give the slot up: it would not empty */
	WIRE_PING,	 /* answered with WIRE_PONG: the nursery's loop turns */
	/* nursery → worker */
	WIRE_HELLO,  /* what this host can do: struct wire_host */
	WIRE_LEAF,   /* + knob fds, in the order of `knobs`: the slot's leaf was made (again) */
	WIRE_FAILED, /* no zygote: step and error say why; or the slot's room ended unasked */
	WIRE_RESIZED,
	WIRE_PONG,
};

enum pool_network {
	POOL_NET_SHARED,   /* the slot's empty namespace, loopback down, shared with its later jobs; only without sockets */
	POOL_NET_PRIVATE,  /* a fresh namespace, loopback down */
	POOL_NET_LOOPBACK, /* a fresh namespace, loopback up */
	POOL_NET_MAX
};

struct wire_plan {
	uint8_t layers[POOL_LAYERS_MAX][16]; /* lowest first */
	uint32_t nlayers;
	uint32_t network;    /* enum pool_network */
	uint32_t policy;     /* index */
	uint32_t host_usr;   /* show the machine's /usr at /usr */
	uint32_t fresh_leaf; /* replace the leaf first: it holds what cannot be set back */
	uint32_t fresh_room; /* end the room first, although it could serve the plan: something of the last job's may still be held there */
	uint64_t disk_bytes, disk_inodes;
};

/* wire_plan_equal - whether a zygote made for one plan serves the other as well: all but the disk limits, which can be changed, and the
 * leaf, which is not part of it. The count of layers may be anybody's. */
static inline bool wire_plan_equal(const struct wire_plan *a, const struct wire_plan *b)
{
	return a->nlayers == b->nlayers && a->nlayers <= POOL_LAYERS_MAX && a->network == b->network && a->policy == b->policy &&
		a->host_usr == b->host_usr && memcmp(a->layers, b->layers, sizeof(a->layers[0]) * a->nlayers) == 0;
}

enum pool_driver {
	POOL_DRIVER_V2,
	POOL_DRIVER_HYBRID,
	POOL_DRIVER_MAX
};

enum pool_scratch {
	POOL_SCRATCH_TMPFS,
	POOL_SCRATCH_QUOTA,
	POOL_SCRATCH_MAX
};

struct wire_host {
	uint32_t driver;  /* enum pool_driver */
	uint32_t scratch; /* enum pool_scratch */
	uint32_t knobs;	  /* bit per enum knob (pool/leaf.h) that a leaf has here */
	uint32_t layers_idmapped, usr_idmapped;
	uint32_t has_swap;	   /* the machine has swap space */
	uint32_t store_io, usr_io; /* I/O to the store's and to /usr's filesystem can be limited: a disk is below it, or none at all */
	uint32_t nslots;
	uint32_t ndevices; /* whole disks that jobs can cause I/O on */
	struct {
		uint32_t major, minor;
	} devices[POOL_DEVICES_MAX];
};

struct wire_policy {
	uint32_t index;
	uint32_t len;	   /* instructions */
	uint32_t listener; /* install with SECCOMP_FILTER_FLAG_NEW_LISTENER */
	uint32_t early;	   /* may be installed before the job is known */
	uint32_t sockets;  /* not to be used with POOL_NET_SHARED */
};

struct wire_leaf {
	uint32_t knobs;	 /* which fds follow */
	uint32_t number; /* the slot's host-wide number */
	uint32_t uid_base;
};

struct wire_msg {
	uint32_t type;
	uint32_t slot; /* index in this nursery */
	uint32_t seq;  /* of the STAMP that READY and FAILED answer */
	int32_t error; /* -errno */
	uint32_t step; /* enum pool_step */
	int32_t index; /* detail of the step */
	union {
		struct wire_plan plan;
		struct wire_host host;
		struct wire_policy policy;
		struct wire_leaf leaf;
	};
};

/* ---- on a zygote's control socket (worker ↔ the zygote's init and child) ---- */
enum zygote_msg_type {
	ZYGOTE_HELLO = 1, /* + pidfd of the init, root (O_PATH), mount namespace, page, stdin (write), stdout (read), stderr (read), [listener] */
	ZYGOTE_LISTENER,  /* + listener: only where the filter is installed late */
	ZYGOTE_EXIT,	  /* the job's first process ended; page->wait_status says how */
	ZYGOTE_FAILED,	  /* set-up failed: step, error */
};

struct zygote_msg {
	uint32_t type;
	uint32_t step;
	int32_t error;
	int32_t index; /* detail of the step; HELLO: which room of the slot, whose zygotes all share one page */
};

/*
 * The page that init, child and worker share (a memfd; the worker maps it read-only). The child's mapping ends
 * with its exec, and init runs as another user without being dumpable, so no job can write here.
 */
struct zygote_page {
	uint64_t exec_ns;    /* CLOCK_MONOTONIC just before execve; 0 when it did not come to that */
	uint64_t exit_ns;    /* when init saw the end */
	int32_t wait_status; /* wait(2) status of the job's first process */
	uint32_t step;	     /* why the launch failed; 0 when it did not */
	int32_t error;	     /* errno of the step */
	int32_t index;	     /* which pack entry, rlimit … */
};

/* ---- a job's dispatch: one datagram to the zygote's child ---- */
#define DISPATCH_INLINE_MAX (60u << 10) /* strings up to here travel in the datagram, beyond in a sealed memfd */
#define DISPATCH_STRINGS_MAX (1u << 20)
#define DISPATCH_WORDS_MAX 65536u /* argv and env entries together */
#define DISPATCH_MAGIC 0x50444a31u
#define DISPATCH_ARGS_MEMFD 1u
#define DISPATCH_RUNTIME 2u /* the last two fds become 3 (ready, to write) and 4 (job, to read) of the program: docs/runtimes.md */

struct dispatch {
	uint32_t magic;
	uint32_t flags;
	uint32_t argc, envc;
	uint32_t strings_len; /* argv strings, env strings, cwd: each NUL-terminated, in this order */
	uint32_t npacks;      /* pack fds, first among the fds after the strings' memfd; blobs follow */
	uint64_t open_files, stack_bytes, file_bytes;
};

/* ---- WIRE_OPEN's socket: worker ↔ helper ---- */
struct open_request {
	uint32_t directory; /* a directory (to commit) instead of a regular file */
	char path[4096];    /* in the sandbox, absolute, NUL-terminated */
};
struct open_reply {
	int32_t error; /* -errno; else the fd comes beside */
	uint32_t not_regular;
	uint64_t size;
};
