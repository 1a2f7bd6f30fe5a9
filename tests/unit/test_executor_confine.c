/*
 * The worker's confinement, tried from inside: each case forks a child, confines it and lets it do what it should not. What a defence
 * is worth is seen by taking it out; what was taken out, and what its test then said, stands beside each case.
 */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sanitizer.h"
#include "executor/confine.h"
#include "executor/loop_ring.h"

static const struct confine_needs alone = {0}, online = {.network = true}, serving = {.network = true, .listen = true};

/* Return: the wait(2) status of a child under the filter alone, which ends with fn()'s result: 0, or an errno. */
static int confined(const struct confine_needs *needs, int (*fn)(void))
{
	pid_t pid = fork();
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || confine_calls(needs, NULL) < 0)
			_exit(200);
		_exit(fn());
	}
	int status = 0;
	cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	return status;
}

static int result(long r)
{
	return r < 0 ? errno : 0;
}

static void refused(const struct confine_needs *needs, int (*fn)(void), int error)
{
	int status = confined(needs, fn);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == error, "ended with 0x%x, wanted errno %d", (unsigned)status, error);
}

static void killed(int (*fn)(void))
{
	int status = confined(&serving, fn);
	if (HAVE_SANITIZER)
		cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == ENOSYS);
	else
		cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "ended with 0x%x", (unsigned)status);
}

/* ---- calls ---- */
static int try_execve(void)
{
	char *argv[] = {(char *)"true", NULL};
	return result(execve("/bin/true", argv, argv + 1));
}

static int try_ptrace(void)
{
	return result(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int try_ring(void)
{
	struct io_uring_params params = {0};
	return result(syscall(SYS_io_uring_setup, 4, &params));
}

static int try_unshare(void)
{
	return result(syscall(SYS_unshare, CLONE_NEWUSER));
}

/* Without the list `deadly`: "ended with 0x2600" (ENOSYS, exit 38) in each of the four. */
Test(confine, execve_kills)
{
	killed(try_execve);
}

Test(confine, ptrace_kills)
{
	killed(try_ptrace);
}

Test(confine, another_ring_kills)
{
	killed(try_ring);
}

Test(confine, a_namespace_kills)
{
	killed(try_unshare);
}

static int try_fork(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return result(pid);
}

static void *nothing(void *arg)
{
	return arg;
}

static int try_thread(void)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, nothing, NULL);
	return r ? r : pthread_join(thread, NULL);
}

/* With clone(2) in the list `always`: "ended with 0x0, wanted errno 38". */
Test(confine, no_process_but_a_thread)
{
	refused(&serving, try_fork, ENOSYS);
	refused(&serving, try_thread, 0);
}

