/* Starting programs and waiting for them; see the header. */
#include "bench/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "bench/cpu.h"
#include "bench/workspace.h"

#define WORDS_MAX 256
#define RELEASE_LOOKS 100
#define RELEASE_LOOK_MS 10
#define ID_WORD "{id}"

/* ---- words with {id} ---- */
static char *with_id(const char *word, const char *id)
{
	const char *at = strstr(word, ID_WORD);
	size_t len = strlen(word) + strlen(id) + 1;
	char *out = malloc(len);
	if (!out)
		abort();
	if (at)
		(void)snprintf(out, len, "%.*s%s%s", (int)(at - word), word, id, at + strlen(ID_WORD));
	else
		(void)snprintf(out, len, "%s", word);
	return out;
}

static void expand(char **argv, char *ret[WORDS_MAX + 1])
{
	static unsigned serial;
	char id[64];
	size_t n = 0;
	(void)snprintf(id, sizeof(id), "petri-bench-%d-%u", getpid(), serial++);
	for (; n < WORDS_MAX && argv[n]; n++)
		ret[n] = with_id(argv[n], id);
	ret[n] = NULL;
}

static void free_words(char **words)
{
	for (; *words; words++)
		free(*words);
}

/* ---- start ---- */
static int spawn_foreign(const struct program *p, char **argv, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attr);
	(void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	(void)posix_spawn_file_actions_adddup2(&actions, p->log_fd, 2);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP); /* group 0: its own, so that all of it can be killed */
	int r = posix_spawnp(ret, argv[0], &actions, &attr, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attr);
	if (r != 0)
		(void)dprintf(p->log_fd, "%s: %s\n", argv[0], strerror(r));
	return r;
}

static int start(const struct program *p, char **argv, pid_t *ret)
{
	char *none[] = {NULL};
	if (!argv[0])
		return EINVAL;
	return p->foreign ? spawn_foreign(p, argv, ret) : posix_spawn(ret, argv[0], NULL, NULL, argv, none);
}

static void end(const struct program *p, pid_t pid)
{
	(void)kill(p->foreign ? -pid : pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void spawn_adopt(void)
{
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

static void reap_orphans(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

void spawn_release(void)
{
	for (int i = 0; i < RELEASE_LOOKS; i++) {
		reap_orphans();
		if (waitpid(-1, NULL, WNOHANG) < 0) /* ECHILD: none is left */
			return;
		(void)poll(NULL, 0, RELEASE_LOOK_MS);
	}
}

static void note_status(const struct program *p, int status)
{
	if (!p->foreign)
		return;
	if (WIFSIGNALED(status))
		(void)dprintf(p->log_fd, "ended by signal %d\n", WTERMSIG(status));
	else if (status != 0)
		(void)dprintf(p->log_fd, "ended with exit code %d\n", WEXITSTATUS(status));
}

/* ---- one ---- */
static int timed(const struct program *p, char **argv, struct spawn_cost *ret)
{
	pid_t pid;
	int status;
	uint64_t cpu = cpu_self_us(), t0 = now_ns();
	if (start(p, argv, &pid) != 0)
		return -1;
	while (waitpid(pid, &status, 0) != pid) {
		if (errno != EINTR || bench_interrupted) {
			end(p, pid);
			return -1;
		}
	}
	ret->ns = now_ns() - t0;
	if (p->foreign)
		reap_orphans();
	ret->cpu_us = cpu_self_us() - cpu;
	note_status(p, status);
	return status == 0 ? 0 : -1;
}

int spawn_once(const struct program *p, struct spawn_cost *ret)
{
	char *words[WORDS_MAX + 1] = {NULL};
	if (!p->foreign)
		return timed(p, p->argv, ret);
	expand(p->argv, words);
	int r = timed(p, words, ret);
	free_words(words);
	return r;
}

/* ---- many ---- */
struct fleet {
	const struct program *program;
	pid_t *pids; /* 0: a free place */
	unsigned places, running, started, ended;
	bool failed;
};

static void fleet_start(struct fleet *f)
{
	char *words[WORDS_MAX + 1] = {NULL};
	pid_t pid;
	unsigned at = 0;
	while (f->pids[at])
		at++;
	if (f->program->foreign)
		expand(f->program->argv, words);
	if (start(f->program, f->program->foreign ? words : f->program->argv, &pid) == 0) {
		f->pids[at] = pid;
		f->running++;
		f->started++;
	} else {
		f->failed = true;
	}
	free_words(words);
}

static void fleet_wait(struct fleet *f)
{
	int status;
	pid_t pid = waitpid(-1, &status, 0);
	if (pid < 0) {
		f->failed = f->failed || errno != EINTR || bench_interrupted;
		return;
	}
	for (unsigned i = 0; i < f->places; i++) {
		if (f->pids[i] != pid)
			continue;
		f->pids[i] = 0;
		f->running--;
		f->ended++;
		note_status(f->program, status);
		f->failed = f->failed || status != 0;
	}
}

int spawn_rate(const struct program *p, unsigned runs, unsigned inflight, double seconds, struct spawn_rate *ret)
{
	_cleanup_free_ pid_t *pids = calloc(inflight, sizeof(*pids));
	if (!pids)
		abort();
	struct fleet f = {.program = p, .pids = pids, .places = inflight};
	uint64_t cpu = cpu_self_us(), t0 = now_us(), until = seconds > 0 ? t0 + (uint64_t)(seconds * 1e6) : UINT64_MAX;
	bool more = true;
	while (!f.failed && (more || f.running > 0)) {
		more = f.started < runs && now_us() < until;
		if (more && f.running < inflight)
			fleet_start(&f);
		else if (f.running > 0)
			fleet_wait(&f);
	}
	for (unsigned i = 0; i < inflight; i++)
		if (pids[i])
			end(p, pids[i]);
	if (f.failed || f.ended == 0)
		return -1;
	*ret = (struct spawn_rate){.per_s = f.ended * 1e6 / (double)(now_us() - t0), .cpu_us = (double)(cpu_self_us() - cpu) / f.ended, .runs = f.ended};
	return 0;
}
