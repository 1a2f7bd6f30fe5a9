/*
 * The nursery: forks zygotes, and is the only process that mounts, makes cgroups and sets quotas. Root, static,
 * single-threaded; it never blocks for more than about a millisecond, and what may take longer runs in a throw-away
 * child. The exception, on hybrid hosts: a keeper's answer, which takes as long as its leaf has to wait for a CPU, milliseconds
 * on a machine that others keep busy, a second at most (pool/keeper.c). How a root is stamped is not its business: it calls struct nursery_stamper.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "pool/wire.h"

struct nursery_mounts { /* detached, and the stamper's */
	int root;
	int usr;     /* or -1 */
	int scratch; /* u/: the root's upper directory; j/: places of the jobs' own, work/ and tmp/ */
	bool freed_late;
};

/* What the pool needs of the layers. All run in the nursery; `slot` is the stamper's own per-slot state. */
struct nursery_stamper {
	void *env;
	/* Prepare slot number `number`; *ret is its state. */
	int (*slot_init)(void *env, unsigned number, uid_t uid_base, void **ret, struct err *err);
	/* Make the root. *ret_step: enum pool_step. */
	int (*make)(void *env, void *slot, const struct wire_plan *plan, struct nursery_mounts *ret, unsigned *ret_step, struct err *err);
	/* The room has its copies of the mounts: of the nursery's, only what resize and clean need is kept. */
	void (*handed_over)(void *env, void *slot);
	int (*resize)(void *env, void *slot, uint64_t bytes, uint64_t inodes, struct err *err);
	/* True when letting go may take more than about 100 µs. */
	bool (*slow_to_clean)(void *env, void *slot);
	/* Let go of the mounts (nursery and helper), then delete what was written (helper only, when slow). */
	void (*detach)(void *env, void *slot);
	int (*clean)(void *env, void *slot, struct err *err);
	void (*slot_free)(void *env, void *slot);
	/* Numbers of slots that have something in the scratch; at most cap. sweep: remove it (may be slow; at the start, and in a helper). */
	unsigned (*leftovers)(void *env, unsigned *ret, unsigned cap);
	void (*sweep)(void *env, unsigned number);
	/* Write the paths of a plan's files that groups with these inodes (ascending) are charged with to @list (a memfd), until @until_us; and
	 * have @bytes of them read again on the caller's account. In helpers. */
	void (*charged)(void *env, const struct wire_plan *plan, const uint64_t *groups, size_t n, int list, uint64_t until_us);
	void (*read_again)(void *env, int list, const uint64_t *groups, size_t n, uint64_t bytes);
	/* Fill in what the worker is told of the host. */
	void (*describe)(void *env, struct wire_host *host);
};

/* Whether each job gets a core scheduling cookie of its own, prctl(2) PR_SCHED_CORE. */
enum pool_cookie {
	POOL_COOKIE_NONE,
	POOL_COOKIE_TRY,
	POOL_COOKIE_REQUIRED /* no zygote without */
};

struct nursery_config {
	int worker;   /* SOCK_SEQPACKET to the worker; end of file ends the nursery */
	int lock_dir; /* directory of the host-wide slot locks */
	unsigned nslots;
	enum pool_cookie cookie;
	bool keep_cache;       /* images' files stay cached on no job's account; not worth it for a single job */
	struct wire_host host; /* devices, filled by the caller */
};

struct cgroup_tree;

/* nursery_run - serve until the worker's socket closes or SIGTERM; then kill and remove all slots. Return: 0, -errno. */
int nursery_run(const struct nursery_config *config, const struct nursery_stamper *stamper, struct cgroup_tree *tree,
	struct err *err);

/*
 * cache_remove - take away the group that images' files are cached for, if it is charged with little: one that is charged would linger, and
 * nobody would see for what. For the last who uses the tree.
 */
void cache_remove(const struct cgroup_tree *tree);
