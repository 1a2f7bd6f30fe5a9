/*
 * calls NAME...: make each system call, raw, with arguments that would do harm or at least work if it were allowed, and
 * print "NAME ok" or "NAME ERRNO". calls --list: the names. What a policy calls a violation does not return.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define HIGH 0xdead000000000000UL /* bits that the kernel ignores in an int argument, and a filter must too */

static char zeros[256], path[] = "/work/x", dir[] = "/work", fs[] = "tmpfs", hostname[] = "owned";
static struct clone_args new_user = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
static struct clone_args plain = {.exit_signal = SIGCHLD};
static struct iovec iov = {zeros, 8};
static struct fsxattr project = {.fsx_xflags = FS_XFLAG_PROJINHERIT, .fsx_projid = 7};
static unsigned long flags_value = 0x10; /* FS_IMMUTABLE_FL */

#define DEV(major, minor) ((major) << 8 | (minor))
#define P(x) ((unsigned long)(x))
static const struct call {
	const char *name;
	long nr;
	unsigned long arg[6];
} calls[] = {
	/* mounts and namespaces */
	{"mount", SYS_mount, {P(fs), P(dir), P(fs), 0, 0}},
	{"umount2", SYS_umount2, {P("/proc"), 2}},
	{"pivot_root", SYS_pivot_root, {P("."), P(".")}},
	{"chroot", SYS_chroot, {P(dir)}},
	{"unshare", SYS_unshare, {CLONE_NEWUSER}},
	{"unshare_ns", SYS_unshare, {CLONE_NEWNS}},
	{"setns", SYS_setns, {0, 0}},
	{"open_tree", SYS_open_tree, {P(AT_FDCWD), P("/"), 1}},
	{"move_mount", SYS_move_mount, {P(AT_FDCWD), P("/usr"), P(AT_FDCWD), P(dir), 0}},
	{"fsopen", SYS_fsopen, {P(fs), 0}},
	{"fsmount", SYS_fsmount, {0, 0, 0}},
	{"fsconfig", SYS_fsconfig, {0, 0, 0, 0, 0}},
	{"fspick", SYS_fspick, {P(AT_FDCWD), P("/"), 0}},
	{"mount_setattr", SYS_mount_setattr, {P(AT_FDCWD), P("/usr"), 0, P(zeros), 32}},
	{"clone_newuser", SYS_clone, {CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0}},
	{"clone_newuser_high", SYS_clone, {HIGH | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0}},
	{"clone_newns", SYS_clone, {CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0}},
	{"clone_newnet", SYS_clone, {CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0}},
	{"clone3", SYS_clone3, {P(&plain), sizeof(plain)}},
	{"clone3_newuser", SYS_clone3, {P(&new_user), sizeof(new_user)}},
	/* other processes */
	{"ptrace", SYS_ptrace, {PTRACE_ATTACH, 1, 0, 0}},
	{"ptrace_traceme", SYS_ptrace, {PTRACE_TRACEME, 0, 0, 0}},
	{"process_vm_readv", SYS_process_vm_readv, {1, P(&iov), 1, P(&iov), 1, 0}},
	{"process_vm_writev", SYS_process_vm_writev, {1, P(&iov), 1, P(&iov), 1, 0}},
	{"kcmp", SYS_kcmp, {1, 1, 0, 0, 0}},
	{"kill_init", SYS_kill, {1, SIGKILL}},
	{"prlimit_init", SYS_prlimit64, {1, 7, 0, P(zeros)}},
	{"sched_setaffinity_init", SYS_sched_setaffinity, {1, 8, P(zeros)}},
	/* the kernel */
	{"bpf", SYS_bpf, {0, P(zeros), sizeof(zeros)}},
	{"keyctl", SYS_keyctl, {0, P(-3L), 1}},
	{"add_key", SYS_add_key, {P("user"), P("x"), P("x"), 1, P(-3L)}},
	{"request_key", SYS_request_key, {P("user"), P("x"), 0, P(-3L)}},
	{"io_uring_setup", SYS_io_uring_setup, {1, P(zeros)}},
	{"io_uring_enter", SYS_io_uring_enter, {0, 0, 0, 0, 0}},
	{"io_uring_register", SYS_io_uring_register, {0, 0, 0, 0}},
	{"perf_event_open", SYS_perf_event_open, {P(zeros), 0, P(-1L), P(-1L), 0}},
	{"userfaultfd", SYS_userfaultfd, {0}},
	{"init_module", SYS_init_module, {P(zeros), 8, P("")}},
	{"finit_module", SYS_finit_module, {0, P(""), 0}},
	{"delete_module", SYS_delete_module, {P("x"), 0}},
	{"kexec_load", SYS_kexec_load, {0, 0, 0, 0}},
	{"open_by_handle_at", SYS_open_by_handle_at, {P(AT_FDCWD), P(zeros), 0}},
	{"fanotify_init", SYS_fanotify_init, {0, 0}},
	{"syslog", SYS_syslog, {3, P(zeros), 16}},
	{"seccomp", SYS_seccomp, {1, 0, P(zeros)}},
	{"prctl_seccomp", SYS_prctl, {PR_SET_SECCOMP, 2, P(zeros), 0, 0}},
	{"personality", SYS_personality, {ADDR_NO_RANDOMIZE}},
	/* the machine */
	{"reboot", SYS_reboot, {0xfee1dead, 672274793, 0, 0}},
	{"sethostname", SYS_sethostname, {P(hostname), 5}},
	{"settimeofday", SYS_settimeofday, {P(zeros), 0}},
	{"clock_settime", SYS_clock_settime, {0, P(zeros)}},
	{"swapon", SYS_swapon, {P(path), 0}},
	{"acct", SYS_acct, {P(path)}},
	{"quotactl", SYS_quotactl, {0x800002, 0, 0, 0}},
	/* sockets */
	{"socket_unix", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
	{"socket_inet", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
	{"socket_inet6", SYS_socket, {AF_INET6, SOCK_STREAM, 0}},
	{"socket_udp", SYS_socket, {AF_INET, SOCK_DGRAM, 0}},
	{"socket_raw", SYS_socket, {AF_INET, SOCK_RAW, 1}},
	{"socket_netlink", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}},
	{"socket_packet", SYS_socket, {AF_PACKET, SOCK_RAW, 0x300}},
	{"socket_packet_high", SYS_socket, {HIGH | AF_PACKET, SOCK_RAW, 0x300}},
	{"socket_alg", SYS_socket, {AF_ALG, SOCK_SEQPACKET, 0}},
	{"socket_vsock", SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}},
	/* files and devices; descriptor 3 is a file in /work */
	{"fssetxattr", SYS_ioctl, {3, FS_IOC_FSSETXATTR, P(&project)}},
	{"fssetxattr_high", SYS_ioctl, {3, HIGH | FS_IOC_FSSETXATTR, P(&project)}},
	{"setflags", SYS_ioctl, {3, FS_IOC_SETFLAGS, P(&flags_value)}},
	{"setflags_high", SYS_ioctl, {3, HIGH | FS_IOC_SETFLAGS, P(&flags_value)}},
	{"tiocsti", SYS_ioctl, {0, TIOCSTI, P("x")}},
	{"tiocsti_high", SYS_ioctl, {0, HIGH | TIOCSTI, P("x")}},
	{"mknod_block", SYS_mknodat, {P(AT_FDCWD), P("/work/disk"), S_IFBLK | 0666, DEV(8, 0)}},
	{"mknod_char", SYS_mknodat, {P(AT_FDCWD), P("/work/null"), S_IFCHR | 0666, DEV(1, 3)}},
	{"mknod_whiteout", SYS_mknodat, {P(AT_FDCWD), P("/work/wh"), S_IFCHR, 0}},
	{"rename_whiteout", SYS_renameat2, {P(AT_FDCWD), P(path), P(AT_FDCWD), P("/work/y"), 4}},
	{"setxattr", SYS_setxattr, {P(path), P("user.overlay.opaque"), P("y"), 1, 0}},
	{"setxattr_trusted", SYS_setxattr, {P(path), P("trusted.overlay.opaque"), P("y"), 1, 0}},
	{"chown_root", SYS_fchownat, {P(AT_FDCWD), P(path), 0, 0, 0}},
	/* ids */
	{"setuid", SYS_setuid, {0}},
	{"setgid", SYS_setgid, {0}},
	{"setgroups", SYS_setgroups, {1, P(zeros)}},
	{"setuid_init", SYS_setuid, {65533}},
	{"nice", SYS_setpriority, {0, 0, P(-5L)}},
#if defined(__x86_64__)
	{"iopl", SYS_iopl, {3}},
	{"ioperm", SYS_ioperm, {0x70, 1, 1}},
	{"clone_x32", 0x40000000 | SYS_clone, {CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0}},
	{"getpid_x32", 0x40000000 | SYS_getpid, {0}},
	{"execve_x32", 0x40000000 | 520, {P("/bin/true"), 0, 0}},
#endif
};

