#include "policies_util.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

static const unsigned long long high = 1ULL << 32;
static const unsigned long long all_high = ~0ULL << 32;

static void all(const struct policy_program *p, const char *const *names, unsigned answer)
{
	for (; *names; names++) {
		if (policy_syscall_number(*names) < 0)
			continue; /* not on this architecture, or newer than libseccomp */
		unsigned got = try0(p, *names);
		cr_assert_eq(got, answer, "%s: %#x instead of %#x", *names, got, answer);
		const unsigned long long ones[6] = {~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL};
		got = policy_evaluate(p, number(*names), seccomp_arch_native(), ones);
		cr_assert_eq(got, answer, "%s(~0): %#x instead of %#x", *names, got, answer);
	}
}

/* What compilers and programs need, whatever the arguments. */
static const char *const needed[] = {"read", "write", "open", "openat", "openat2", "close", "stat", "newfstatat",
	"statx", "lseek", "mmap", "mprotect", "munmap", "mremap", "madvise", "brk", "rt_sigaction", "rt_sigprocmask",
	"rt_sigreturn", "sigaltstack", "pread64", "pwrite64", "readv", "writev", "access", "faccessat2", "pipe", "pipe2",
	"dup", "dup2", "dup3", "fcntl", "getdents64", "getcwd", "chdir", "rename", "renameat", "mkdir", "unlink",
	"unlinkat", "symlink", "readlink", "readlinkat", "chmod", "fchmod", "ftruncate", "fallocate", "copy_file_range",
	"memfd_create", "futex", "set_robust_list", "rseq", "membarrier", "getrandom", "sched_yield", "sched_getaffinity",
	"sched_setaffinity", "clock_gettime", "clock_nanosleep", "nanosleep", "timer_create", "timerfd_create", "eventfd2",
	"signalfd4", "epoll_create1", "epoll_ctl", "epoll_pwait", "poll", "ppoll", "select", "pselect6", "fork", "vfork",
	"execve", "execveat", "wait4", "waitid", "exit", "exit_group", "kill", "tgkill", "pidfd_open", "getpid", "gettid",
	"getuid", "setsid", "setpgid", "sysinfo", "uname", "getrusage", "times", "prlimit64", "arch_prctl", "shmget",
	"shmat", "semop", "msgget", "mq_open", "recvmsg", "recvfrom", "getsockname", "utimensat", "umask", NULL};

/* What only an attack calls. */
static const char *const hostile[] = {"mount", "umount2", "mount_setattr", "fsopen", "fsmount", "fsconfig", "fspick",
	"move_mount", "open_tree", "pivot_root", "chroot", "unshare", "setns", "ptrace", "process_vm_readv",
	"process_vm_writev", "bpf", "keyctl", "add_key", "request_key", "perf_event_open", "userfaultfd", "kexec_load",
	"kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff", "acct",
	"quotactl", "quotactl_fd", "open_by_handle_at", "fanotify_init", "lookup_dcookie", "iopl", "ioperm", "settimeofday",
	"clock_settime", "sethostname", "setdomainname", "nfsservctl", "syslog", "vhangup", "pidfd_getfd", "kcmp", NULL};

/* As if they did not exist: libraries probe them, and fall back. */
static const char *const absent[] = {"clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "modify_ldt",
	"uselib", "ustat", "_sysctl", "statmount", "lsm_set_self_attr", NULL};

Test(policies_shipped, judge_calls)
{
	struct policy_program p = compile_named("judge");
	static const char *const sockets[] = {"bind", "connect", "listen", "accept", "accept4", "sendmsg", "sendmmsg",
		"recvmmsg", "setsockopt", NULL};
	static const char *const numa[] = {"mbind", "get_mempolicy", "set_mempolicy", "move_pages", "file_setattr", NULL};
	static const char *const xattrs[] = {"setxattr", "lsetxattr", "fsetxattr", "removexattr", "setxattrat", NULL};
	static const char *const nothing[] = {"sync", "syncfs", NULL};
	static const char *const beyond[] = {"seccomp", "inotify_init1", "io_setup", "vmsplice", "memfd_secret",
		"landlock_restrict_self", NULL};
	all(&p, needed, ALLOW);
	all(&p, hostile, VIOLATION);
	all(&p, absent, ERRNO(ENOSYS));
	all(&p, beyond, ERRNO(ENOSYS));
	all(&p, sockets, ERRNO(EACCES));
	all(&p, numa, ERRNO(EPERM));
	all(&p, xattrs, ERRNO(ENOTSUP));
	all(&p, nothing, ERRNO(0));
	const unsigned long long args[6] = {0};
	for (int nr = 470; nr < 2000; nr++)
		cr_assert_eq(policy_evaluate(&p, nr, seccomp_arch_native(), args), ERRNO(ENOSYS), "unknown call %d", nr);
	cr_assert(p.notifies && !p.allows_sockets && p.allows_launch);
	policy_program_free(&p);
}

