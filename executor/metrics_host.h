/* What the kernel says of cgroups, for the metrics. May be slow (the kernel's cgroup lock): never from the worker's loop. */
#pragma once

/* metrics_host_dying - groups beneath this one of the v2 tree that were removed and linger; below 0 when unknown. */
long long metrics_host_dying(const char *group);
/* metrics_host_memory_cgroups - memory cgroups of the host, lingering ones included; below 0 when unknown. */
long long metrics_host_memory_cgroups(void);
