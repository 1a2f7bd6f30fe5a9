/*
 * Tries: to open the host's files by file handles: name_to_handle_at on the root, its parent, the places and /usr; then
 * open_by_handle_at with these, with that of inode 2 (the root of an ext4), 64 and 128 (of an XFS), by fds of every mount.
 * Must: be refused: name_to_handle_at by policy, open_by_handle_at with EPERM, or the job ends by violation.
 * Stopped by: the policies; beneath them CAP_DAC_READ_SEARCH of the host's, which nothing in a sandbox has.
 * Without it: (policies that allow everything) "BROKEN: /work: went through", name_to_handle_at; open_by_handle_at stays EPERM, in
 * default, and judge ends otherwise.
 */
// expect judge: violation open_by_handle_at
#include "reach.h"

#include <sys/syscall.h>

struct handle {
	unsigned bytes;
	int type;
	unsigned char data[128];
};

int main(void)
{
	static const char *const paths[] = {"/", "/..", "/work", "/work/..", "/tmp", "/dev/shm", "/usr", "/proc", "/dev/null",
		"/etc/passwd"};
	struct handle got = {0};
	int id;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		got.bytes = sizeof(got.data);
		must_fail_as(paths[i], syscall(SYS_name_to_handle_at, AT_FDCWD, paths[i], &got, &id, 0), EPERM, EOPNOTSUPP, ENOENT);
	}
	static const unsigned inodes[] = {2, 64, 128, 256, 1, 5};
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		int mount = open(paths[i], O_RDONLY);
		for (size_t j = 0; mount >= 0 && j < sizeof(inodes) / sizeof(inodes[0]); j++)
			for (int type = 1; type <= 2; type++) {
				struct handle made = {8, type, {0}};
				memcpy(made.data, &inodes[j], sizeof(inodes[j]));
				char what[64];
				(void)snprintf(what, sizeof(what), "%s, inode %u, type %d", paths[i], inodes[j], type);
				must_fail_as(what, syscall(SYS_open_by_handle_at, mount, &made, O_RDONLY), EPERM);
			}
		if (mount >= 0)
			(void)close(mount);
	}
	return finish();
}
