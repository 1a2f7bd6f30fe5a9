/*
 * Tries: the memory of others by calls: process_madvise and process_mrelease with a pidfd of the init and of a child, move_pages and
 * migrate_pages, then process_vm_readv and process_vm_writev of every pid up to 100.
 * Must: be refused with EPERM (EINVAL and ESRCH where there is nothing to do), or the job ends by violation.
 * Stopped by: the policies; beneath them that the init is another user and not dumpable.
 * Without it: (policies that allow everything) 196 BROKEN, all ESRCH instead of EPERM, for there is nobody but the init, which
 * stays EPERM.
 */
// expect judge: violation process_vm_readv
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "reach.h"

int main(void)
{
	int init = (int)syscall(SYS_pidfd_open, 1, 0);
	char page[64] = "x";
	struct iovec iov = {page, sizeof(page)};
	static const int advices[] = {20 /* MADV_COLD */, 21 /* MADV_PAGEOUT */, 3 /* MADV_WILLNEED */, 25 /* MADV_COLLAPSE */};
	for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++)
		must_fail_as("process_madvise of the init", syscall(SYS_process_madvise, init, &iov, 1, advices[i], 0), EPERM, EACCES);
	must_fail_as("process_mrelease of the init", syscall(SYS_process_mrelease, init, 0), EPERM, EINVAL, ESRCH);
	void *pages[1] = {page};
	int nodes[1] = {0}, status[1];
	must_fail_as("move_pages of the init", syscall(SYS_move_pages, 1, 1, pages, nodes, status, 0), EPERM);
	unsigned long mask = 1;
	must_fail_as("migrate_pages of the init", syscall(SYS_migrate_pages, 1, 8 * sizeof(mask), &mask, &mask), EPERM);
	for (int pid = 1; pid <= 100; pid++)
		if (pid != getpid()) {
			must_fail_as("process_vm_readv", syscall(SYS_process_vm_readv, pid, &iov, 1, &iov, 1, 0), EPERM);
			must_fail_as("process_vm_writev", syscall(SYS_process_vm_writev, pid, &iov, 1, &iov, 1, 0), EPERM);
		}
	return finish();
}
