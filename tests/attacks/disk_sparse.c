/*
 * Tries: more than --disk through holes: a file of a terabyte, written at far places; holes punched and filled; a hole that is
 *   mapped.
 * Must: take no more blocks than --disk has.
 * Stopped by: the project quota of the slot's scratch, or the size of the tmpfs that it is on (doctor says which).
 * Without it: a tmpfs of 1 GiB: "BROKEN: 16384 KiB written, 16384 KiB of blocks".
 */
// flags: --disk 4M --inodes 300 --memory 64M
#include <fcntl.h>
#include <sys/stat.h>

#include "attack.h"

#define MOST (4 << 20)

int main(void)
{
	int fd = open("/work/sparse", O_CREAT | O_RDWR, 0600);
	struct stat st;
	long written = 0;
	static char page[4096] = {1};
	must(ftruncate(fd, 1L << 40) == 0 || errno == EFBIG, "a hole of a terabyte costs nothing");
	for (long i = 0; i < 4L * MOST / 4096; i++)
		written += pwrite(fd, page, sizeof(page), i << 28) == (ssize_t)sizeof(page) ? (long)sizeof(page) : 0;
	must(fstat(fd, &st) == 0 && st.st_blocks * 512L <= MOST && written <= MOST, "%ld KiB written, %ld KiB of blocks", written >> 10, (long)st.st_blocks / 2);
	for (int i = 0; i < 8; i++) {
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1L << 30);
		fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 1L << 30, MOST);
		fallocate(fd, FALLOC_FL_KEEP_SIZE, (1L << 39) + ((long)i << 30), MOST);
	}
	must(fstat(fd, &st) == 0 && st.st_blocks * 512L <= MOST, "%ld KiB of blocks after more of the kind", (long)st.st_blocks / 2);
	return finish();
}
