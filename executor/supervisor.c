/* The supervisor; see the header. Root; everything that comes from outside is parsed in its unprivileged child. */
#include "executor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/core_sched.h"
#include "executor/engine.h"
#include "executor/notify.h"
#include "executor/privileges.h"
#include "executor/spool.h"
#include "executor/supervisor_commits.h"
#include "executor/supervisor_nursery.h"
#include "pool/delegate.h"
#include "pool/wire.h"

#define FDS_OF_SLOT 28u
#define FDS_OF_WORKER 256u
#define LOCK_DIR "/run/petri"
#define RING_ENTRIES 1024
#define BEAT_US 1000000u /* without a watchdog: for READY */
/* After the grace: results that are still to be delivered (10 s, worker.c), and the nursery's end (10 s). */
#define STOP_EXTRA_MS 25000u
#define BEATS_PER_WATCHDOG 4

struct supervisor {
	const struct supervisor_config *config;
	struct store *store;
	int locks, signals;
	int spool; /* 0: none */
	pid_t worker;
	const char *core_sched; /* as the nursery is told */
	struct nursery nursery;
	struct commits commits;
	bool stopping;
	unsigned stop_signals;
	struct notify notify;
	int beats; /* the worker's, to read; -1: systemd does not ask */
};

const char *state_dir(const char *flag)
{
	const char *env = getenv("PETRI_STATE");
	return flag ? flag : env && *env ? env
					 : DEFAULT_STATE;
}

/* ---- start ---- */
static int open_locks(struct err *err)
{
	/* Host-wide, whatever the state directory: slot numbers name host-wide things (uids, cgroups, projects). */
	if (mkdir(LOCK_DIR, 0700) < 0 && errno != EEXIST)
		return err_set(err, errno, "make %s", LOCK_DIR);
	int fd = open(LOCK_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "open %s", LOCK_DIR);
	if (st.st_uid != 0 || (st.st_mode & 022)) {
		(void)close(fd);
		return err_say(err, EPERM, "%s must be root's alone", LOCK_DIR);
	}
	return fd;
}

static void end_signals(sigset_t *ret)
{
	(void)sigemptyset(ret);
	(void)sigaddset(ret, SIGTERM);
	(void)sigaddset(ret, SIGINT);
	(void)sigaddset(ret, SIGHUP);
}

