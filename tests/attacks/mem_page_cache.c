/*
 * Tries: page cache: a file larger than --memory, written, read back and mapped.
 * Must: memory_limit where the scratch is memory; where it is a disk it may go through, with no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "memory_mib is 98.6, wanted <= 24.5".
 */
// flags: --memory 24M --disk 128M --wall 20s --cpu 5s
// expect: memory_limit | exited 0
// usage: memory_mib <= 24.5
#include <fcntl.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	static char chunk[MIB];
	int fd = open("/work/cache", O_CREAT | O_RDWR, 0600);
	memset(chunk, 1, sizeof(chunk));
	for (int mib = 0; mib < MOST; mib++)
		if (write(fd, chunk, sizeof(chunk)) != (ssize_t)sizeof(chunk))
			break;
	for (int mib = 0; mib < MOST; mib++)
		if (pread(fd, chunk, sizeof(chunk), (off_t)mib * MIB) <= 0)
			break;
	volatile char *p = (volatile char *)mmap(NULL, (size_t)MOST * MIB, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	volatile int sum = 0;
	for (size_t i = 0; p != MAP_FAILED && i < (size_t)MOST * MIB; i += 4096)
		sum += p[i];
	held("written and read: %d MiB, of which the runner checks that they were not memory", MOST);
	return finish();
}
