/*
 * Tries: bytes in extended attributes, of files and directories.
 * Must: be bounded by --disk and --inodes.
 * Stopped by: no attributes under judge; elsewhere the quota or the tmpfs, which counts them as inodes.
 * Without it: neither size nor inodes limited: "BROKEN: 29696 KiB in attributes".
 */
// flags: --disk 1M --inodes 300 --memory 64M

#include <sys/stat.h>
#include <sys/xattr.h>

#include "attack.h"

int main(void)
{
	static char value[32768];
	long sum = 0;
	const char *const kinds[] = {"trusted.x", "security.capability", "system.posix_acl_access", "trusted.overlay.opaque"};
	memset(value, 'x', sizeof(value));
	for (int i = 0; i < 1000; i++) {
		char path[32], name[32];
		snprintf(path, sizeof(path), "/work/%d", i / 4);
		snprintf(name, sizeof(name), "user.%d", i % 4);
		mkdir(path, 0700);
		if (setxattr(path, name, value, sizeof(value), 0) == 0)
			sum += (long)sizeof(value);
	}
	must(sum <= 4 << 20, "%ld KiB in attributes", sum >> 10);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		must_fail_as(kinds[i], setxattr("/work", kinds[i], value, 20, 0), EPERM, EOPNOTSUPP, EINVAL, EACCES, ENOSPC);
	return finish();
}
