/*
 * Tries: kernel memory: names that do not exist, looked up, each of which the kernel remembers.
 * Must: go well, or end by memory_limit, with no more than --memory ever used.
 * Stopped by: memory.max, which names that were looked up count towards; the kernel forgets some.
 * Without it: memory limit not written: "memory_mib is 20.6, wanted <= 6.5".
 */
// flags: --memory 6M --wall 20s --cpu 5s
// expect: exited 0 | memory_limit
// usage: memory_mib <= 6.5
#include <sys/stat.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	struct stat st;
	int found = 0;
	for (int i = 0; i < 30000; i++) {
		char path[160];
		snprintf(path, sizeof(path), "/etc/%0100d", i);
		found += stat(path, &st) == 0;
	}
	must(found == 0, "30000 names that do not exist; the runner checks that they were not kept beyond --memory");
	return finish();
}
