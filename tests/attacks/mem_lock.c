/*
 * Tries: to lock memory, which could then not be swapped or reclaimed: mlock, mlockall, MAP_LOCKED, SHM_LOCK, secret memory,
 *   and to raise the limit.
 * Must: each be refused beyond 64 KiB.
 * Stopped by: RLIMIT_MEMLOCK, and no capability to go beyond it.
 * Without it: RLIMIT_MEMLOCK not set: "BROKEN: mlock(p, SIZE): went through, 0"; under default "BROKEN: secret memory" as well.
 */
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "attack.h"

#define SIZE (8UL << 20)

int main(void)
{
	struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
	char *p = (char *)mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
	int secret = (int)syscall(SYS_memfd_secret, 0); /* not on every kernel */
	(void)!ftruncate(secret, SIZE);
	must_fail(setrlimit(RLIMIT_MEMLOCK, &more), EPERM);
	must_fail_as("secret memory", mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, secret, 0) == MAP_FAILED ? -1 : 0, EAGAIN, EBADF);
	must_fail(mlock(p, SIZE), ENOMEM, EPERM, EAGAIN);
	must_fail(mlock2(p, SIZE, MLOCK_ONFAULT), ENOMEM, EPERM, EAGAIN);
	must_fail_as("MAP_LOCKED", mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0) == MAP_FAILED ? -1 : 0, EAGAIN, EPERM);
	must_fail(shmctl(id, SHM_LOCK, NULL), ENOMEM, EPERM);
	must_fail(mlockall(MCL_CURRENT | MCL_FUTURE), ENOMEM, EPERM);
	return finish();
}
