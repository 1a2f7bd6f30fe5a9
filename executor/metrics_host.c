/* Cgroups as the kernel counts them. Read by the thread that serves the metrics; whatever cannot be read is left out. */
#include "executor/metrics_host.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"

long long metrics_host_dying(const char *group)
{
	char path[320];
	uint64_t n;
	if (!*group || snprintf(path, sizeof(path), "%s/cgroup.stat", group) >= (int)sizeof(path))
		return -1;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fd_pread_key(fd, "nr_dying_descendants", &n) == 0 ? (long long)n : -1;
}

/* "#subsys_name hierarchy num_cgroups enabled", cgroups(7): the only count that v1 hierarchies have. */
long long metrics_host_memory_cgroups(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/cgroups", "re");
	char line[128], name[32];
	long long n;
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%31s %*d %lld", name, &n) == 2 && strcmp(name, "memory") == 0)
			return n;
	return -1;
}
