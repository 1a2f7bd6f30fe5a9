/*
 * Tries: as many kernel objects as fds allow: epoll, eventfd, timerfd, signalfd, memfd, and fds sent in messages that nobody
 *   takes, in a loop.
 * Must: end at --open-files, and in flight at the same number.
 * Stopped by: RLIMIT_NOFILE, which in-flight fds of a user count towards as well; sendmsg(2) is not there under judge.
 * Without it: 800 fds more than asked: "BROKEN: 995 objects".
 */
// flags: --open-files 200
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "attack.h"

static int in_flight(void)
{
	int pair[2], sent = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
		return 0;
	for (; sent < 5000; sent++) {
		union {
			struct cmsghdr head;
			char room[CMSG_SPACE(sizeof(int))];
		} control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
		struct msghdr message = {.msg_iov = &(struct iovec){"x", 1}, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
		memcpy(CMSG_DATA(&control.head), &pair[0], sizeof(int));
		if (sendmsg(pair[1], &message, 0) < 0)
			break;
	}
	return sent;
}

int main(void)
{
	int sent = in_flight(), opened = 0;
	struct rlimit more = {100000, 100000};
	sigset_t none;
	sigemptyset(&none);
	must(sent <= 400, "%d fds in flight", sent);
	must_fail(setrlimit(RLIMIT_NOFILE, &more), EPERM);
	for (; opened < 5000; opened++) {
		int kind = opened % 5;
		int fd = kind == 0 ? epoll_create1(0) : kind == 1 ? eventfd(0, 0)
			: kind == 2				  ? timerfd_create(CLOCK_MONOTONIC, 0)
			: kind == 3				  ? signalfd(-1, &none, 0)
								  : memfd_create("x", 0);
		if (fd < 0)
			break;
	}
	must(opened <= 200, "%d objects", opened);
	return finish();
}
