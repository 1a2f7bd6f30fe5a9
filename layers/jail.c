/*
 * Forking, confining and hearing the store's helpers; see the header. Two processes:
 *
 *   caller (root)                          helper
 *   fork ────────────────────────────────▶ unshare(user[, net, ipc])
 *        ◀── "unshared" ────────────────── (sync socket)
 *   write uid_map, gid_map
 *        ─── "go" ───────────────────────▶ uid 0 inside; fds, chroot, limits, capabilities, seccomp
 *   feed() ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ▶ run()
 *        ◀── struct jail_report ────────── _exit
 *   waitpid
 *
 * jail_start() ends with "go", jail_wait() begins at the report: between the two several helpers may run at once.
 *
 * A failure in the helper arrives as a report; a helper that dies without one is named with its signal.
 */
#include "layers/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sanitizer.h"
#include "base/sys.h"
#include "layers/store.h"

#define REPORT_MAGIC 0x6a52704du
#define REPORT_FD 3
#define FD_PARKING 64 /* fds are moved out of the way of their final numbers first */
#define HELPER_MEMORY_MAX (2ull << 30)
#define HELPER_CPU_MAX_S 3600
#define HELPER_FDS_MAX 1024 /* a walk keeps up to 2 * TREE_KEPT_FDS of them */

/* ---- in the helper ---- */

/* Give each kept fd its number, /dev/null to 0, 1 and 2, and close the rest. *report is good at every moment. */
static int arrange_fds(const struct jail *jail, int *report)
{
	int parked[2 + JAIL_FDS_MAX];
	size_t n = 0;
	if (jail->nfds > JAIL_FDS_MAX)
		return -EINVAL;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return -errno;
	for (int fd = 0; fd < 3; fd++)
		if (dup2(null, fd) < 0)
			return -errno;
	parked[n++] = fcntl(*report, F_DUPFD_CLOEXEC, FD_PARKING);
	parked[n++] = fcntl(jail->root, F_DUPFD_CLOEXEC, FD_PARKING);
	for (size_t i = 0; i < jail->nfds; i++)
		parked[n++] = fcntl(jail->fds[i], F_DUPFD_CLOEXEC, FD_PARKING);
	for (size_t i = 0; i < n; i++)
		if (parked[i] < 0)
			return -EMFILE;
	*report = parked[0];
	for (size_t i = 0; i < n; i++)
		if (dup2(parked[i], REPORT_FD + (int)i) < 0)
			return -errno;
	*report = REPORT_FD;
	return sys_close_range(REPORT_FD + (unsigned)n, ~0u, 0);
}

/* Lower both limits to at most value; what is lower already stays. */
static int limit(__rlimit_resource_t which, rlim_t value)
{
	struct rlimit now;
	if (getrlimit(which, &now) < 0)
		return -errno;
	now.rlim_max = MIN(now.rlim_max, value);
	now.rlim_cur = now.rlim_max;
	return setrlimit(which, &now) < 0 ? -errno : 0;
}

static int limits(const struct jail *jail)
{
	/* 1, not 0: with 0 a "|handler" in core_pattern still runs, core(5). */
	int r = limit(RLIMIT_CORE, 1);
	if (r == 0)
		r = limit(RLIMIT_FSIZE, jail->max_file_bytes);
	if (r == 0)
		r = limit(RLIMIT_CPU, HELPER_CPU_MAX_S);
	struct rlimit fds = {0, 0};
	if (r == 0 && getrlimit(RLIMIT_NOFILE, &fds) == 0 && fds.rlim_cur < HELPER_FDS_MAX) {
		fds.rlim_cur = MIN(fds.rlim_max, (rlim_t)HELPER_FDS_MAX);
		r = setrlimit(RLIMIT_NOFILE, &fds) < 0 ? -errno : 0;
	}
	if (r == 0 && !HAVE_SANITIZER) /* whose shadow memory is terabytes of address space */
		r = limit(RLIMIT_AS, HELPER_MEMORY_MAX);
	return r;
}

