/*
 * Tries: fds that were left open for it: it looks at every number, writes to what it finds, and looks for the same in /proc.
 * Must: find its three streams and nothing else.
 * Stopped by: close_range(2) down to an explicit list before the job's first instruction.
 * Without it: fds not closed before exec, nor by it: "BROKEN: fd 3 is open, and takes nothing", and so on.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "attack.h"

int main(void)
{
	int found = 0, listed = 0;
	struct stat st;
	for (int fd = 0; fd < 1 << 17; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			continue;
		found++;
		if (fd > 2)
			broken("fd %d is open, and %s", fd, write(fd, "x", 1) == 1 ? "takes a byte" : "takes nothing");
		must(fd > 2 || (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode))), "fd %d", fd);
	}
	must(found == 3, "%d fds by number", found);
	DIR *d = opendir("/proc/self/fd");
	for (const struct dirent *e; d && (e = readdir(d));)
		listed += e->d_name[0] != '.' && atoi(e->d_name) != dirfd(d);
	must(listed == 3, "%d fds in /proc", listed);
	must_fail(open("/proc/1/fd/0", O_RDWR), EACCES, EPERM, ENOENT);
	must_fail(opendir("/proc/1/fd") ? 0 : -1, EACCES, EPERM);
	return finish();
}
