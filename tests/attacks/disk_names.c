/*
 * Tries: long and strange names: 255 bytes of newlines, quotes, bytes that are no UTF-8; paths beyond PATH_MAX.
 * Must: be files like any other, and be removed with the rest.
 * Stopped by: names are bytes to petri, and never part of a command or a line.
 * Without it: (a removal that passes over names above 0x7f) unit/remove_tree/names_of_any_bytes says "Directory not empty", and with a scratch on a disk the
 *   attack had no end within 4 minutes; a tmpfs goes as a whole.
 */
// flags: --inodes 3000
#include <sys/stat.h>

#include "attack.h"

int main(void)
{
	char name[300];
	int made = 0;
	if (chdir("/work") < 0)
		return 98;
	for (int byte = 1; byte < 256; byte++) {
		memset(name, byte, 255);
		name[255] = '\0';
		made += byte != '/' && mkdir(name, 0700) == 0 && symlink("../../../../../../etc", "x") == 0;
		unlink("x");
	}
	memset(name, 'x', 256);
	name[256] = '\0';
	must_fail(mkdir(name, 0700), ENAMETOOLONG);
	must(made == 254, "%d directories of strange names, of 254", made);
	must(mkdir("-rf", 0700) == 0 && symlink("/", "-rf/..\n/") < 0 && symlink("/", "* ; rm -rf $HOME") == 0, "and some that a shell would mind");
	return finish();
}
