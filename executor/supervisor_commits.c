/* Storing for the worker, in processes of the supervisor's; see the header. */
#include "executor/supervisor_commits.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/privileges.h"
#include "executor/supervisor.h"

#define LOOKS_PER_PATIENCE 8u
#define HELPERS_MAX 16
#define CPU_MAX_S 3600 /* as the jail's own (layers/jail.c): one that turns in circles ends as well */

void commits_refuse(struct commits *c, uint32_t seq, int error, const char *why)
{
	struct commit_reply reply = {.seq = seq, .error = error};
	(void)snprintf(reply.message, sizeof(reply.message), "%s", why);
	(void)fd_send(c->sock, &reply, sizeof(reply), NULL, 0);
}

/* ---- in the child ---- */
/* Rights that cannot be given up are the host's fault, whatever error it calls it by: libseccomp says EINVAL where the kernel has no memory. */
static int store_layer(struct commits *c, const struct commit_request *request, int dir, struct commit_reply *reply, struct err *err)
{
	struct layer_info info = {0};
	if (privileges_layer(err) < 0)
		return -EIO;
	struct layer_commit commit = {.dirfd = dir, .prefix = request->prefix, .uid_base = request->uid_base, .max_bytes = request->max_bytes, .max_entries = request->max_entries};
	int r = layer_commit(c->store, &commit, &info, err);
	memcpy(reply->id, info.id, sizeof(reply->id));
	return r;
}

/* With no more rights than the worker has, which could do it as well, but not without keeping its loop from everything else. */
static int store_blob(struct commits *c, pid_t parent, const struct commit_request *request, int fd, struct commit_reply *reply, struct err *err)
{
	static const struct confine_needs nothing;
	if (privileges_worker(&nothing, store_fd(c->store), 0, parent, err) < 0)
		return -EIO;
	return blob_put_fd(c->store, fd, request->max_bytes, STORE_JOB, reply->id, &reply->bytes, err);
}

static _Noreturn void child(struct commits *c, const struct commit_request *request, int fd, pid_t parent)
{
	struct err err = ERR_INIT;
	struct commit_reply reply = {.seq = request->seq};
	const struct rlimit cpu = {CPU_MAX_S, CPU_MAX_S};
	sigset_t none;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(1);
	(void)setrlimit(RLIMIT_CPU, &cpu); /* refused where it is lower already */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	reply.error = request->kind == COMMIT_BLOB ? store_blob(c, parent, request, fd, &reply, &err) : store_layer(c, request, fd, &reply, &err);
	(void)snprintf(reply.message, sizeof(reply.message), "%.250s", err_msg(&err));
	_exit(fd_send(c->sock, &reply, sizeof(reply), NULL, 0) < 0); /* unsaid: then the supervisor says that it failed */
}

/* ---- their lives ---- */
void commits_start(struct commits *c, const struct commit_request *request, int fd)
{
	pid_t parent = getpid(), pid = c->n < c->most ? fork() : -1;
	if (pid == 0)
		child(c, request, fd, parent);
	if (pid < 0) {
		commits_refuse(c, request->seq, -EIO, "cannot fork to store it");
		return;
	}
	for (unsigned i = 0; i < COMMITS_MAX; i++) {
		if (c->children[i].pid != 0)
			continue;
		c->children[i] = (struct commit_child){.pid = pid, .seq = request->seq};
		c->n++;
		break;
	}
	if (!c->look_us)
		c->look_us = now_us() + c->patience_us / LOOKS_PER_PATIENCE;
}

void commits_ended(struct commits *c, pid_t pid, int status)
{
	for (unsigned i = 0; i < COMMITS_MAX; i++) {
		struct commit_child *child = &c->children[i];
		if (child->pid != pid)
			continue;
		/* One that did not end by itself has not answered: the job must not wait for ever. */
		if (status != 0 && !child->settled)
			commits_refuse(c, child->seq, -EIO, "the process that was to store it died");
		*child = (struct commit_child){.pid = 0};
		c->n--;
		return;
	}
}

bool commit_request_sane(const struct commit_request *request)
{
	uint32_t base = request->uid_base;
	bool range = base >= POOL_UID_BASE && base < POOL_UID_BASE + POOL_NUMBERS_MAX * POOL_UID_COUNT && base % POOL_UID_COUNT == POOL_UID_BASE % POOL_UID_COUNT;
	if (request->kind == COMMIT_BLOB)
		return request->max_bytes < UINT64_MAX;
	return request->kind == COMMIT_LAYER && range && memchr(request->prefix, '\0', sizeof(request->prefix)) && request->prefix[0] == '/';
}

/* ---- those that stand still ---- */
/* How long a process has run so far, in ns; 0: it is gone. Linux tells it of any process. */
static uint64_t process_ns(pid_t pid)
{
	clockid_t id;
	struct timespec ran;
	if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &ran) < 0)
		return 0;
	return (uint64_t)ran.tv_sec * 1000000000u + (uint64_t)ran.tv_nsec;
}

/* It, and the helper that does the work for it (layers/jail.c). Return: false when that cannot be told, on a kernel without CONFIG_PROC_CHILDREN. */
static bool ran_so_far(pid_t pid, uint64_t *ret_ns)
{
	char path[64];
	pid_t helpers[HELPERS_MAX];
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	if (!f)
		return false;
	*ret_ns = process_ns(pid);
	for (size_t i = 0; i < HELPERS_MAX && fscanf(f, "%d", &helpers[i]) == 1; i++)
		*ret_ns += process_ns(helpers[i]);
	return true;
}

static void look_at(struct commits *c, struct commit_child *child)
{
	uint64_t ran = 0;
	/* Any other figure: a helper that has ended takes its own with it. */
	if (!ran_so_far(child->pid, &ran) || ran != child->ran_ns) {
		child->ran_ns = ran;
		child->still = 0;
		return;
	}
	/* Looks, not time: while the whole machine stood still nobody could run. */
	if (++child->still < LOOKS_PER_PATIENCE)
		return;
	char why[80];
	(void)snprintf(why, sizeof(why), "the process that was to store it has not run for %" PRIu64 " s", c->patience_us / 1000000);
	log_error("commit: %s, ending it", why);
	(void)kill(child->pid, SIGKILL);
	child->settled = true; /* it may not even heed that, for as long as the filesystem does not answer */
	commits_refuse(c, child->seq, -ETIMEDOUT, why);
}

void commits_look(struct commits *c)
{
	uint64_t now = now_us();
	if (!c->look_us || now < c->look_us)
		return;
	for (unsigned i = 0; i < COMMITS_MAX; i++)
		if (c->children[i].pid > 0 && !c->children[i].settled)
			look_at(c, &c->children[i]);
	c->look_us = c->n > 0 ? now + c->patience_us / LOOKS_PER_PATIENCE : 0;
}

int commits_poll_ms(const struct commits *c)
{
	uint64_t now = now_us();
	return !c->look_us ? -1 : c->look_us <= now ? 0
						    : (int)((c->look_us - now) / 1000 + 1);
}

void commits_forget(struct commits *c)
{
	for (unsigned i = 0; i < COMMITS_MAX; i++) {
		if (c->children[i].pid <= 0)
			continue;
		c->children[i].settled = true;
		(void)kill(c->children[i].pid, SIGKILL);
	}
}
