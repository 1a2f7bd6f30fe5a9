/* CPU time of processes and of all that they have started and reaped. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* cpu_self_us - this process and the children that it has reaped, exact. */
uint64_t cpu_self_us(void);
/*
 * cpu_tree_us - a process (@except and what it started aside, 0: none), its descendants that live, and what all of them have reaped. What kernel threads do on their
 * behalf (taking cgroups, mounts and network namespaces down) is nobody's and is not in it.
 * Own time to a nanosecond where the kernel keeps schedstats, that of reaped children to a clock tick a process: ask before and after
 * some hundred jobs. This process's own share is exact.
 */
uint64_t cpu_tree_us(pid_t root, pid_t except);
