/*
 * Tries: to take all of the machine's contexts for asynchronous I/O (fs.aio-max-nr), which the kernel counts neither by user nor by group,
 * so that nobody else on the machine, another job or a database, gets one.
 * Must: be refused with ENOSYS.
 * Stopped by: the fixed filter, since the count belongs to no namespace and no user; above it the policies, which have no io_setup.
 * Without it: (SYS_io_setup left out of floor_build(), and the policy default with io_setup) "BROKEN: 4 contexts, and fs.aio-nr is 65536", of 65536.
 */
#include <sys/syscall.h>

#include "reach.h"

int main(void)
{
	static unsigned long contexts[4096];
	int taken = 0;
	char used[32] = "";
	for (unsigned size = 16384; size > 0; size /= 2)
		while (taken < 4096 && syscall(SYS_io_setup, size, &contexts[taken]) == 0)
			taken++;
	int error = errno;
	(void)read_text("/proc/sys/fs/aio-nr", used, sizeof(used));
	must(taken == 0 && error == ENOSYS, "%d contexts, and fs.aio-nr is %.*s", taken, (int)strcspn(used, "\n"), used);
	return finish();
}
