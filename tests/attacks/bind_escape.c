/*
 * Tries: to get above the root of a bind mount: /work, /tmp and /dev/shm show directories of filesystems whose roots no job may see, and
 * a directory that is renamed out of the shown part takes along whoever stands in it, whose ".." then leads outside. Also by hard
 * links and exchanges between the places, and by an fd kept across a rename.
 * Must: fail with EXDEV, and ".." must end at the job's root.
 * Stopped by: every place being a mount of its own, which rename and link do not cross.
 * Without it: (/work and /tmp not mounts of their own) 22 BROKEN, as "rename /tmp/outer/inner to /work/taken: failed, but not as
 * it should"; (the old root not unmounted) ".. from /work/outer/inner after these".
 */
#include "reach.h"

#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

static const char *const places[] = {"/work", "/tmp", "/dev/shm"};

static bool at_root(void)
{
	struct stat root, here;
	for (int i = 0; i < 8; i++)
		if (chdir("..") < 0)
			return false;
	return stat("/", &root) == 0 && stat(".", &here) == 0 && root.st_dev == here.st_dev && root.st_ino == here.st_ino;
}

static void between(const char *from, const char *to)
{
	char dir[32], inner[48], target[64], file[64], other[64], what[160];
	(void)snprintf(dir, sizeof(dir), "%s/outer", from);
	(void)snprintf(inner, sizeof(inner), "%s/inner", dir);
	(void)snprintf(target, sizeof(target), "%s/taken", to);
	(void)snprintf(file, sizeof(file), "%s/file", from);
	(void)snprintf(other, sizeof(other), "%s/file", to);
	if (mkdir(dir, 0755) < 0 || mkdir(inner, 0755) < 0 || mkdir(target, 0755) < 0)
		broken("cannot prepare: %s", strerror(errno));
	(void)close(open(file, O_WRONLY | O_CREAT, 0644));
	int kept = open(inner, O_PATH | O_DIRECTORY);
	(void)!chdir(inner);
	(void)snprintf(what, sizeof(what), "rename %s to %s", inner, target);
	must_fail_as(what, rename(inner, target), EXDEV);
	(void)snprintf(what, sizeof(what), "rename %s to %s", dir, target);
	must_fail_as(what, rename(dir, target), EXDEV);
	(void)snprintf(what, sizeof(what), "exchange %s and %s", inner, target);
	must_fail_as(what, syscall(SYS_renameat2, AT_FDCWD, inner, AT_FDCWD, target, RENAME_EXCHANGE), EXDEV);
	(void)snprintf(what, sizeof(what), "link %s to %s", file, other);
	must_fail_as(what, link(file, other), EXDEV);
	must(at_root(), ".. from %s after these", inner);
	must(fchdir(kept) == 0 && at_root(), ".. from an fd of %s", inner);
	(void)close(kept);
	(void)unlink(file);
	(void)rmdir(target);
	(void)rmdir(inner);
	(void)rmdir(dir);
}

/* The mount points themselves, which are names in the root. */
static void mount_points(const char *place)
{
	char what[160];
	(void)snprintf(what, sizeof(what), "rename %s", place);
	must_fail_as(what, rename(place, "/work/x"), EBUSY, EXDEV, EACCES, EPERM, EROFS, EINVAL);
	(void)snprintf(what, sizeof(what), "remove %s", place);
	must_fail_as(what, rmdir(place), EBUSY, EACCES, EPERM, EROFS, ENOTEMPTY);
}

int main(void)
{
	for (size_t i = 0; i < 3; i++)
		for (size_t j = 0; j < 3; j++)
			if (i != j)
				between(places[i], places[j]);
	for (size_t i = 0; i < 3; i++)
		mount_points(places[i]);
	return finish();
}