#if defined(__x86_64__)
/* The 32-bit system call table, which is open to 64-bit programs: getpid is 20, mount 21. */
static long int80(long nr)
{
	long ret;
	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "a"(nr), "b"(0), "c"(0), "d"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return ret;
}
#endif

static void say(const char *name, long ret)
{
	if (ret == -1)
		printf("%s %d\n", name, errno);
	else
		printf("%s ok\n", name);
	fflush(stdout);
}

static void one(const char *name)
{
#if defined(__x86_64__)
	if (strcmp(name, "int80_getpid") == 0 || strcmp(name, "int80_mount") == 0) {
		long ret = int80(strcmp(name, "int80_mount") == 0 ? 21 : 20);
		errno = ret < 0 ? (int)-ret : 0;
		say(name, ret < 0 ? -1 : 0);
		return;
	}
#endif
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		const unsigned long *a = calls[i].arg;
		if (strcmp(calls[i].name, name) != 0)
			continue;
		pid_t self = getpid();
		long ret = syscall(calls[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		if (ret == 0 && getpid() != self)
			_exit(0); /* the child of a clone */
		say(name, ret);
		return;
	}
	printf("%s unknown\n", name);
}

int main(int argc, char **argv)
{
	int fd = open(path, O_RDWR | O_CREAT, 0644);
	if (argc == 2 && strcmp(argv[1], "--list") == 0) {
		for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
			puts(calls[i].name);
		return 0;
	}
	if (fd >= 0 && fd != 3 && dup2(fd, 3) < 0)
		return 2;
	for (int i = 1; i < argc; i++)
		one(argv[i]);
	return 0;
}