/* Keep what acts on files of mapped owners only, if that; drop the rest, for good. */
static int keep_file_capabilities(bool pure)
{
	const unsigned keep = pure ? 0 : 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	struct __user_cap_data_struct data[2] = {{.effective = keep, .permitted = keep}, {0}};
	int r = sys_drop_bounding_set();
	if (r < 0)
		return r;
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static void default_signals(void)
{
	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, sig == SIGPIPE || sig == SIGXFSZ ? SIG_IGN : SIG_DFL); /* some cannot be set */
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int become_mapped(const struct jail *jail, int sync, struct err *err)
{
	if (setgroups(0, NULL) < 0)
		return err_set(err, errno, "drop the groups");
	int flags = CLONE_NEWUSER | (jail->isolate ? CLONE_NEWNET | CLONE_NEWIPC : 0);
	if (unshare(flags) < 0)
		return err_set(err, errno, "make the namespaces of the %s helper", jail->what);
	char byte = 0;
	if (fd_write_all(sync, &byte, 1) < 0 || fd_read_all(sync, &byte, 1) != 1)
		return err_say(err, EPIPE, "the caller of the %s helper has gone", jail->what);
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return err_set(err, errno, "become root of the namespace");
	return 0;
}

static int confine(const struct jail *jail, int sync, int *report, pid_t parent, struct err *err)
{
	default_signals();
	if (jail->wipe)
		explicit_bzero(jail->wipe, jail->wipe_len);
	(void)umask(077);
	int r = become_mapped(jail, sync, err);
	if (r < 0)
		return r;
	/* After the last setresuid, which clears it, prctl(2); and the caller may be gone already. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
		return err_say(err, EPIPE, "the caller of the %s helper has gone", jail->what);
	r = arrange_fds(jail, report);
	if (r < 0)
		return err_set(err, r, "arrange the helper's fds");
	/* Its tree is all there is: neither an absolute path nor "..", from the fd, leads out. */
	if (fchdir(JAIL_ROOT) < 0 || chroot(".") < 0)
		return err_set(err, errno, "enter the tree");
	r = limits(jail);
	if (r < 0)
		return err_set(err, r, "limit the %s helper", jail->what);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(err, errno, "confine the %s helper", jail->what);
	r = keep_file_capabilities(jail->pure);
	if (r < 0)
		return err_set(err, r, "drop capabilities");
	r = jail_filter(jail->pure);
	return r < 0 ? err_set(err, r, "install the helper's seccomp filter") : 0;
}

static _Noreturn void helper(const struct jail *jail, int sync, int report_fd, pid_t parent)
{
	struct err err = ERR_INIT;
	struct jail_report report = {.magic = 0};
	int r = confine(jail, sync, &report_fd, parent, &err);
	if (r == 0)
		r = jail->run(jail->ctx, &report, &err);
	report.magic = REPORT_MAGIC;
	report.code = r < 0 ? r : 0;
	if (r < 0)
		(void)snprintf(report.msg, sizeof(report.msg), "%s", err_msg(&err));
	r = fd_write_all(report_fd, &report, sizeof(report));
	_exit(r < 0 || report.code < 0 ? 1 : 0);
}

/* ---- in the caller ---- */

static int write_map(pid_t pid, const char *file, uid_t second_base, struct err *err)
{
	char path[64], map[128];
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	int len = snprintf(map, sizeof(map), "0 %u %u\n", STORE_UID_BASE, STORE_UID_COUNT);
	if (second_base)
		len += snprintf(map + len, sizeof(map) - (size_t)len, "%u %u %u\n", STORE_UID_COUNT, second_base,
			STORE_UID_COUNT);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "open %s", path);
	if (write(fd, map, (size_t)len) != len)
		return err_set(err, errno, "write %s (are we root?)", path);
	return 0;
}

static int map_and_go(const struct jail *jail, pid_t pid, int sync, struct err *err)
{
	char byte;
	if (fd_read_all(sync, &byte, 1) != 1)
		return 0; /* it has failed, and its report says how */
	int r = write_map(pid, "uid_map", jail->second_base, err);
	if (r == 0)
		r = write_map(pid, "gid_map", jail->second_base, err);
	if (r == 0 && send(sync, &byte, 1, MSG_NOSIGNAL) != 1)
		r = err_set(err, errno, "start the %s helper", jail->what);
	return r;
}

