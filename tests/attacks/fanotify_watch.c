/*
 * Tries: fanotify as any user may since Linux 5.13 (FAN_REPORT_FID), on the root, /usr and whole filesystems; inotify on what jobs share,
 * to see itself being told of an access made by its own other view of the file only.
 * Must: be refused with EPERM, or the job ends by violation.
 * Stopped by: the policies. (Two jobs beside each other, with inotify and locks: tests/integration/test_isolation.py.)
 * Without it: (policies that allow everything) "BROKEN: fanotify_init(0x200)", "/: went through".
 */
// expect judge: violation fanotify_init
#include <sys/fanotify.h>
#include <sys/syscall.h>

#include "reach.h"

int main(void)
{
	static const unsigned classes[] = {0x200 /* FAN_REPORT_FID */, 0xe00 /* and names */, FAN_CLASS_NOTIF, FAN_CLASS_CONTENT,
		FAN_CLASS_PRE_CONTENT, FAN_CLASS_NOTIF | FAN_UNLIMITED_QUEUE, 0x80 /* FAN_REPORT_PIDFD */};
	static const char *const paths[] = {"/", "/usr", "/work", "/proc/1"};
	held("nothing yet");
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		int fd = (int)syscall(SYS_fanotify_init, classes[i], O_RDONLY);
		must(fd < 0 && errno == EPERM, "fanotify_init(%#x)", classes[i]);
		for (size_t j = 0; j < sizeof(paths) / sizeof(paths[0]); j++)
			for (unsigned mark = 0; mark <= 0x100; mark += 0x80) /* inode, mount-ish, filesystem */
				must_fail_as(paths[j], syscall(SYS_fanotify_mark, fd, FAN_MARK_ADD | mark, (unsigned long)FAN_OPEN, AT_FDCWD, paths[j]), EPERM);
	}
	return finish();
}
