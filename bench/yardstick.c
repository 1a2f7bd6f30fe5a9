/* The yardstick's process and its two questions; see the header. */
#include "bench/yardstick.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/workspace.h"

struct question {
	unsigned index, runs, inflight; /* runs 0: one, timed */
	double seconds;
};

struct answer {
	int result;
	struct spawn_cost once;
	struct spawn_rate rate;
};

static void serve(int sock, const struct program *programs, size_t n)
{
	struct question q;
	while (recv(sock, &q, sizeof(q), 0) == (ssize_t)sizeof(q)) {
		struct answer a = {.result = -1};
		if (q.index < n && q.runs == 0)
			a.result = spawn_once(&programs[q.index], &a.once);
		else if (q.index < n)
			a.result = spawn_rate(&programs[q.index], q.runs, q.inflight, q.seconds, &a.rate);
		if (send(sock, &a, sizeof(a), MSG_NOSIGNAL) < 0)
			break;
	}
}

int yardstick_start(struct yardstick *y, const struct program *programs, size_t n, struct err *err)
{
	int socks[2];
	pid_t self = getpid();
	*y = (struct yardstick){.sock = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return err_set(err, errno, "make a socket");
	y->pid = fork();
	if (y->pid == 0) {
		bench_default_signals();
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		(void)close(socks[0]);
		if (getppid() == self)
			serve(socks[1], programs, n);
		_exit(0);
	}
	int saved = errno;
	(void)close(socks[1]);
	y->sock = socks[0];
	return y->pid < 0 ? err_set(err, saved, "fork") : 0;
}

static int ask(struct yardstick *y, const struct question *q, struct answer *ret)
{
	ssize_t n;
	if (send(y->sock, q, sizeof(*q), MSG_NOSIGNAL) < 0)
		return -1;
	while ((n = recv(y->sock, ret, sizeof(*ret), 0)) < 0 && errno == EINTR)
		;
	return n == (ssize_t)sizeof(*ret) ? ret->result : -1;
}

int yardstick_once(struct yardstick *y, unsigned index, struct spawn_cost *ret)
{
	struct question q = {.index = index};
	struct answer a;
	int r = ask(y, &q, &a);
	*ret = r == 0 ? a.once : (struct spawn_cost){0};
	return r;
}

int yardstick_rate(struct yardstick *y, unsigned index, unsigned runs, unsigned inflight, double seconds, struct spawn_rate *ret)
{
	struct question q = {.index = index, .runs = runs, .inflight = inflight, .seconds = seconds};
	struct answer a;
	int r = ask(y, &q, &a);
	*ret = r == 0 ? a.rate : (struct spawn_rate){0};
	return r;
}

void yardstick_stop(struct yardstick *y)
{
	/* It ends by that, or with this process. No signal, no wait: petri's supervisor may have reaped it already. */
	if (y->pid > 0)
		(void)close(y->sock);
	*y = (struct yardstick){.sock = -1};
}