Test(policies_shipped, judge_sockets)
{
	struct policy_program p = compile_named("judge");
	for (unsigned family = 0; family < 50; family++) {
		for (unsigned type = 0; type < 16; type++) {
			bool java = (family == AF_INET || family == AF_INET6) && type == SOCK_STREAM;
			unsigned want = family == AF_UNIX ? ERRNO(EACCES) : java ? ERRNO(EAFNOSUPPORT)
										 : VIOLATION;
			cr_assert_eq(try3(&p, "socket", family, type, 0), want);
			cr_assert_eq(try3(&p, "socket", family | high, type | all_high, 0), want);
			cr_assert_eq(try3(&p, "socket", family, type | SOCK_CLOEXEC, 0), java ? VIOLATION : want);
			cr_assert_eq(try3(&p, "socket", family, type, 6), java ? VIOLATION : want);
			want = family == AF_UNIX && type == SOCK_STREAM ? ALLOW : ERRNO(EACCES);
			cr_assert_eq(try3(&p, "socketpair", family, type, 0), want);
			cr_assert_eq(try3(&p, "socketpair", family | high, type | all_high, 0), want);
			cr_assert_eq(try3(&p, "socketpair", family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), want);
		}
	}
	unsigned long long send[6] = {3, 4096, 1, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0};
	cr_assert_eq(policy_evaluate(&p, number("sendto"), seccomp_arch_native(), send), ALLOW);
	send[3] = MSG_OOB;
	cr_assert_eq(policy_evaluate(&p, number("sendto"), seccomp_arch_native(), send), ERRNO(EACCES));
	send[3] = MSG_OOB | high;
	cr_assert_eq(policy_evaluate(&p, number("sendto"), seccomp_arch_native(), send), ERRNO(EACCES));
	send[3] = 0;
	send[4] = high;
	cr_assert_eq(policy_evaluate(&p, number("sendto"), seccomp_arch_native(), send), ERRNO(EACCES), "an address");
	policy_program_free(&p);
}

/* Both profiles differ in the answer to namespaces only. */
static void check_arguments(const char *name, unsigned namespaces)
{
	struct policy_program p = compile_named(name);
	static const unsigned new_flags[] = {0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000};
	cr_assert_eq(try3(&p, "clone", 0x1200011, 0, 0), ALLOW, "fork");
	cr_assert_eq(try3(&p, "clone", 0x3d0f00, 0, 0), ALLOW, "thread");
	for (size_t i = 0; i < ARRAY_SIZE(new_flags); i++) {
		cr_assert_eq(try3(&p, "clone", new_flags[i], 0, 0), namespaces);
		cr_assert_eq(try3(&p, "clone", new_flags[i] | 0x3d0f00 | all_high, 0, 0), namespaces);
	}
	static const unsigned ioctls[] = {0x401c5820, 0x40086602, 0x5412, 0x541c};
	for (size_t i = 0; i < ARRAY_SIZE(ioctls); i++) {
		cr_assert_eq(try3(&p, "ioctl", 0, ioctls[i], 0), ERRNO(EPERM));
		cr_assert_eq(try3(&p, "ioctl", 0, ioctls[i] | high, 0), ERRNO(EPERM));
		cr_assert_eq(try3(&p, "ioctl", 0, ioctls[i] | all_high, 0), ERRNO(EPERM));
	}
	cr_assert_eq(try3(&p, "ioctl", 0, 0x5401, 0), ALLOW, "TCGETS");
	static const unsigned personalities[] = {0, 8, 0x20000, 0x20008, 0xffffffff};
	for (size_t i = 0; i < ARRAY_SIZE(personalities); i++)
		cr_assert_eq(try3(&p, "personality", personalities[i], 0, 0), ALLOW);
	cr_assert_eq(try3(&p, "personality", 0x0400000, 0, 0), ERRNO(EPERM), "READ_IMPLIES_EXEC");
	cr_assert_eq(try3(&p, "personality", 0x0040000 | high, 0, 0), ERRNO(EPERM), "ADDR_NO_RANDOMIZE");
	cr_assert_eq(try3(&p, "mknodat", 0, 0, S_IFIFO | 0600), ALLOW);
	cr_assert_eq(try3(&p, "mknodat", 0, 0, S_IFCHR | 0600), ERRNO(EPERM));
	cr_assert_eq(try3(&p, "mknodat", 0, 0, S_IFBLK | 0600 | high), ERRNO(EPERM));
	unsigned long long rename[6] = {0, 0, 0, 0, 1, 0};
	cr_assert_eq(policy_evaluate(&p, number("renameat2"), seccomp_arch_native(), rename), ALLOW);
	rename[4] = 4 | high; /* RENAME_WHITEOUT */
	cr_assert_eq(policy_evaluate(&p, number("renameat2"), seccomp_arch_native(), rename), ERRNO(EINVAL));
	policy_program_free(&p);
}