static int try_netlink(void)
{
	return result(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int try_packet(void)
{
	return result(socket(AF_PACKET, SOCK_RAW, 0));
}

static int try_unix(void)
{
	return result(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int try_bind(void)
{
	struct sockaddr_storage any = {.ss_family = AF_INET};
	return result(bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&any, 16));
}

/* With socket(2) in the list `network`, instead of its families: "ended with 0x0, wanted errno 97". */
Test(confine, sockets_of_few_families)
{
	refused(&online, try_netlink, EAFNOSUPPORT);
	refused(&online, try_packet, ENOSYS);
	refused(&online, try_unix, 0);
	refused(&alone, try_unix, ENOSYS);
	refused(&online, try_bind, ENOSYS);
	refused(&serving, try_bind, 0);
}

static int try_kill(void)
{
	return result(kill(getppid(), 0));
}

static int try_tgkill(void)
{
	return result(syscall(SYS_tgkill, getppid(), getppid(), 0));
}

static int try_tgkill_self(void)
{
	return result(syscall(SYS_tgkill, getpid(), getpid(), 0));
}

/* With kill(2) in the list `always`, and tgkill(2) without its argument: "ended with 0x0, wanted errno 38". */
Test(confine, signals_only_for_itself)
{
	refused(&serving, try_kill, ENOSYS);
	refused(&serving, try_tgkill, ENOSYS);
	refused(&serving, try_tgkill_self, 0);
}

static int try_tiocsti(void)
{
	return result(ioctl(0, TIOCSTI, "x"));
}

/* The caller's terminal is the worker's stdin under `petri run`. With ioctl(2) in `always`: "ended with 0x1900, wanted errno 38". */
Test(confine, no_input_for_the_terminal)
{
	refused(&serving, try_tiocsti, ENOSYS);
}

static int try_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? 201 : result(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

/* With mprotect(2) in `always`: "ended with 0x0, wanted errno 38". */
Test(confine, memory_does_not_become_code)
{
	refused(&serving, try_code, ENOSYS);
}

static int try_lookup(void)
{
	struct addrinfo *found = NULL, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	int r = getaddrinfo("localhost", "6379", &hints, &found);
	return r ? 202 : 0;
}

Test(confine, names_are_looked_up)
{
	refused(&online, try_lookup, 0);
}

static int try_twice(void)
{
	for (int i = 0; i < 3; i++)
		(void)!syscall(SYS_getpgid, 0);
	return 0;
}

/* Without the list of what was seen: three lines, and "logged: …". */
Test(confine, a_refusal_is_logged_once)
{
	char text[2048] = "";
	int out[2], saved = dup(STDERR_FILENO);
	cr_assert(pipe2(out, O_CLOEXEC) == 0 && dup2(out[1], STDERR_FILENO) >= 0);
	(void)close(out[1]);
	refused(&alone, try_twice, 0);
	cr_assert(dup2(saved, STDERR_FILENO) >= 0);
	cr_assert(fd_read_all(out[0], text, sizeof(text) - 1) > 0);
	char *first = strstr(text, "does not know system call");
	cr_assert(first && !strstr(first + 1, "does not know system call"), "logged: %s", text);
}

/* ---- paths ---- */
static char dir[] = "/tmp/petri-confine-XXXXXX";

static int put(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return result(fd);
}

static int look(const char *path)
{
	return result(open(path, O_RDONLY | O_CLOEXEC));
}

static int store_and_policies(void)
{
	int failed = 0;
	const struct {
		int got, wanted;
	} tries[] = {
		{look("secret"), 0},
		{put("secret"), EACCES},
		{put("other"), EACCES},
		{put("blobs/tmp/a"), 0},
		{result(mkdir("blobs/ab", 0700)), 0},
		{result(rename("blobs/tmp/a", "blobs/ab/a")), 0},
		{result(rename("blobs/ab/a", "a")), EACCES},
		{result(symlink("/etc/passwd", "blobs/ab/b")), EACCES},
		{put("spool/a"), 0},
		{look("policies/p"), 0},
		{put("policies/p"), EACCES},
		{look("../../etc/passwd"), EACCES},
		{look("/etc/shadow"), EACCES},
		{look("/proc/1/status"), EACCES},
		{look("/root"), EACCES},
	};
	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		if (tries[i].got == tries[i].wanted)
			continue;
		log_error("try %zu: errno %d, wanted %d", i, tries[i].got, tries[i].wanted);
		failed++;
	}
	return failed;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	(void)st;
	(void)type;
	(void)walk;
	return remove(path);
}

/* Without landlock_restrict_self(): "try 1: errno 0, wanted 13", and eight more of the kind. */
Test(confine, paths)
{
	if (landlock_version() < 2) {
		cr_log_warn("no Landlock here: nothing is tried");
		return;
	}
	cr_assert(mkdtemp(dir) && chdir(dir) == 0);
	static const char *const dirs[] = {"blobs", "blobs/tmp", "spool", "policies"};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		cr_assert(mkdir(dirs[i], 0700) == 0);
	cr_assert(put("secret") == 0 && put("policies/p") == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct confine_needs needs = {.dirs = {"policies", "missing"}};
		int store = open(".", O_PATH | O_DIRECTORY), spool = open("spool", O_RDONLY | O_DIRECTORY);
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || confine_paths(&needs, store, spool, NULL) != 0)
			_exit(200);
		_exit(store_and_policies());
	}
	int status = 0;
	cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	cr_assert(chdir("/") == 0 && nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
	cr_assert_eq(status, 0, "%d tries had another end", WEXITSTATUS(status));
}

/* ---- the ring ---- */
static int complete(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	cr_assert(io_uring_submit(ring) >= 0 && io_uring_wait_cqe(ring, &cqe) == 0);
	int r = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return r;
}

/* Without IORING_REGISTER_RESTRICTIONS: "(complete(&ring)) == (-13) is false", for "/" was opened. */
Test(confine, the_ring_opens_nothing)
{
	struct io_uring ring;
	cr_assert(ring_open(8, &ring) == 0);
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	io_uring_prep_openat(sqe, AT_FDCWD, "/", O_RDONLY, 0);
	cr_assert_eq(complete(&ring), -EACCES);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_nop(sqe);
	cr_assert_eq(complete(&ring), -EACCES);
	io_uring_queue_exit(&ring);
}

/* The same, and the same answer, for the flag. */
Test(confine, the_ring_takes_no_flags_and_registers_nothing)
{
	struct io_uring ring;
	char byte;
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	cr_assert(zero >= 0 && ring_open(8, &ring) == 0);
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, zero, &byte, 1, 0);
	cr_assert_eq(complete(&ring), 1);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, zero, &byte, 1, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
	cr_assert_eq(complete(&ring), -EACCES);
	cr_assert(syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_FILES, &zero, 1) < 0 && errno == EACCES);
	io_uring_queue_exit(&ring);
	(void)close(zero);
}
