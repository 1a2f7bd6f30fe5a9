/* The supervisor's hold on petri-nursery; see the header. Root. */
#include "executor/supervisor_nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"

#define NURSERY_END_MS 10000u /* as long as it may take to end once the worker's socket is closed */

static const char *project_ids(const char *setting)
{
	const char *env = getenv("PETRI_PROJECT_IDS");
	return setting && *setting ? setting : env ? env
						   : "";
}

static int nursery_path(char *ret, size_t cap, struct err *err)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return err_set(err, errno, "read /proc/self/exe");
	self[n] = '\0';
	char *slash = strrchr(self, '/');
	*slash = '\0';
	static const char *const places[] = {"%s/petri-nursery", "%s/../libexec/petri/petri-nursery",
		"%s/../executor/petri-nursery"};
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		n = snprintf(ret, cap, places[i], self);
#pragma GCC diagnostic pop
		if (n > 0 && (size_t)n < cap && access(ret, X_OK) == 0)
			return 0;
	}
	return err_say(err, ENOENT, "petri-nursery is neither beside %s/petri nor in ../libexec/petri", self);
}

static void exec_nursery(struct nursery *n, const char *path, int sock)
{
	char nslots[16];
	(void)snprintf(nslots, sizeof(nslots), "%u", n->config->nslots);
	int given[3] = {fcntl(sock, F_DUPFD, 16), fcntl(n->store, F_DUPFD, 16), fcntl(n->locks, F_DUPFD, 16)};
	for (int i = 0; i < 3; i++)
		if (given[i] < 0 || dup2(given[i], 3 + i) < 0)
			_exit(125);
	(void)sys_close_range(6, ~0u, 0);
	(void)setsid(); /* a terminal's Ctrl-C is the worker's to handle */
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	char *argv[] = {(char *)"petri-nursery", nslots, (char *)(n->config->force_tmpfs ? "tmpfs" : "auto"), (char *)project_ids(n->config->project_ids), (char *)n->core_sched, (char *)(n->config->keep_cache ? "cache" : ""), NULL};
	char level[64], form[64];
	(void)snprintf(level, sizeof(level), "PETRI_LOG=%s", log_level_name(log_get_level()));
	(void)snprintf(form, sizeof(form), "PETRI_LOG_FORMAT=%s", log_format_name(log_get_format()));
	char *envp[] = {level, form, NULL};
	(void)execve(path, argv, envp);
	_exit(125);
}

/* Worker and nursery each send while the other may be sending: neither may ever fill the socket. A message a slot lies in it
 * at the most, two while slots are being made. */
static void enlarge(int sock)
{
	const int bytes = 8 << 20;
	if (setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
		(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

int nursery_start(struct nursery *n, struct err *err)
{
	char path[PATH_MAX];
	int pair[2];
	n->due_us = 0;
	int r = nursery_path(path, sizeof(path), err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, errno, "make a socket");
	enlarge(pair[0]);
	enlarge(pair[1]);
	n->started_us = now_us();
	n->pid = fork();
	if (n->pid == 0)
		exec_nursery(n, path, pair[1]);
	int saved = errno;
	(void)close(pair[1]);
	if (n->pid < 0) {
		n->pid = 0;
		(void)close(pair[0]);
		return err_set(err, saved, "fork");
	}
	return pair[0];
}

int nursery_poll_ms(const struct nursery *n)
{
	uint64_t now = now_us();
	return !n->due_us ? -1 : n->due_us <= now ? 0
						  : (int)((n->due_us - now) / 1000 + 1);
}

void nursery_want(struct nursery *n)
{
	bool calm = now_us() - n->started_us > RESTART_FORGET_US;
	n->wait_ms = calm || !n->wait_ms ? RESTART_WAIT_MIN_MS : MIN(n->wait_ms * 2, RESTART_WAIT_MAX_MS);
	n->due_us = now_us() + (n->pid > 0 ? NURSERY_END_MS : n->wait_ms) * 1000;
}

void nursery_ended(struct nursery *n, int status)
{
	n->pid = 0;
	if (WIFSIGNALED(status))
		log_error("petri-nursery was killed by signal %d", WTERMSIG(status));
	if (n->due_us)
		n->due_us = now_us() + n->wait_ms * 1000;
}

bool nursery_is_due(struct nursery *n)
{
	if (!n->due_us || now_us() < n->due_us)
		return false;
	if (n->pid <= 0)
		return true;
	(void)kill(n->pid, SIGKILL); /* nursery_ended() comes next */
	n->due_us = now_us() + NURSERY_END_MS * 1000;
	return false;
}

void nursery_wait(struct nursery *n)
{
	if (n->pid <= 0)
		return;
	int status;
	for (unsigned waited = 0; waited < NURSERY_END_MS; waited++) {
		pid_t r = waitpid(n->pid, &status, WNOHANG);
		if (r == n->pid || (r < 0 && errno == ECHILD))
			break;
		if (waited == NURSERY_END_MS - 1)
			(void)kill(n->pid, SIGKILL);
		(void)poll(NULL, 0, 1);
	}
	n->pid = 0;
}
