/* The nursery's loop: the worker's messages and the ends of its children. See the header. */
#include "pool/nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "pool/slot.h"

#define FILTER_LEN_MAX 4096 /* BPF_MAXINSNS */
#define LAST_SWEEP_MS 1000

static int take_policy(struct nursery *n, const struct wire_policy *p, int fd, struct err *err)
{
	struct stat st;
	size_t size = (size_t)p->len * sizeof(struct sock_filter);
	if (p->index >= POOL_POLICIES_MAX || p->len == 0 || p->len > FILTER_LEN_MAX || fd < 0)
		return err_set(err, EINVAL, "policy message");
	/* Sealed, so that what was checked is what zygotes get. */
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_WRITE) || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 ||
		(size_t)st.st_size != size)
		return err_set(err, EINVAL, "policy memfd");
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return err_set(err, errno, "keep a policy");
	struct policy_slot *slot = &n->policies[p->index];
	cleanup_close(&slot->fd);
	*slot = (struct policy_slot){.fd = copy, .len = (unsigned short)p->len, .listener = p->listener != 0, .early = p->early != 0, .sockets = p->sockets != 0};
	return 0;
}

static void handle(struct nursery *n, const struct wire_msg *msg, int *fds, size_t nfds)
{
	struct err err = ERR_INIT;
	if (msg->type == WIRE_POLICY) {
		if (take_policy(n, &msg->policy, nfds > 0 ? fds[0] : -1, &err) < 0)
			log_write(LOG_ERROR_, "nursery: %s", err_msg(&err));
		return;
	}
	if (msg->type == WIRE_PING) {
		const struct wire_msg pong = {.type = WIRE_PONG, .slot = UINT32_MAX, .seq = msg->seq};
		(void)fd_send(n->config->worker, &pong, sizeof(pong), NULL, 0);
		return;
	}
	if (msg->slot >= n->nslots) {
		log_write(LOG_ERROR_, "nursery: message %u for slot %u, which is not there", msg->type, msg->slot);
		return;
	}
	struct slot *s = &n->slots[msg->slot];
	switch (msg->type) {
	case WIRE_STAMP:
		if (nfds > 0)
			slot_stamp(n, s, msg->seq, &msg->plan, TAKE_FD(fds[0]), nfds > 1 ? TAKE_FD(fds[1]) : -1);
		break;
	case WIRE_RESIZE:
		slot_resize(n, s, msg->seq, &msg->plan);
		break;
	case WIRE_OPEN:
		if (nfds > 1)
			slot_serve_open(n, s, fds[0], fds[1]);
		break;
	case WIRE_RETIRE:
		slot_kill(n, s);
		s->pending = false;
		s->state = SLOT_RETIRED;
		break;
	default:
		log_write(LOG_ERROR_, "nursery: unknown message %u", msg->type);
	}
}

bool nursery_serve(struct nursery *n)
{
	for (;;) {
		struct wire_msg msg;
		int fds[FD_PASS_MAX];
		size_t nfds = 0;
		ssize_t r = fd_recv(n->config->worker, &msg, sizeof(msg), fds, &nfds, MSG_DONTWAIT);
		if (fd_try_later(r))
			return true;
		if (r <= 0)
			return false;
		if ((size_t)r == sizeof(msg))
			handle(n, &msg, fds, nfds);
		fd_close_many(fds, nfds);
	}
}

void nursery_reap(struct nursery *n)
{
	pid_t pid;
	int status;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == n->sweeper.pid)
			sweeper_reaped(n, status);
		cache_reaped(n, pid, status);
		for (unsigned i = 0; i < n->nslots; i++) {
			if (n->slots[i].keeper.pid == pid)
				n->slots[i].keeper.pid = -1; /* replaced when it is next needed */
			if (n->slots[i].opener == pid)
				n->slots[i].opener = 0;
			if (n->slots[i].room == pid || n->slots[i].helper == pid) {
				slot_reaped(n, &n->slots[i], pid, status);
				break;
			}
		}
	}
}

static bool all_dead(const struct nursery *n)
{
	for (unsigned i = 0; i < n->nslots; i++)
		if (n->slots[i].room > 0 || n->slots[i].helper > 0)
			return false;
	return true;
}

