/*
 * Tries: a tree as deep as it can get, which whoever removes it must survive.
 * Must: be bounded by --inodes, and be removed without harm to the next job.
 * Stopped by: the inode limit; removal that holds no fd and no stack for each level.
 * Without it: a hundred times the inodes: "BROKEN: 20000 levels"; they were removed all the same.
 */
// flags: --disk 16M --inodes 3000
#include <sys/stat.h>

#include "attack.h"

int main(void)
{
	int depth = 0;
	if (chdir("/work") < 0)
		return 98;
	while (depth < 20000 && mkdir("a-directory-whose-name-is-long-enough-to-pass-PATH_MAX-early", 0700) == 0 && chdir("a-directory-whose-name-is-long-enough-to-pass-PATH_MAX-early") == 0)
		depth++;
	must(depth <= 3000, "%d levels", depth);
	chmod(".", 0);
	return finish();
}
