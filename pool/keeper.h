/*
 * Keepers: on a hybrid host, a process of petri's own that sits in a slot's v1 leaves and clones the slot's rooms, which
 * are thereby born in them, and with them the zygotes. Attaching a process to a v1 hierarchy costs a grace period each (0.3 ms and up, times five);
 * cgroup v2 has CLONE_INTO_CGROUP instead. The rooms are still the nursery's own children (CLONE_PARENT).
 *
 * Each has a table of few fds and no memory in common with the nursery: what a room's clone copies does not grow with the number of
 * slots, and should the kernel's OOM killer ever choose a keeper, only the slot is lost. It counts as one task and about 100 KiB in the
 * v1 leaves; it is no member of the v2 leaf, whose "populated" speaks of the job alone.
 *
 *   nursery ──struct room_spec, fds──▶ keeper; keeper ──pid, pidfd──▶ nursery      (one seqpacket socket each)
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "pool/zygote.h"

struct keeper {
	pid_t pid; /* 0: none */
	int sock;
	bool settled; /* keeper_settle() was successful */
};
#define KEEPER_NONE \
	(struct keeper) \
	{ \
		.sock = -1 \
	}

/*
 * keeper_start - fork one; it makes an empty network namespace for itself, while the caller does other things. @reserved: a low fd number that
 * is the caller's for this; until keeper_settle() is done, no other keeper may be started. Return: 0 or -errno.
 */
int keeper_start(struct keeper *keeper, int reserved);
/* keeper_settle - wait until it is on its own, ten seconds at most. The caller then attaches it to the leaves. Return: 0 or -errno; -ESRCH
 * when it is dead. */
int keeper_settle(struct keeper *keeper, int reserved);
/* keeper_clone - as room_clone(), by the keeper. -ESRCH or -EPIPE when it is dead. Waits a second at most. */
pid_t keeper_clone(struct keeper *keeper, const struct room_spec *spec, int *ret_pidfd);
/* keeper_stop - kill and reap it; fine when there is none. */
void keeper_stop(struct keeper *keeper);
