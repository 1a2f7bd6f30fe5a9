/*
 * Tries: memory by mmap(2) without a reservation: a terabyte is mapped, and touched from both ends.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 96 MiB by mmap".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit | exited 0
// usage: memory_mib <= 24.5
#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	size_t size = 1UL << 40;
	char *p = (char *)mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (size_t i = 0; p != MAP_FAILED && i < (size_t)MOST * MIB / 2; i += 4096)
		p[i] = p[size - 1 - i] = 1;
	must(p == MAP_FAILED, "%d MiB by mmap", MOST);
	return finish();
}