Test(policies_shipped, judge_arguments)
{
	check_arguments("judge", VIOLATION);
	struct policy_program p = compile_named("judge");
	cr_assert_eq(try3(&p, "prctl", 22, 2, 0), ERRNO(EINVAL), "PR_SET_SECCOMP");
	cr_assert_eq(try3(&p, "prctl", 22 | high, 2, 0), ERRNO(EINVAL));
	cr_assert_eq(try3(&p, "prctl", 15, 0, 0), ALLOW, "PR_SET_NAME");
	policy_program_free(&p);
}

Test(policies_shipped, default_arguments)
{
	check_arguments("default", ERRNO(EPERM));
}

Test(policies_shipped, default_calls)
{
	struct policy_program p = compile_named("default");
	static const char *const more[] = {"bind", "connect", "listen", "accept4", "sendto", "sendmsg", "setsockopt",
		"inotify_init1", "setxattr", "prctl", NULL};
	static const char *const counted[] = {"io_setup", "io_submit", "io_getevents", NULL}; /* for the whole machine */
	all(&p, needed, ALLOW);
	all(&p, more, ALLOW);
	all(&p, counted, ERRNO(ENOSYS));
	all(&p, hostile, ERRNO(EPERM));
	all(&p, absent, ERRNO(ENOSYS));
	static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
	for (unsigned long long family = 0; family < 50; family++) {
		bool ok = false;
		for (size_t i = 0; i < ARRAY_SIZE(families); i++)
			ok = ok || family == (unsigned)families[i];
		cr_assert_eq(try3(&p, "socket", family, SOCK_DGRAM | SOCK_CLOEXEC, 0), ok ? ALLOW : ERRNO(EAFNOSUPPORT), "%llu", family);
		cr_assert_eq(try3(&p, "socket", family | high, 1, 0), ok ? ALLOW : ERRNO(EAFNOSUPPORT), "%llu", family);
		cr_assert_eq(try3(&p, "socketpair", family, 1, 0), family == AF_UNIX ? ALLOW : ERRNO(EAFNOSUPPORT));
	}
	cr_assert_eq(try3(&p, "socket", AF_NETLINK, SOCK_RAW, 12), ERRNO(EAFNOSUPPORT), "NETLINK_NETFILTER");
	/* TCP and datagrams, and nothing for which the kernel would load a module. */
	for (unsigned i = 0; i < 2; i++)
		for (unsigned long long type = 0; type < 16; type++)
			for (unsigned long long protocol = 0; protocol < 300; protocol++) {
				unsigned long long family = i ? AF_INET6 : AF_INET;
				bool ok = (type == SOCK_STREAM && (protocol == 0 || protocol == 6)) ||
					(type == SOCK_DGRAM && (protocol == 0 || protocol == 17));
				cr_assert_eq(try3(&p, "socket", high | family, high | SOCK_NONBLOCK | type, high | protocol), ok ? ALLOW : ERRNO(EAFNOSUPPORT),
					"%llu %llu %llu", family, type, protocol);
			}
	for (unsigned long long option = 1; option < 80; option++) {
		bool filter = option == 26 || (option >= 50 && option <= 52); /* SO_ATTACH_* */
		cr_assert_eq(try3(&p, "setsockopt", 3, high | 1, high | option), filter ? ERRNO(EPERM) : ALLOW, "%llu", option);
		cr_assert_eq(try3(&p, "setsockopt", 3, 6, option), ALLOW, "%llu of TCP", option);
	}
	for (unsigned long long flags = 0; flags < 64; flags++)
		cr_assert_eq(try3(&p, "seccomp", 1, flags, 0), flags & 8 ? ERRNO(EINVAL) : ALLOW, "%llu", flags);
	cr_assert(!p.notifies && p.allows_sockets && p.allows_launch);
	policy_program_free(&p);
}

