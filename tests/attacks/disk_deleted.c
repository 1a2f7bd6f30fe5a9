/*
 * Tries: bytes in files that are deleted while they are open, which no listing shows.
 * Must: count as long as they are there.
 * Stopped by: the project quota of the slot's scratch, or the size of the tmpfs that it is on (doctor says which).
 * Without it: a tmpfs of 1 GiB: "ended as memory_limit, wanted exited 0".
 */
// flags: --disk 4M --inodes 300 --memory 64M
#include <fcntl.h>

#include "attack.h"
#include "fill.h"

int main(void)
{
	long sum = 0;
	for (int i = 0; i < 8; i++) {
		int fd = open("/tmp/deleted", O_CREAT | O_EXCL | O_RDWR, 0600);
		if (fd < 0)
			break;
		unlink("/tmp/deleted");
		sum += fill(fd);
	}
	must(sum > 0 && sum <= MOST, "%ld KiB in deleted files", sum >> 10);
	int fd = open("/work", O_TMPFILE | O_RDWR, 0600);
	sum += fd < 0 ? 0 : fill(fd);
	must(sum <= MOST, "%ld KiB with one that never had a name", sum >> 10);
	return finish();
}
