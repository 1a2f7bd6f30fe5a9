/*
 * Tries: to get past comparisons of arguments: values in the bits that the kernel cuts off, for ioctl, personality, mknod, renameat2,
 * fcntl, socketpair and prctl; values that mean the same; and pointers whose target a second thread changes meanwhile.
 * Must: be refused as the plain values are.
 * Stopped by: every rule on an int compares its low 32 bits only, and no rule looks through a pointer.
 * Without it: (policies and fixed filter that allow everything) 96 BROKEN, of which "personality: went through" and "no whiteout
 * was made"; the ioctls only changed their errno.
 */
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "reach.h"

static const unsigned long highs[] = {0, 0x100000000UL, 0xffffffff00000000UL, 0x8000000000000000UL, 0xdead000000000000UL};
#define HIGHS (sizeof(highs) / sizeof(highs[0]))
#define TIOCLINUX_ 0x541c
#define TIOCSTI_ 0x5412
#define F_SET_RW_HINT_ 1036
#define F_SET_FILE_RW_HINT_ 1038

static void ioctls(int file, unsigned long high)
{
	struct fsxattr project = {.fsx_projid = 1};
	long flags = 0x10;
	must_fail(syscall(SYS_ioctl, file, high | FS_IOC_FSSETXATTR, &project), EPERM);
	must_fail(syscall(SYS_ioctl, file, high | FS_IOC_SETFLAGS, &flags), EPERM);
	must_fail(syscall(SYS_ioctl, 0, high | TIOCSTI_, "x"), EPERM);
	must_fail(syscall(SYS_ioctl, 0, high | TIOCLINUX_, "\3"), EPERM);
	must_fail(syscall(SYS_ioctl, high | (unsigned)file, FS_IOC_SETFLAGS, &flags), EPERM);
}

static void personalities(unsigned long high)
{
	static const unsigned long values[] = {ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, ADDR_COMPAT_LAYOUT, SHORT_INODE,
		PER_LINUX32_3GB,
		UNAME26 | ADDR_NO_RANDOMIZE, 0x7fffffff, 0xfffffffe};
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		must_fail_as("personality", syscall(SYS_personality, high | values[i]), EPERM);
	must(((unsigned)syscall(SYS_personality, 0xffffffffUL) & (ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC)) == 0, "the personality is plain");
}

static void others(int file, unsigned long high)
{
	must_fail(syscall(SYS_mknodat, AT_FDCWD, "/work/w", high | S_IFCHR, 0), EPERM);
	must_fail(syscall(SYS_mknodat, AT_FDCWD, "/work/w", high | S_IFBLK | 0xffff0fff, 0), EPERM);
	must_fail(syscall(SYS_renameat2, AT_FDCWD, "/work/f", AT_FDCWD, "/work/w", high | 4 /* RENAME_WHITEOUT */), EINVAL);
	must_fail(syscall(SYS_renameat2, AT_FDCWD, "/work/f", AT_FDCWD, "/work/w", high | 5), EINVAL);
	unsigned long hint = 2;
	must_fail(syscall(SYS_fcntl, file, high | F_SET_RW_HINT_, &hint), ENOSYS);
	must_fail(syscall(SYS_fcntl, file, high | F_SET_FILE_RW_HINT_, &hint), ENOSYS);
	int pair[2];
	must_fail(syscall(SYS_socketpair, high | AF_TIPC, SOCK_STREAM, 0, pair), EAFNOSUPPORT, EACCES, EPERM);
	must_fail(syscall(SYS_restart_syscall), EINTR); /* nothing was interrupted */
	must_fail(syscall(SYS_prctl, high | PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
	must_fail(syscall(SYS_clone, high | 0x8000000000UL | 0x200000000UL, 0, 0, 0, 0, 0) == 0 ? (_exit(0), 0L) : -1L);
}

int main(void)
{
	int file = open("/work/f", O_RDWR | O_CREAT, 0644);
	for (size_t i = 0; i < HIGHS; i++) {
		ioctls(file, highs[i]);
		personalities(highs[i]);
		others(file, highs[i]);
	}
	struct stat st;
	must(stat("/work/w", &st) < 0, "no whiteout was made");
	return finish();
}
