/* Paths inside a sandbox, as text. Nothing here touches a filesystem: links are met by the code that opens
 * them. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "executor/job.h"

int job_path_normalise(const char *path, size_t len, char *out)
{
	if (len == 0 || path[0] != '/' || memchr(path, '\0', len))
		return -EINVAL;
	char buf[JOB_PATH_MAX + 1];
	size_t used = 0;
	for (const char *p = path, *end = path + len; p < end;) {
		const char *slash = memchr(p, '/', (size_t)(end - p));
		size_t n = (size_t)((slash ? slash : end) - p);
		const char *name = p;
		p += n + 1;
		if (n == 0 || (n == 1 && name[0] == '.'))
			continue;
		if (n == 2 && name[0] == '.' && name[1] == '.')
			return -EINVAL;
		if (n > NAME_MAX || used + 1 + n > JOB_PATH_MAX)
			return -ENAMETOOLONG;
		buf[used++] = '/';
		memcpy(buf + used, name, n);
		used += n;
	}
	if (used == 0)
		buf[used++] = '/';
	buf[used] = '\0';
	memcpy(out, buf, used + 1);
	return 0;
}
