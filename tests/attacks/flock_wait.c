/*
 * Tries: to make others wait: exclusive locks and leases on all files that jobs may share, held until the job is killed.
 * Must: be wall_limit; jobs beside it, which lock the same names, do not wait.
 * Stopped by: no two jobs share an inode: `host` too is an overlay of the slot's own, and petri locks nothing that a job can
 *   open.
 * Without it: the deadline two seconds late: "wall_ms is 2383, wanted <= 1500".
 */
// flags: --wall 300ms
// expect: wall_limit
// usage: wall_ms <= 1500
#include <fcntl.h>
#include <sys/file.h>

#include "attack.h"

int main(void)
{
	const char *const names[] = {"/", "/etc/passwd", "/usr", "/data/lower", "/usr/bin", "/dev/null", "/work", "/tmp", "/dev/shm"};
	int locked = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int fd = open(names[i], O_RDONLY);
		locked += fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
		must(fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0 || i >= 6, "a lease on %s", names[i]);
	}
	held("%d of them locked, for this job alone", locked);
	pause();
}