/* The message is a stranger's as far as we know: terminate it, and keep control characters out of it. */
static void clean_message(char *msg, size_t cap)
{
	msg[cap - 1] = '\0';
	log_defuse(msg, strlen(msg));
}

static int judge(const struct jail *jail, ssize_t got, struct jail_report *report, int status, struct err *err)
{
	if (got == (ssize_t)sizeof(*report) && report->magic == REPORT_MAGIC && report->code < 0 &&
		report->code > -4096) {
		clean_message(report->msg, sizeof(report->msg));
		return err_say(err, report->code, "%s", report->msg);
	}
	if (WIFSIGNALED(status))
		return err_say(err, EPROTO, "the %s helper was killed by signal %d (%s)", jail->what, WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	if (got != (ssize_t)sizeof(*report) || report->magic != REPORT_MAGIC || report->code != 0 ||
		(WIFEXITED(status) && WEXITSTATUS(status) != 0))
		return err_say(err, EPROTO, "the %s helper ended without a proper report", jail->what);
	return 0;
}

void jail_kill(const struct jail_process *process)
{
	if (process->pid > 0)
		(void)kill(process->pid, SIGKILL);
}

/* Its report, whatever it is worth, and its end. */
static ssize_t reap(struct jail_process *process, struct jail_report *ret, int *ret_status)
{
	ssize_t got = fd_read_all(process->report, ret, sizeof(*ret));
	*ret_status = 0;
	while (waitpid(process->pid, ret_status, 0) < 0) {
		if (errno != EINTR) {
			*ret_status = 0; /* reaped by somebody else's SIGCHLD handler: the report decides */
			break;
		}
	}
	cleanup_close(&process->report);
	process->pid = 0;
	return got;
}

int jail_wait(struct jail_process *process, struct jail_report *ret, struct err *err)
{
	struct jail_report report = {.magic = 0};
	int status;
	if (process->pid == 0)
		return err_say(err, EPIPE, "there is no helper");
	ssize_t got = reap(process, &report, &status);
	int r = judge(process->jail, got, &report, status, err);
	if (r == 0)
		*ret = report;
	return r;
}

int jail_start(const struct jail *jail, struct jail_process *ret, struct err *err)
{
	int sync[2], pipe_fds[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sync) < 0)
		return err_set(err, errno, "make a socket pair");
	_cleanup_close_ int ours = sync[0], theirs = sync[1];
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_set(err, errno, "make a pipe");
	_cleanup_close_ int report = pipe_fds[0], report_write = pipe_fds[1];
	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return err_set(err, errno, "fork the %s helper", jail->what);
	if (pid == 0) {
		/* Its own copy would keep it waiting for a caller that has died. */
		cleanup_close(&ours);
		cleanup_close(&report);
		helper(jail, theirs, report_write, parent);
	}
	cleanup_close(&theirs);
	cleanup_close(&report_write);
	*ret = (struct jail_process){.jail = jail, .pid = pid, .report = TAKE_FD(report)};
	int r = map_and_go(jail, pid, ours, err);
	if (r < 0) {
		struct jail_report unused;
		int status;
		jail_kill(ret);
		(void)reap(ret, &unused, &status);
	}
	return r;
}

int jail_run(const struct jail *jail, struct jail_report *ret, struct err *err)
{
	struct jail_process process = JAIL_PROCESS_INIT;
	struct err fed = ERR_INIT;
	int started = jail_start(jail, &process, err);
	int r = jail->feed ? jail->feed(jail->ctx, &fed) : 0; /* its fds are closed by it, on every way out */
	if (started < 0)
		return started;
	/* EPIPE: the helper has stopped reading, and says itself why. */
	if (r < 0 && r != -EPIPE)
		jail_kill(&process);
	int verdict = jail_wait(&process, ret, err);
	if (r < 0 && r != -EPIPE) {
		if (err)
			*err = fed;
		return r;
	}
	if (verdict == 0 && r < 0)
		return err_say(err, EPROTO, "the %s helper stopped before the end", jail->what);
	return verdict;
}
