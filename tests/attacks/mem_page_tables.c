/*
 * Tries: memory in page tables: pages that are only read cost nothing, the tables that map them do.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 24 GiB read, 48 MiB of page tables".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	/* A table is a page of addresses of pages: of 4 KiB one maps 2 MiB, of 16 KiB, as some aarch64 kernels have them, 32. */
	size_t page = (size_t)sysconf(_SC_PAGESIZE), mapped = page / 8 * page, size = (size_t)MOST * MIB / page * mapped;
	volatile char *p = (volatile char *)mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	volatile int sum = 0;
	madvise((void *)p, size, MADV_NOHUGEPAGE);
	for (size_t i = 0; p != MAP_FAILED && i < size; i += mapped)
		sum += p[i];
	broken("%zu GiB read, %zu MiB of page tables", size >> 30, size / mapped * page / MIB);
	return finish();
}
