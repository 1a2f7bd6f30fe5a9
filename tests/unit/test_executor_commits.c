/*
 * The supervisor's hold on those that store for the worker. Their places are taken here by children of the test's that stand still, or work.
 *
 * Taken out once: the kill and the answer of look_at(): "no answer"; the helpers of ran_so_far(): "it was ended while its helper worked"; `settled` of
 * commits_forget(): "an answer that belongs to nobody".
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/sys.h"
#include "executor/supervisor_commits.h"

#define PATIENCE_US 400000u
#define SEQ 7

static struct commits commits;
static int worker;

static void set_up(void)
{
	int pair[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	worker = pair[0];
	commits = (struct commits){.sock = pair[1], .most = 4, .patience_us = PATIENCE_US};
}

TestSuite(commits, .init = set_up, .timeout = 60);

static void spin(void)
{
	for (volatile unsigned i = 0;; i++)
		;
}

/* As one that commits_start() has forked. */
static pid_t add(void (*what)(void))
{
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		what();
		_exit(0);
	}
	commits.children[commits.n++] = (struct commit_child){.pid = pid, .seq = SEQ};
	commits.look_us = now_us();
	return pid;
}

/* Look for so long, or until something is answered. Return: whether it was. */
static bool look_for(uint64_t us, struct commit_reply *reply)
{
	uint64_t end = now_us() + us;
	int fds[FD_PASS_MAX];
	size_t n;
	while (now_us() < end) {
		struct pollfd p = {.fd = worker, .events = POLLIN};
		commits_look(&commits);
		if (poll(&p, 1, 20) == 1)
			return fd_recv(worker, reply, sizeof(*reply), fds, &n, MSG_DONTWAIT) == sizeof(*reply);
	}
	return false;
}

static int end_of(pid_t pid)
{
	int status = 0;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	commits_ended(&commits, pid, status);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void stand_still(void)
{
	(void)raise(SIGSTOP);
}

Test(commits, one_that_stands_still_is_answered_for)
{
	struct commit_reply reply = {0};
	pid_t pid = add(stand_still);
	cr_assert_not(look_for(PATIENCE_US / 2, &reply), "it was not given its time");
	cr_assert(look_for(20000000, &reply), "no answer");
	cr_assert(reply.seq == SEQ && reply.error == -ETIMEDOUT, "%u %d %s", reply.seq, reply.error, reply.message);
	cr_assert_eq(end_of(pid), SIGKILL);
	cr_assert_not(look_for(PATIENCE_US * 2, &reply), "answered twice");
	cr_assert(commits.n == 0 && commits_poll_ms(&commits) == -1);
}

Test(commits, one_that_died_is_answered_for)
{
	struct commit_reply reply = {0};
	pid_t pid = add(abort);
	cr_assert_eq(end_of(pid), SIGABRT);
	cr_assert(look_for(1000000, &reply) && reply.seq == SEQ && reply.error == -EIO);
}

static void have_it_done(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		spin();
	}
	(void)waitpid(pid, NULL, 0);
}

/* It waits for its helper, and does not run at all itself. */
Test(commits, one_whose_helper_works_may_take_its_time)
{
	struct commit_reply reply = {0};
	pid_t pid = add(have_it_done);
	cr_assert_not(look_for(PATIENCE_US * 4, &reply), "it was ended while its helper worked");
	commits_forget(&commits);
	cr_assert_eq(end_of(pid), SIGKILL);
}

/* Another worker's requests begin with the same numbers. */
Test(commits, nobody_is_told_of_what_is_forgotten)
{
	struct commit_reply reply = {0};
	pid_t pid = add(spin);
	commits_forget(&commits);
	cr_assert_eq(end_of(pid), SIGKILL);
	cr_assert_not(look_for(200000, &reply), "an answer that belongs to nobody");
}
