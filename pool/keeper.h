/*
 * Keepers: on a hybrid host, a process of petri's own that sits in a slot's v1 leaves and clones the slot's rooms, which
 * are thereby born in them, and with them the zygotes. Attaching a process to a v1 hierarchy costs a grace period each (0.3 ms and up, times five);
 * cgroup v2 has CLONE_INTO_CGROUP instead. The rooms are still the nursery's own children (CLONE_PARENT).
 *
 * A keeper shares the nursery's fd table, but not its memory: should the kernel's OOM killer ever choose it, only the slot
 * is lost. It counts as one task and about 100 KiB in the v1 leaves; it is no member of the v2 leaf, whose "populated"
 * speaks of the job alone.
 */
#pragma once

#include <sys/types.h>

#include "pool/zygote.h"

struct keeper {
	pid_t pid; /* 0: none */
	struct keeper_page *page;
};

/* keeper_start - fork it; it enters the network namespace @net and waits. The caller attaches it to the leaves. Return: 0 or
 * -errno. */
int keeper_start(struct keeper *keeper, int net);
/* keeper_clone - as room_clone(), by the keeper. -ESRCH when it is dead. Waits a second at most. */
pid_t keeper_clone(struct keeper *keeper, const struct room_spec *spec, int *ret_pidfd);
/* keeper_stop - kill and reap it; fine when there is none. */
void keeper_stop(struct keeper *keeper);
