/*
 * Tries: the host's huge pages, which no memory limit counts: MAP_HUGETLB, a memfd and a segment of them.
 * Must: be refused, also where the host keeps a pool of them.
 * Stopped by: the fixed filter.
 * Without it: the filter's rule left out: "BROKEN: a memfd of huge pages"; on a host with a pool of four, all four were had.
 */
#include <sys/ipc.h>
#include <sys/shm.h>

#include "attack.h"

#define SIZE (2UL << 20)

static bool map_of(int flags, int fd)
{
	char *p = (char *)mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (p == MAP_FAILED)
		return false;
	munmap(p, SIZE);
	return true;
}

int main(void)
{
	int fd = memfd_create("huge", MFD_HUGETLB), id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | SHM_HUGETLB | 0600);
	must(!map_of(MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1), "a private huge page");
	must(!map_of(MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1), "a shared huge page");
	must(fd < 0, "a memfd of huge pages");
	must(id < 0, "a segment of huge pages");
	return finish();
}