Test(policies_shipped, default_allows_what_judge_allows)
{
	struct policy_program judge = compile_named("judge"), def = compile_named("default");
	static const unsigned long long patterns[][6] = {{0}, {1, 1, 1, 1, 1, 1}, {~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL},
		{16, 2, 3, 4, 5, 6}, {3, 0x5401, 0, 0, 0, 0}};
	for (int nr = 0; nr < 600; nr++)
		for (size_t i = 0; i < ARRAY_SIZE(patterns); i++)
			if (policy_evaluate(&judge, nr, seccomp_arch_native(), patterns[i]) == ALLOW)
				cr_assert_eq(policy_evaluate(&def, nr, seccomp_arch_native(), patterns[i]), ALLOW, "call %d", nr);
	policy_program_free(&judge);
	policy_program_free(&def);
}

Test(policies_shipped, names)
{
	const char *const *names = policy_builtin();
	cr_assert_str_eq(names[0], "judge");
	cr_assert_str_eq(names[1], "default");
	cr_assert_null(names[2]);
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[256];
	_cleanup_free_ char *copy = json(text);
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	cr_assert_eq(fd_write_all(fd, copy, strlen(copy)), 0);
	(void)close(fd);
}

Test(policies_shipped, load_looks_into_directories_first)
{
	char dir[] = "/tmp/petri-test-policies-XXXXXX", path[256];
	cr_assert_not_null(mkdtemp(dir));
	write_file(dir, "judge.json", "{'defaultAction':'SCMP_ACT_LOG'}");
	write_file(dir, "mine.json", "{'defaultAction':'SCMP_ACT_KILL'}");
	write_file(dir, "broken.json", "{'defaultAction':'SCMP_ACT_KILL',}");
	(void)snprintf(path, sizeof(path), "%s/link.json", dir);
	cr_assert_eq(symlink("mine.json", path), 0);
	const char *const dirs[] = {"/nonexistent/policies", dir, NULL};
	struct policy *policy = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(policy_load("mine", dirs, &policy, &err), 0, "%s", err_msg(&err));
	policy_free(policy);
	cr_assert_eq(policy_load("judge", dirs, &policy, &err), 0);
	struct policy_program p = compile_policy(policy);
	cr_assert_eq(try0(&p, "mount"), LOG);
	policy_program_free(&p);
	cr_assert_eq(policy_load("default", dirs, &policy, &err), 0);
	policy_free(policy);
	cr_assert_eq(policy_load("broken", dirs, &policy, &err), -EINVAL);
	cr_assert_not_null(strstr(err.msg, "policy broken: line 1"), "%s", err.msg);
	cr_assert_eq(policy_load("link", dirs, &policy, &err), -ELOOP, "links are not followed");
	cr_assert_eq(policy_load("nothing", dirs, &policy, &err), -ENOENT);
	static const char *const wrong[] = {"", ".", "..", ".hidden", "../judge", "a/b", "a b", "a\n", "caf\xc3\xa9",
		"12345678901234567890123456789012345678901234567890123456789012345"};
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		cr_assert_eq(policy_load(wrong[i], dirs, &policy, &err), -EINVAL, "%s", wrong[i]);
	static const char *const files[] = {"judge.json", "mine.json", "broken.json", "link.json"};
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		(void)unlink(path);
	}
	(void)rmdir(dir);
}
