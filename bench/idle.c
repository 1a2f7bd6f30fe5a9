/* The memory group of a slot, by its files; see the header. */
#include "bench/idle.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* The mount point of the v1 memory hierarchy, else of cgroup v2: proc_pid_mountinfo(5). Return: 1, 2, or 0 for neither. */
static int find_tree(char point[256])
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[1024], at[256], type[32], options[256];
	int found = 0;
	while (f && found != 1 && fgets(line, sizeof(line), f)) {
		const char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*d %*d %*s %*s %255s", at) != 1 || sscanf(dash + 3, "%31s %*s %255s", type, options) != 2)
			continue;
		bool v1 = strcmp(type, "cgroup") == 0 && strstr(options, "memory"), v2 = strcmp(type, "cgroup2") == 0;
		if (!v1 && (!v2 || found))
			continue;
		memcpy(point, at, sizeof(at));
		found = v1 ? 1 : 2;
	}
	return found;
}

static uint64_t field(const char *dir, const char *file, const char *key)
{
	char path[400];
	uint64_t v = 0;
	(void)snprintf(path, sizeof(path), "%s/%s", dir, file);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (key ? fd_pread_key(fd, key, &v) : fd_pread_u64(fd, &v)) < 0)
		return 0;
	return v;
}

uint64_t idle_bytes(unsigned number)
{
	char point[256], dir[320];
	int version = find_tree(point);
	(void)snprintf(dir, sizeof(dir), version == 1 ? "%s/petri/slot-%u" : "%s/petri/jobs/slot-%u", point, number);
	if (version == 1)
		return field(dir, "memory.kmem.usage_in_bytes", NULL) + field(dir, "memory.stat", "rss") + field(dir, "memory.stat", "cache");
	return version == 2 ? field(dir, "memory.stat", "anon") + field(dir, "memory.stat", "file") + field(dir, "memory.stat", "kernel") : 0;
}
