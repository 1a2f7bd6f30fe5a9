/*
 * Tries: the classic escape from a chroot: keep an fd of the root, chroot into a directory below, fchdir back, climb by "..", chroot
 * there. Then the same with a directory moved away under it.
 * Must: be refused with EPERM, or the job ends by violation; and the climb must end at the job's root.
 * Stopped by: chroot by the policies, and beneath them CAP_SYS_CHROOT; the root is pivoted, not chrooted, so there is nothing above it.
 * Without it: (the old root not unmounted) "BROKEN: the climb from a directory that was moved"; (policies that allow everything,
 * and capabilities kept) "chroot(/work/in): went through"; with the capabilities gone judge alone is red, for want of a violation.
 */
// expect judge: violation chroot
#include <sys/stat.h>

#include "reach.h"

static ino_t root_inode;
static dev_t root_device;

static void climb(const char *what)
{
	struct stat st;
	for (int i = 0; i < 64; i++)
		if (chdir("..") < 0)
			break;
	must(stat(".", &st) == 0 && st.st_ino == root_inode && st.st_dev == root_device, "the climb from %s", what);
}

int main(void)
{
	struct stat st;
	if (stat("/", &st) < 0 || mkdir("/work/in", 0755) < 0 || mkdir("/work/in/deep", 0755) < 0)
		return 98;
	root_inode = st.st_ino;
	root_device = st.st_dev;
	int root = open("/", O_RDONLY | O_DIRECTORY), deep = open("/work/in/deep", O_PATH | O_DIRECTORY);
	if (fchdir(deep) == 0 && rename("/work/in/deep", "/work/moved") == 0)
		climb("a directory that was moved");
	if (fchdir(deep) == 0 && rmdir("/work/moved") == 0)
		must(chdir("..") < 0 || (stat(".", &st) == 0 && st.st_dev != 0), "the parent of a directory that is gone");
	if (fchdir(root) == 0)
		climb("an fd of the root");
	must_fail(chroot("/work/in"), EPERM);
	if (fchdir(root) == 0)
		climb("an fd of the root after chroot");
	must_fail(chroot("."), EPERM);
	must_fail(chroot("/proc/1/root"), EPERM, EACCES);
	return finish();
}
