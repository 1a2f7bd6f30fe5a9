/*
 * Tries: hard links: many names for one file, whose directory entries are bytes too.
 * Must: be bounded by --inodes or --disk.
 * Stopped by: each link counts as an inode on tmpfs; on a disk the directory's blocks count.
 * Without it: a hundred times the inodes: "BROKEN: 20000 links".
 */
// flags: --disk 1M --inodes 300 --memory 64M
#include <sys/stat.h>

#include "attack.h"

int main(void)
{
	int links = 0;
	if (chdir("/work") < 0 || mknod("one", S_IFREG | 0600, 0) < 0)
		return 98;
	for (char name[200]; links < 20000; links++) {
		snprintf(name, sizeof(name), "%0150d", links);
		if (link("one", name) < 0)
			break;
	}
	must(links < 20000, "%d links: %s", links, strerror(errno));
	must_fail(link("/work/attack", "/usr/attack"), EXDEV, EACCES, EPERM, EROFS, ENOENT);
	return finish();
}