int worker_signals(void)
{
	sigset_t set;
	end_signals(&set);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static uint64_t beat_us(const struct supervisor *s)
{
	return s->notify.watchdog_us ? MIN(s->notify.watchdog_us / BEATS_PER_WATCHDOG, (uint64_t)BEAT_US) : BEAT_US;
}

static void run_worker(struct supervisor *s, pid_t parent, int nursery, int commits, int beats)
{
	struct err err = ERR_INIT;
	struct worker_fds fds = {.store = s->store, .nursery = nursery, .supervisor = commits, .spool = s->spool, .beats = beats, .beat_us = beat_us(s)};
	(void)prctl(PR_SET_NAME, "petri-worker", 0, 0, 0);
	(void)close(s->locks);
	(void)close(s->signals);
	cleanup_close(&s->beats);
	notify_close(&s->notify);
	if (!s->config->handles_signals) {
		sigset_t set;
		end_signals(&set);
		(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	}
	/* Before the privileges go: kernel.io_uring_disabled=1 asks for them. */
	int r = loop_new(RING_ENTRIES, &fds.loop, &err);
	/* Nothing in it is the worker's business, and its filter has no call for either. Not the network: Redis is there. */
	if (r == 0 && unshare(CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		r = err_set(&err, errno, "leave the machine's ipc and uts namespaces");
	if (r == 0)
		r = privileges_worker(&s->config->needs, store_fd(s->store), s->spool, parent, &err);
	if (r < 0) {
		log_error("worker: %s", err_msg(&err));
		_exit(125);
	}
	int code = s->config->worker(&fds, s->config->ctx);
	(void)fflush(NULL);
	_exit(code);
}

static int start(struct supervisor *s, struct err *err)
{
	int commits[2], beats[2] = {-1, -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, commits) < 0)
		return err_set(err, errno, "make a socket");
	if (s->notify.fd >= 0 && pipe2(beats, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_set(err, errno, "make a pipe");
	int nursery = nursery_start(&s->nursery, err);
	if (nursery < 0)
		return nursery;
	s->beats = beats[0];
	pid_t parent = getpid();
	s->worker = fork();
	if (s->worker == 0) {
		(void)close(commits[0]);
		run_worker(s, parent, nursery, commits[1], beats[1]);
	}
	int saved = errno;
	cleanup_close(&beats[1]);
	(void)close(nursery);
	(void)close(commits[1]);
	s->commits.sock = commits[0];
	if (s->worker < 0)
		return err_set(err, saved, "fork");
	return 0;
}

/* ---- another nursery for the same worker ---- */
/* Without one the worker is of no use: then both are started anew. */
static void replace_nursery(struct supervisor *s)
{
	struct err err = ERR_INIT;
	struct commit_reply reply = {.seq = 0};
	log_warn("starting petri-nursery again");
	notify_trouble(&s->notify, "STATUS=Starting petri-nursery again.");
	int sock = nursery_start(&s->nursery, &err);
	int r = sock < 0 ? sock : fd_send_now(s->commits.sock, &reply, sizeof(reply), &sock, 1);
	cleanup_close(&sock);
	if (r < 0) {
		log_error("petri-nursery: %s", err.msg[0] ? err_msg(&err) : strerror(-r));
		(void)kill(s->worker, SIGKILL);
	}
}

/* ---- commits ---- */
static void serve_commits(struct supervisor *s)
{
	static struct commit_request request;
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	ssize_t n = fd_recv(s->commits.sock, &request, sizeof(request), fds, &nfds, MSG_DONTWAIT);
	if (n == 0) {
		cleanup_close(&s->commits.sock);
		return;
	}
	/* The worker parses hostile bytes: what it says is checked like a stranger's. The range must be a slot's. */
	if (n == sizeof(request) && nfds == 0 && request.kind == COMMIT_NURSERY && s->config->restart) {
		/* Asked for once the last job has ended, or gone back to the queue: what is still being stored is for nobody, and read from slots that the
		 * next nursery takes. */
		commits_forget(&s->commits);
		nursery_want(&s->nursery);
		return;
	}
	bool whole = n == sizeof(request) && nfds == 1;
	bool sane = whole && commit_request_sane(&request);
	if (sane)
		commits_start(&s->commits, &request, fds[0]);
	else if (n > 0)
		commits_refuse(&s->commits, n == sizeof(request) ? request.seq : 0, -EIO, "a commit request that makes no sense");
	fd_close_many(fds, nfds);
}

/* ---- systemd ---- */
/* Only what the worker says feeds the watchdog: a supervisor that answers for a worker that hangs would be worse than none. */
static void on_beat(struct supervisor *s)
{
	char bytes[64];
	ssize_t n = read(s->beats, bytes, sizeof(bytes));
	if (n == 0 || (n < 0 && errno != EAGAIN))
		cleanup_close(&s->beats);
	if (n > 0)
		notify_beat(&s->notify, bytes, (size_t)n);
}

static void tell_stopping(const struct supervisor *s)
{
	char text[128];
	(void)snprintf(text, sizeof(text), "STOPPING=1\nSTATUS=Waiting for running jobs.\nEXTEND_TIMEOUT_USEC=%" PRIu64, (s->config->stop_ms + STOP_EXTRA_MS) * 1000);
	notify_send(&s->notify, text);
}

/* ---- the end ---- */
static void on_signal(struct supervisor *s)
{
	struct signalfd_siginfo info;
	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			continue;
		/* The worker has its own grace for the first signal, and its own haste for the second. */
		if (s->worker > 0)
			(void)kill(s->worker, ++s->stop_signals < 3 ? SIGTERM : SIGKILL);
		if (!s->stopping)
			tell_stopping(s);
		s->stopping = true;
	}
}

/* Return: true once the worker is gone, with *ret_status its wait status. */
static bool reap(struct supervisor *s, int *ret_status)
{
	bool ended = false;
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == s->worker) {
			s->worker = 0;
			*ret_status = status;
			ended = true;
		} else if (pid == s->nursery.pid) {
			nursery_ended(&s->nursery, status);
		} else {
			commits_ended(&s->commits, pid, status);
		}
	}
	return ended;
}

/* Of two timeouts of poll(2), -1 for none. */
static int sooner_ms(int a, int b)
{
	return a < 0 ? b : b < 0 ? a
				 : MIN(a, b);
}

static int wait_worker(struct supervisor *s)
{
	int status = 0;
	for (;;) {
		struct pollfd p[3] = {{.fd = s->signals, .events = POLLIN}, {.fd = s->commits.sock, .events = POLLIN}, {.fd = s->beats, .events = POLLIN}};
		/* The worker lives on whatever poll says; its end is a signal. */
		if (poll(p, 3, sooner_ms(nursery_poll_ms(&s->nursery), commits_poll_ms(&s->commits))) < 0 && errno != EINTR)
			(void)poll(NULL, 0, 10);
		if (p[2].revents && s->beats >= 0)
			on_beat(s);
		if (p[1].revents && s->commits.sock >= 0)
			serve_commits(s);
		if (p[0].revents) {
			on_signal(s);
			if (reap(s, &status))
				break;
		}
		commits_look(&s->commits);
		if (nursery_is_due(&s->nursery))
			replace_nursery(s);
	}
	s->nursery.due_us = 0;
	/* The next worker counts its requests from the beginning, and would take an answer to this one's for its own. */
	commits_forget(&s->commits);
	cleanup_close(&s->commits.sock);
	cleanup_close(&s->beats);
	return status;
}

static int block_signals(struct err *err)
{
	static const int wanted[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	sigset_t set;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		(void)sigaddset(&set, wanted[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_set(err, errno, "block signals");
	(void)signal(SIGPIPE, SIG_IGN);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_set(err, errno, "signalfd") : fd;
}

static int run_until_end(struct supervisor *s, struct err *err)
{
	unsigned wait_ms = RESTART_WAIT_MIN_MS;
	for (;;) {
		uint64_t started = now_us();
		int r = start(s, err);
		if (r < 0)
			return r;
		int status = wait_worker(s);
		nursery_wait(&s->nursery);
		/* 70 is a fair exit code for `petri run`'s job. */
		bool died = WIFSIGNALED(status) || (s->config->restart && WEXITSTATUS(status) == WORKER_EXIT_RESTART);
		if (!died)
			return WEXITSTATUS(status);
		if (WIFSIGNALED(status))
			log_error("the worker was killed by signal %d", WTERMSIG(status));
		if (!s->config->restart || s->stopping)
			return 125;
		if (now_us() - started > RESTART_FORGET_US)
			wait_ms = RESTART_WAIT_MIN_MS;
		log_warn("starting worker and nursery again in %u ms", wait_ms);
		notify_trouble(&s->notify, "STATUS=Starting worker and nursery again.");
		(void)poll(NULL, 0, (int)wait_ms);
		wait_ms = MIN(wait_ms * 2, RESTART_WAIT_MAX_MS);
	}
}

/* A slot's files in the worker, which has the most: the leaf's, and the zygote's. */
static int check_fd_limit(unsigned nslots, struct err *err)
{
	struct rlimit files;
	uint64_t needed = FDS_OF_WORKER + (uint64_t)FDS_OF_SLOT * nslots;
	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_max >= needed)
		return 0;
	return err_say(err, EMFILE, "slots: %u slots need %" PRIu64 " file descriptors in one process, and the hard limit is %" PRIu64 ": raise it (ulimit -Hn, LimitNOFILE=), or take %" PRIu64 " slots",
		nslots, needed, (uint64_t)files.rlim_max, (uint64_t)files.rlim_max > FDS_OF_WORKER ? ((uint64_t)files.rlim_max - FDS_OF_WORKER) / FDS_OF_SLOT : 0);
}

static int choose_core_sched(struct supervisor *s, struct err *err)
{
	const char *choice = s->config->core_sched ? s->config->core_sched : "off";
	bool use;
	int r = core_sched_decide(choice, core_sched_probe(), &use, err);
	s->core_sched = use ? choice : "off";
	return r;
}

/* A worker can do without: results then wait in memory only. */
static void open_spool(struct supervisor *s)
{
	struct err err = ERR_INIT;
	if (!s->config->spool)
		return;
	int fd = spool_make_dir(store_fd(s->store), s->config->spool, STORE_WORKER_UID, &err);
	if (fd < 0)
		log_warn("spool: %s; results wait in memory only while Redis is away, ignoring", err_msg(&err));
	s->spool = MAX(fd, 0);
}

int supervise(const struct supervisor_config *config)
{
	struct err err = ERR_INIT;
	struct supervisor s = {.config = config, .locks = -1, .signals = -1, .commits.sock = -1, .beats = -1, .notify.fd = -1};
	int r = 0;
	if (config->restart)
		notify_open(&s.notify);
	if (geteuid() != 0)
		r = err_say(&err, EPERM, "petri makes namespaces, mounts and cgroups, and must be started as root (it drops what it "
					 "does not need); try sudo, and `petri doctor` for the rest");
	if (r == 0)
		r = choose_core_sched(&s, &err);
	if (r == 0)
		r = privileges_supervisor(&err);
	if (r == 0)
		r = delegate_enter(&err);
	if (r >= 0)
		r = check_fd_limit(config->nslots, &err);
	if (r == 0)
		r = store_open(config->state, &s.store, &err);
	if (r == 0 && config->restart) { /* a worker: what costs time once is paid before anybody waits */
		store_settle(s.store);	 /* what it removes is for the sweep */
		store_sweep(s.store);
		store_warm();
	}
	if (r == 0)
		open_spool(&s);
	if (r == 0)
		r = image_host_prepare(s.store, &err);
	if (r == 0)
		r = s.locks = open_locks(&err);
	if (r >= 0)
		r = s.signals = block_signals(&err);
	s.commits.store = s.store;
	s.commits.most = config->nslots * COMMITS_OF_SLOT + COMMITS_MORE;
	s.commits.patience_us = COMMITS_PATIENCE_US;
	s.nursery = (struct nursery){.config = config, .store = s.store ? store_fd(s.store) : -1, .locks = s.locks, .core_sched = s.core_sched};
	if (r >= 0)
		r = run_until_end(&s, &err);
	if (s.store && config->restart)
		store_settle(s.store);
	if (r < 0) {
		log_error("%s", err_msg(&err));
		r = 125;
	}
	cleanup_close(&s.locks);
	cleanup_close(&s.signals);
	notify_close(&s.notify);
	if (s.spool)
		cleanup_close(&s.spool);
	store_free(s.store);
	return r;
}
