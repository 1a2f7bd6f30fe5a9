/*
 * A cgroup that systemd handed over (Delegate=yes) is where petri makes its groups, instead of the root of the tree, which is
 * systemd's. cgroup v2 lets no group have both processes and children with controllers, so petri's own processes move into a group
 * below first: UNIT/self, beside UNIT/petri/jobs. systemd marks such a group with the attribute trusted.delegate, which only root can
 * set: systemd's CGROUP_DELEGATION document.
 */
#pragma once

#include "base/err.h"

/*
 * delegate_enter - in the supervisor, before it starts anything: where this process's group was delegated and has the controllers
 * that petri needs, move it into the group for petri's own processes. And enable cpuset for what is below a delegated group, which only it can.
 * Return: 0 when there was nothing to do, 1 when moved, or -errno.
 */
int delegate_enter(struct err *err);

/* delegate_root - the delegated group, for a process in a group right below it: where delegate_enter() moved it or its parent, or where
 * systemd started it (DelegateSubgroup=). @mount: the v2 tree's root.
 * Return: an fd, or -ENOENT when there is none. */
int delegate_root(int mount);
