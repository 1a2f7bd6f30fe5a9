/*
 * Tries: more files than --inodes: empty files, directories, symlinks, FIFOs and sockets, in /work and /tmp.
 * Must: be refused once --inodes are there.
 * Stopped by: the inode limit of the project quota, or of the tmpfs.
 * Without it: a hundred times the inodes: "BROKEN: 1200 files of 300".
 */
// flags: --disk 4M --inodes 300 --memory 64M
#include <sys/stat.h>

#include "attack.h"

#define MOST 300

static int make(const char *where, int i)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/%d", where, i);
	switch (i % 4) {
	case 0:
		return mknod(path, S_IFREG | 0600, 0);
	case 1:
		return mkdir(path, 0700);
	case 2:
		return symlink("/nowhere/at/all", path);
	default:
		return mkfifo(path, 0600);
	}
}

int main(void)
{
	int made = 0;
	for (int i = 0; i < 4 * MOST; i++)
		made += make(i % 2 ? "/work" : "/tmp", i / 2) == 0;
	must(made > 0 && made <= MOST, "%d files of %d", made, MOST);
	must_fail(make("/work", 4 * MOST), ENOSPC, EDQUOT);
	return finish();
}
