/*
 * Tries: more bytes than --disk: in /work and /tmp together, and by fallocate(2), truncate(2) and copies.
 * Must: be refused once --disk is used up, in all places together.
 * Stopped by: the project quota of the slot's scratch, or the size of the tmpfs that it is on (doctor says which).
 * Without it: a tmpfs of 1 GiB: "BROKEN: 16384 KiB in /work".
 */
// flags: --disk 4M --inodes 300 --memory 64M
#include <fcntl.h>

#include "attack.h"
#include "fill.h"

int main(void)
{
	int work = open("/work/a", O_CREAT | O_RDWR, 0600), tmp = open("/tmp/a", O_CREAT | O_RDWR, 0600), copy;
	long sum = fill(work);
	must(sum > 0 && sum <= MOST, "%ld KiB in /work", sum >> 10);
	sum += fill(tmp);
	must(sum <= MOST, "%ld KiB with /tmp", sum >> 10);
	must_fail(fallocate(tmp, 0, 0, 4L * MOST), ENOSPC, EDQUOT, EOPNOTSUPP);
	must_fail(posix_fallocate(tmp, 0, 4L * MOST) ? -1 : 0);
	copy = open("/work/b", O_CREAT | O_RDWR, 0600);
	must(copy < 0 || copy_file_range(work, &(off_t){0}, copy, NULL, MOST, 0) <= SLACK, "a copy");
	sum = 0;
	for (int i = 0; i < 100 && sum <= MOST; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/var/tmp/%d", i);
		int fd = open(path, O_CREAT | O_WRONLY, 0600);
		sum += fd < 0 ? 0 : fill(fd);
	}
	must(sum <= SLACK, "%ld KiB elsewhere", sum >> 10);
	return finish();
}