/* What the sweeper has still to do is tried once more; a tree that takes long is the next start's. */
static void last_sweep(struct nursery *n)
{
	if (sweeper_has_retried(n) && n->sweeper.pid <= 0)
		sweeper_start(n);
	for (int waited = 0; n->sweeper.pid > 0 && waited < LAST_SWEEP_MS; waited++) {
		(void)poll(NULL, 0, 1);
		nursery_reap(n);
	}
	if (n->sweeper.pid > 0)
		(void)kill(n->sweeper.pid, SIGKILL);
}

static void shut_down(struct nursery *n)
{
	for (unsigned i = 0; i < n->nslots; i++) {
		n->slots[i].pending = false;
		slot_kill(n, &n->slots[i]);
	}
	for (int waited = 0; !all_dead(n) && waited < 5000; waited++) {
		(void)poll(NULL, 0, 1);
		nursery_reap(n);
	}
	for (unsigned i = 0; i < n->nslots; i++)
		slot_close(n, &n->slots[i]);
	cache_close(n);
	last_sweep(n);
}

static int open_signals(struct err *err)
{
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_set(err, errno, "block signals");
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_set(err, errno, "signalfd") : fd;
}

static bool read_signals(int signals, bool *ret_child)
{
	struct signalfd_siginfo info;
	bool stop = false;
	while (read(signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			*ret_child = true;
		else
			stop = true;
	}
	return stop;
}

static void loop(struct nursery *n, int signals)
{
	struct pollfd p[2] = {{.fd = n->config->worker, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
	for (;;) {
		if (sweeper_wait_ms(n) == 0)
			sweeper_start(n);
		if (poll(p, 2, sweeper_wait_ms(n)) < 0 && errno != EINTR)
			(void)poll(NULL, 0, 10); /* no memory: again in a while */
		bool child = false;
		if ((p[1].revents & POLLIN) && read_signals(signals, &child))
			return;
		if (child)
			nursery_reap(n);
		if (p[0].revents && !nursery_serve(n))
			return;
	}
}

int nursery_run(const struct nursery_config *config, const struct nursery_stamper *stamper, struct cgroup_tree *tree,
	struct err *err)
{
	struct nursery n = {.config = config, .stamper = stamper, .tree = tree, .peak_resets = true, .home_net = -1, .cache.list = -1};
	n.reserved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (n.reserved < 0)
		return err_set(err, errno, "reserve an fd");
	_cleanup_free_ struct slot *slots = calloc(config->nslots, sizeof(*slots));
	if (!slots)
		return err_set(err, ENOMEM, "%u slots", config->nslots);
	n.slots = slots;
	for (size_t i = 0; i < POOL_POLICIES_MAX; i++)
		n.policies[i].fd = -1;
	_cleanup_close_ int signals = open_signals(err);
	if (signals < 0)
		return signals;
	struct wire_msg hello = {.type = WIRE_HELLO, .seq = WIRE_VERSION, .host = config->host};
	hello.host.driver = tree->driver;
	hello.host.nslots = config->nslots;
	stamper->describe(stamper->env, &hello.host);
	int r = fd_send(config->worker, &hello, sizeof(hello), NULL, 0);
	unsigned next = 0;
	for (unsigned i = 0; r >= 0 && i < config->nslots; i++) {
		n.nslots = i + 1;
		r = slot_open(&n, i, next, err);
		if (r >= 0)
			next = (unsigned)r + 1;
		/* The worker answers each leaf at once: take its messages as they come. */
		if (r >= 0 && !nursery_serve(&n))
			r = -EPIPE;
	}
	if (r >= 0) {
		slot_sweep(&n);
		loop(&n, signals);
		r = 0;
	} else {
		struct wire_msg failed = {.type = WIRE_FAILED, .slot = UINT32_MAX, .error = r, .step = STEP_LEAF};
		(void)fd_send(config->worker, &failed, sizeof(failed), NULL, 0);
	}
	/* First of all the worker learns that its nursery is gone: what dies now did not end by itself. */
	(void)shutdown(config->worker, SHUT_RDWR);
	shut_down(&n);
	/* A worker that went away before its slots were made wants nothing any more. */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}
