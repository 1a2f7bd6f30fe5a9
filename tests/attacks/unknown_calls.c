/*
 * Tries: every system call number that no policy lists: those of kernels to come, obsolete ones, and listmount, statmount, listns,
 * lsm_set_self_attr, quotactl_fd's like, uselib, modify_ldt, vm86's places, each with zeros and with pointers.
 * Must: be refused with ENOSYS (a refusal that a policy spells out: EPERM).
 * Stopped by: the policies' default action: a call that is not listed does not exist.
 * Without it: (policies and fixed filter that allow everything) "BROKEN: call 457: -1, Bad address", statmount, and eight more.
 */
#include <sys/syscall.h>

#include "reach.h"

static void refused(long nr)
{
	static char zeros[4096];
	long a = syscall(nr, 0, 0, 0, 0, 0, 0);
	int error = errno;
	long b = syscall(nr, zeros, zeros, 64, zeros, 64, 0);
	if (a != -1 || b != -1 || (error != ENOSYS && error != EPERM) || (errno != ENOSYS && errno != EPERM))
		broken("call %ld: %ld, %s", nr, a, strerror(error));
}

int main(void)
{
	for (long nr = 470; nr <= 1023; nr++)
		refused(nr);
	held("calls 470 to 1023");
	static const long some[] = {457 /* statmount */, 458 /* listmount */, 459, 460, 461 /* lsm_* */, 467 /* open_tree_attr: listed */,
		469 /* file_setattr */};
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		if (some[i] != 467)
			refused(some[i]);
#if defined(__x86_64__)
	/* Not 335 and 336, uretprobe and uprobe: the kernel lets them pass every filter, and answers with SIGILL. */
	static const long old[] = {134 /* uselib */, SYS_modify_ldt, SYS_ustat, SYS_sysfs, SYS__sysctl, SYS_epoll_ctl_old,
		SYS_epoll_wait_old, 181, 182, 183, 184, 185,
		SYS_tuxcall, SYS_security, SYS_vserver, 400, 423};
	for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
		refused(old[i]);
#endif
	held("some by name");
	return finish();
}
