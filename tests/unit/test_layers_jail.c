/* The helper's confinement, tried from inside. */
#include "test_layers_util.h"

#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "layers/jail.h"

struct outside {
	struct fixture f;
	int root;
};

static void outside_open(struct outside *o)
{
	fixture_open(&o->f, false);
	cr_assert_eq(mkdirat(o->f.dirfd, "root", 0755), 0);
	cr_assert_eq(fchownat(o->f.dirfd, "root", STORE_UID_BASE, STORE_UID_BASE, 0), 0);
	o->root = openat(o->f.dirfd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void outside_close(struct outside *o)
{
	close(o->root);
	fixture_close(&o->f);
}

static int run(struct outside *o, int (*fn)(void *, struct jail_report *, struct err *), struct jail_report *report,
	struct err *err)
{
	struct jail jail = {.what = "test", .root = o->root, .isolate = true, .max_file_bytes = 1 << 20, .run = fn};
	return jail_run(&jail, report, err);
}

/* Each returns what it found in `bytes`; 0 is good. */
static int look_around(void *ctx, struct jail_report *report, struct err *err)
{
	struct stat st;
	report->bytes |= getuid() != 0 ? 1 : 0;
	report->bytes |= open("/etc/passwd", O_RDONLY) >= 0 ? 2 : 0;
	report->bytes |= open("../../../etc/passwd", O_RDONLY) >= 0 ? 4 : 0;
	report->bytes |= openat(JAIL_ROOT, "../../etc/passwd", O_RDONLY) >= 0 ? 8 : 0;
	report->bytes |= open("/proc/self/status", O_RDONLY) >= 0 ? 16 : 0;
	/* The root of the tree, in it "..", is the tree. */
	struct stat up;
	report->bytes |= fstatat(JAIL_ROOT, "..", &up, 0) < 0 || fstat(JAIL_ROOT, &st) < 0 || up.st_ino != st.st_ino ? 32 : 0;
	for (int fd = JAIL_FDS; fd < 1024; fd++)
		report->bytes |= fcntl(fd, F_GETFD) >= 0 ? 64 : 0;
	report->bytes |= st.st_uid != 0 ? 128 : 0;
	return 0;
}

Test(layers_jail, sees_its_tree_and_no_more)
{
	struct outside o;
	struct jail_report report = {0};
	struct err err = ERR_INIT;
	outside_open(&o);
	cr_assert_eq(run(&o, look_around, &report, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(report.bytes, 0, "%#lx", (unsigned long)report.bytes);
	outside_close(&o);
}

#define FORBIDDEN(name, call) \
	static int try_##name(void *ctx, struct jail_report *report, struct err *err) \
	{ \
		if ((call) == 0) /* warn_unused_result */ \
			return 0; \
		return 0; \
	}
FORBIDDEN(socket, socket(AF_UNIX, SOCK_STREAM, 0))
FORBIDDEN(fork, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
FORBIDDEN(exec, execl("/x", "x", NULL))
FORBIDDEN(ptrace, ptrace(PTRACE_TRACEME, 0, 0, 0))
FORBIDDEN(kill, kill(getppid(), 0))
FORBIDDEN(setuid, setuid(65000))
FORBIDDEN(mount, syscall(SYS_mount, "a", "b", "c", 0, NULL))
FORBIDDEN(unshare, unshare(CLONE_NEWUSER))
FORBIDDEN(mknod, mknodat(JAIL_ROOT, "fifo", S_IFIFO | 0600, 0))
FORBIDDEN(device, mknodat(JAIL_ROOT, "zero", S_IFCHR | 0600, makedev(1, 5)))
FORBIDDEN(odd_whiteout, mknodat(JAIL_ROOT, "odd", S_IFCHR | 0666, makedev(0, 0)))
FORBIDDEN(xattr, syscall(SYS_setxattr, "/", "user.a", "b", 1, 0))
FORBIDDEN(ioctl, syscall(SYS_ioctl, JAIL_ROOT, 0x5401, 0))
FORBIDDEN(owner, fcntl(JAIL_ROOT, F_SETOWN, getppid()))
FORBIDDEN(pipe_size, fcntl(JAIL_ROOT, F_SETPIPE_SZ, 1 << 20))
FORBIDDEN(exec_memory, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
FORBIDDEN(unlimit, setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}))

Test(layers_jail, forbidden_calls_kill_it)
{
	static int (*const tries[])(void *, struct jail_report *, struct err *) = {try_socket, try_fork, try_exec, try_ptrace,
		try_kill, try_setuid, try_mount, try_unshare, try_mknod, try_device, try_odd_whiteout, try_xattr, try_ioctl, try_owner, try_pipe_size, try_exec_memory, try_unlimit};
	struct outside o;
	outside_open(&o);
	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		struct jail_report report;
		struct err err = ERR_INIT;
		cr_expect_eq(run(&o, tries[i], &report, &err), -EPROTO, "try %zu", i);
		cr_expect(strstr(err_msg(&err), "killed by signal 31"), "try %zu: %s", i, err_msg(&err));
	}
	cr_expect_eq(count_in(o.root, "."), 0);
	outside_close(&o);
}

/* The one device that may be, and attributes that need no rights; none that overlayfs or the kernel would heed. */
static int make_whiteout(void *ctx, struct jail_report *report, struct err *err)
{
	report->bytes |= mknodat(JAIL_ROOT, "gone", S_IFCHR, makedev(0, 0)) < 0 ? 1 : 0;
	report->bytes |= fsetxattr(JAIL_ROOT, "user.a", "b", 1, 0) < 0 ? 2 : 0;
	report->bytes |= fsetxattr(JAIL_ROOT, "trusted.overlay.opaque", "y", 1, 0) == 0 ? 4 : 0;
	report->bytes |= fsetxattr(JAIL_ROOT, "security.capability", "y", 1, 0) == 0 ? 8 : 0;
	return 0;
}

Test(layers_jail, makes_whiteouts_but_no_marks)
{
	struct outside o;
	struct jail_report report = {0};
	struct err err = ERR_INIT;
	outside_open(&o);
	cr_assert_eq(run(&o, make_whiteout, &report, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(report.bytes, 0, "%#lx", (unsigned long)report.bytes);
	struct stat st = stat_at(o.root, "gone");
	cr_expect(S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0));
	outside_close(&o);
}

/* A pure helper has no file at all, neither by name nor by right. */
static int look_for_files(void *ctx, struct jail_report *report, struct err *err)
{
	report->bytes |= openat(JAIL_ROOT, "f", O_RDONLY) >= 0 ? 1 : 0;
	report->bytes |= openat(JAIL_ROOT, "new", O_WRONLY | O_CREAT, 0600) >= 0 ? 2 : 0;
	report->bytes |= unlinkat(JAIL_ROOT, "f", 0) == 0 ? 4 : 0;
	report->bytes |= mkdirat(JAIL_ROOT, "d", 0700) == 0 ? 8 : 0;
	return 0;
}
FORBIDDEN(pure_whiteout, mknodat(JAIL_ROOT, "gone", S_IFCHR, makedev(0, 0)))

Test(layers_jail, a_pure_one_has_no_files)
{
	struct outside o;
	struct jail_report report = {0};
	struct err err = ERR_INIT;
	outside_open(&o);
	write_at(o.root, "f", "x", 0666);
	struct jail jail = {.what = "test", .root = o.root, .isolate = true, .pure = true, .run = look_for_files};
	cr_assert_eq(jail_run(&jail, &report, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(report.bytes, 0, "%#lx", (unsigned long)report.bytes);
	jail.run = try_pure_whiteout;
	cr_expect_eq(jail_run(&jail, &report, &err), -EPROTO, "%s", err_msg(&err));
	cr_expect_eq(count_in(o.root, "."), 1);
	outside_close(&o);
}

static int read_others_file(void *ctx, struct jail_report *report, struct err *err)
{
	report->bytes = openat(JAIL_ROOT, "roots", O_RDONLY) >= 0;
	report->entries = openat(JAIL_ROOT, "stores", O_RDONLY) >= 0;
	report->skipped = fchownat(JAIL_ROOT, "stores", 70000, 0, 0) == 0;
	return 0;
}

Test(layers_jail, has_rights_over_its_own_range_only)
{
	struct outside o;
	struct jail_report report = {0};
	struct err err = ERR_INIT;
	outside_open(&o);
	write_at(o.root, "roots", "x", 0600);
	write_at(o.root, "stores", "x", 0000);
	cr_assert_eq(fchownat(o.root, "stores", STORE_UID_BASE + 7, STORE_UID_BASE + 7, 0), 0);
	cr_assert_eq(run(&o, read_others_file, &report, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(report.bytes, 0, "it read a file of the machine's root");
	cr_expect_eq(report.entries, 1, "it could not read a file of its range");
	cr_expect_eq(report.skipped, 0, "it gave a file to an id it has not");
	outside_close(&o);
}

static int fail_with_controls(void *ctx, struct jail_report *report, struct err *err)
{
	return err_say(err, ENOSPC, "red\033[31m\nline");
}

static int fill_the_disk(void *ctx, struct jail_report *report, struct err *err)
{
	int fd = openat(JAIL_ROOT, "f", O_WRONLY | O_CREAT, 0600);
	return ftruncate(fd, 2 << 20) < 0 ? err_set(err, errno, "grow") : 0;
}

static int die(void *ctx, struct jail_report *report, struct err *err)
{
	_exit(0);
}

Test(layers_jail, errors_come_back_clean)
{
	struct outside o;
	struct jail_report report;
	struct err err = ERR_INIT;
	outside_open(&o);
	cr_expect_eq(run(&o, fail_with_controls, &report, &err), -ENOSPC);
	cr_expect_str_eq(err_msg(&err), "red?[31m?line");
	cr_expect_eq(run(&o, fill_the_disk, &report, &err), -EFBIG, "%s", err_msg(&err));
	cr_expect_eq(run(&o, die, &report, &err), -EPROTO);
	cr_expect(strstr(err_msg(&err), "without a proper report"), "%s", err_msg(&err));
	outside_close(&o);
}

static char secret[] = "do not tell";

static int tell(void *ctx, struct jail_report *report, struct err *err)
{
	for (size_t i = 0; i < sizeof(secret); i++)
		report->bytes |= (uint64_t)secret[i];
	return 0;
}

Test(layers_jail, wipes_what_it_must_not_know)
{
	struct outside o;
	struct jail_report report = {0};
	outside_open(&o);
	struct jail jail = {.what = "test", .root = o.root, .run = tell, .wipe = secret, .wipe_len = sizeof(secret)};
	cr_assert_eq(jail_run(&jail, &report, NULL), 0);
	cr_expect_eq(report.bytes, 0);
	cr_expect_str_eq(secret, "do not tell");
	outside_close(&o);
}
