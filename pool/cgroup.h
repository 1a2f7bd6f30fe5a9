/*
 * The nursery's side of cgroups: finding a usable tree, and making and removing the slots' leaves in it.
 *
 *   v2:      ROOT/petri/jobs/slot-N, controllers enabled on the way down
 *   hybrid:  the same path in the v2 tree (kill, events, CPU time), and petri/slot-N in each v1 hierarchy
 *
 * ROOT is the hierarchy's root as this process sees it. petri's own processes stay outside `jobs`, which has a low
 * CPU weight, so that jobs never starve the worker's loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "pool/leaf.h"

enum v1_controller {
	V1_MEMORY,
	V1_CPU,
	V1_PIDS,
	V1_BLKIO,
	V1_CPUSET,
	V1_MAX
};

struct cgroup_tree {
	enum pool_driver driver;
	int unified;	/* ROOT/petri/jobs of the v2 tree */
	int v1[V1_MAX]; /* ROOT/petri of each hierarchy, -1 where there is none */
	int root;	/* ROOT of the v2 tree, to take petri/ away again */
	int v1_root[V1_MAX];
};

/* What is seldom needed of a leaf is opened by its number: each open file of a slot is copied with every fork of the nursery. */
struct cgroup_leaf {
	unsigned number;
	int dir;     /* slot-N/job, the leaf: for CLONE_INTO_CGROUP. slot-N holds it, and slot-N/room for the room */
	int charged; /* its memory.current; v1: memory.usage_in_bytes */
};
#define CGROUP_LEAF_NONE \
	(struct cgroup_leaf) \
	{ \
		.dir = -1, .charged = -1 \
	}

/* cgroup_v2_mount - the root of the v2 tree, as mounted here. Return: an fd, or -errno. */
int cgroup_v2_mount(void);
/*
 * cgroup_tree_open - find the mounts in /proc/self/mountinfo, choose the driver by what is there, and make petri's
 * own groups. Return: 0; -ENOENT/-EACCES/… with a message that says what is missing and how to give it.
 * @readonly: only look (doctor): nothing is made, and unified/v1 may stay -1.
 */
int cgroup_tree_open(struct cgroup_tree *tree, bool readonly, struct err *err);
/* cgroup_tree_close - close; with @remove, when no other process uses them, also take petri's groups away. */
void cgroup_tree_close(struct cgroup_tree *tree, bool remove);

/*
 * cgroup_leaf_make - make leaf `slot-NUMBER` (a left-over one is killed and removed first). @owner: host uid of the slot's root,
 * who may then move processes from the slot's room into the leaf.
 * @ret_fds, @ret_knobs: the worker's knobs in the order of the bits; the caller owns the fds.
 */
int cgroup_leaf_make(struct cgroup_tree *tree, unsigned number, uid_t owner, struct cgroup_leaf *ret, int ret_fds[KNOB_MAX],
	uint32_t *ret_knobs, struct err *err);
/*
 * cgroup_leaf_renew - replace those groups of an empty leaf whose counters cannot be set back: on v2 the leaf, while the room stays
 * beside it; on hybrid hosts the one in the v2 tree and pids, and the CPU set is restored, while the keeper stays in the others.
 * Fds as for cgroup_leaf_make().
 */
int cgroup_leaf_renew(struct cgroup_tree *tree, uid_t owner, struct cgroup_leaf *leaf, pid_t keeper, int ret_fds[KNOB_MAX],
	uint32_t *ret_knobs, struct err *err);
/* cgroup_leaf_attach_v1 - move a process into all v1 leaves: a grace period each. */
int cgroup_leaf_attach_v1(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, pid_t pid, struct err *err);
/* cgroup_leaf_open_room - the room's group in the v2 tree, to be born in. Return: the fd (caller owns), or -errno. */
int cgroup_leaf_open_room(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, struct err *err);
/* cgroup_leaf_attach_unified - move a room there, where it could not be born there. */
int cgroup_leaf_attach_unified(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, pid_t pid, struct err *err);
/* cgroup_leaf_drop_cache - reclaim the page cache that is charged to the leaf: up to @bytes, on v1 all. */
void cgroup_leaf_drop_cache(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, uint64_t bytes);
void cgroup_leaf_close(struct cgroup_leaf *leaf);
/* cgroup_leaf_remove - kill what is in slot-NUMBER, wait up to 2 s for it to be empty, and remove it everywhere.
 * Return: 0 (also when there was none), -EBUSY. */
int cgroup_leaf_remove(struct cgroup_tree *tree, unsigned number, struct err *err);
/* cgroup_leaf_kill - SIGKILL everything in slot-NUMBER; for the nursery's own emergencies. */
void cgroup_leaf_kill(struct cgroup_tree *tree, unsigned number);
