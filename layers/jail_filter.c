/*
 * The seccomp filter of the store's helpers. A plain table turned into BPF: it allocates nothing and costs
 * microseconds, which matters for a commit, and libseccomp would add only argument comparisons that are not needed.
 * Whatever is not listed kills the helper: that is either an attack or a C library that needs a line here.
 */
#include "layers/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/machine.h"
#include "base/sys.h"

static const int bytes[] = {
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_pread64,
	SYS_pwrite64,
	SYS_sendto, /* over a connected pair: with MSG_NOSIGNAL */
	SYS_lseek,
	SYS_close,
	SYS_fstat,
	SYS_newfstatat, /* how the C library does fstat(3) */
	/* memory and the C library */
	SYS_munmap,
	SYS_mremap,
	SYS_brk,
	SYS_madvise,
	SYS_futex,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_sigaltstack,
	SYS_restart_syscall,
	SYS_sched_yield,
	SYS_getrandom,
	SYS_clock_gettime,
	SYS_gettimeofday,
	SYS_getpid,
	SYS_gettid,
	SYS_getuid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getegid,
	SYS_umask,
	SYS_sysinfo, /* qsort(3) asks for the memory */
	SYS_exit,
	SYS_exit_group,
};

/* All beneath the helper's root directory. A pure helper gets ENOENT: the C library may look for its own files. */
static const int trees[] = {
	SYS_openat,
	SYS_openat2,
	SYS_statx,
	SYS_getdents64,
	SYS_mkdirat,
	SYS_unlinkat,
	SYS_linkat,
	SYS_symlinkat,
	SYS_readlinkat,
#ifdef SYS_renameat
	SYS_renameat,
#endif
	SYS_renameat2,
	SYS_ftruncate,
	SYS_sync_file_range,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_fchown,
	SYS_fchownat,
	SYS_utimensat,
	SYS_fsetxattr, /* user.*, and system.posix_acl_*, for which owning the file is enough; the others take a capability */
	SYS_fgetxattr,
	SYS_flistxattr,
	SYS_fremovexattr,
};

#define DATA(field) ((unsigned)offsetof(struct seccomp_data, field))
#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (at))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
/* Skip the next `n` instructions unless the loaded value is v. */
#define UNLESS(v, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(v), 0, (n))

static size_t add(struct sock_filter *code, size_t n, const int *calls, size_t count, unsigned action)
{
	for (size_t i = 0; i < count; i++) {
		code[n++] = (struct sock_filter)UNLESS(calls[i], 1);
		code[n++] = (struct sock_filter)RETURN(action);
	}
	return n;
}

int jail_filter(bool pure)
{
	/* The low words of arguments: both machines are little-endian. */
	const struct sock_filter head[] = {
		LOAD(DATA(arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE_AUDIT_ARCH, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(DATA(nr)),
		/* Memory that can be executed comes into being only before this filter. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0),
		UNLESS(SYS_mprotect, 4),
		LOAD(DATA(args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		RETURN(SECCOMP_RET_ALLOW),
		/* Of descriptors only their flags and copies: no owner to be signalled, no lock, lease, seal or pipe size. */
		UNLESS(SYS_fcntl, 12),
		LOAD(DATA(args[1])),
		UNLESS(F_GETFD, 1),
		RETURN(SECCOMP_RET_ALLOW),
		UNLESS(F_SETFD, 1),
		RETURN(SECCOMP_RET_ALLOW),
		UNLESS(F_GETFL, 1),
		RETURN(SECCOMP_RET_ALLOW),
		UNLESS(F_SETFL, 1),
		RETURN(SECCOMP_RET_ALLOW),
		UNLESS(F_DUPFD_CLOEXEC, 1),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		/* Of devices only the one that is none, an overlay's whiteout: S_IFCHR without any bit, number 0. */
		UNLESS(SYS_mknodat, 6),
		LOAD(DATA(args[2])),
		UNLESS(S_IFCHR, 3),
		LOAD(DATA(args[3])),
		UNLESS(0, 1),
		RETURN(pure ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_filter code[ARRAY_SIZE(head) + 2 * (ARRAY_SIZE(bytes) + ARRAY_SIZE(trees)) + 1];
	size_t n = 0;
	for (; n < ARRAY_SIZE(head); n++)
		code[n] = head[n];
	n = add(code, n, bytes, ARRAY_SIZE(bytes), SECCOMP_RET_ALLOW);
	n = add(code, n, trees, ARRAY_SIZE(trees), pure ? SECCOMP_RET_ERRNO | ENOENT : SECCOMP_RET_ALLOW);
	code[n++] = (struct sock_filter)RETURN(SECCOMP_RET_KILL_PROCESS);
	struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
	return sys_seccomp(SECCOMP_SET_MODE_FILTER, 0, &program);
}
