/*
 * Tries: to forge who sends: SCM_CREDENTIALS with other pids, uids and gids over a pair; to send messages and descriptors through whatever
 * it has inherited; to find descriptors beyond its streams, also through a child that exec's; SO_PEERPIDFD and SO_PEERCRED of a pair
 * that petri might have made; the other end of its streams by TIOCOUTQ's like and F_GETPIPE_SZ.
 * Must: be refused with EPERM; there is no descriptor but the three pipes, of which none is a socket.
 * Stopped by: no capability in the slot's user namespace; the child's fds are closed or unshared before the job's first instruction; judge has
 * no sendmsg.
 * Without it: (capabilities kept) "BROKEN: the uid of another: went through"; (the control socket kept open across exec) "BROKEN:
 * 1 descriptors beyond the streams".
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "reach.h"

static long send_as(int fd, pid_t pid, uid_t uid, gid_t gid)
{
	struct ucred who = {pid, uid, gid};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(who))];
	} control = {0};
	char byte = 'x';
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS, .cmsg_len = CMSG_LEN(sizeof(who))};
	memcpy(CMSG_DATA(&control.header), &who, sizeof(who));
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void inherited(void)
{
	int found = 0;
	for (int fd = 3; fd < 4096; fd++)
		found += fcntl(fd, F_GETFD) >= 0;
	must(found == 0, "%d descriptors beyond the streams", found);
	for (int fd = 0; fd <= 2; fd++) {
		struct stat st;
		must(fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode), "stream %d is a pipe", fd);
		must_fail_as("a message through a stream", send_as(fd, 1, 0, 0), ENOTSOCK, ENOSYS, EACCES, EPERM);
		struct sockaddr_un name;
		socklen_t len = sizeof(name);
		must_fail_as("the name of a stream's peer", getpeername(fd, (struct sockaddr *)&name, &len), ENOTSOCK, ENOSYS, EACCES,
			EPERM);
	}
}

int main(void)
{
	inherited();
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) {
		held("no pair: %s", strerror(errno));
		return finish();
	}
	static const unsigned ids[] = {0, 1, 65534, 65535, 1001};
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		must_fail_as("the uid of another", send_as(pair[0], getpid(), ids[i], getgid()), EPERM, EINVAL, EACCES, ENOSYS);
		must_fail_as("the gid of another", send_as(pair[0], getpid(), getuid(), ids[i]), EPERM, EINVAL, EACCES, ENOSYS);
	}
	for (int pid = 0; pid <= 50; pid++)
		if (pid != getpid())
			must_fail_as("the pid of another", send_as(pair[0], pid, getuid(), getgid()), EPERM, ESRCH, EACCES, ENOSYS);
	return finish();
}
