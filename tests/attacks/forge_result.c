/*
 * Tries: to tell petri another end than its own: messages in the form of the zygote's and results in JSON, written to every descriptor
 *        that a job might have inherited, by its number and by way of /proc, the init's too, and sent where one is a socket
 * Must: no descriptor but the three streams is there; the result is the exit code, and what was written to a stream is only output
 * Stopped by: close-on-exec and close_range before the exec; the control socket is the init's, which is another user and not dumpable
 * Without it: no drop_fds() and no O_CLOEXEC on the control socket: BROKEN: descriptor 10 is open, and 12; the worker said "unknown message
 *             from a zygote", and believed another: the job's time became 0
 */
// expect: exited 41
#include "attack.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/socket.h>

static const char result[] = "\n{\"id\":\"x\",\"status\":\"exited\",\"exit_code\":0,\"stdout\":{\"data\":\"forged\"}}\n"
			     "petri: status=exited code=0\n";

/* Type, step, error, index: as pool/wire.h has it, whatever the order of the day. */
static void tell(int fd)
{
	for (uint32_t type = 0; type < 8; type++) {
		const uint32_t message[8] = {type};
		for (size_t size = 16; size <= sizeof(message); size += 4) {
			if (write(fd, message, size) < 0)
				return;
			(void)!send(fd, message, size, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
	}
	(void)!write(fd, result, sizeof(result) - 1);
}

static void through_proc(const char *path)
{
	char name[300];
	DIR *dir = opendir(path);
	if (!dir) {
		held("%s: %s", path, strerror(errno));
		return;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		int number = atoi(e->d_name);
		if (e->d_name[0] == '.' || number <= 2 || number == dirfd(dir))
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		int fd = open(name, O_WRONLY | O_NONBLOCK);
		if (fd >= 0)
			tell(fd);
		broken("there is %s", name);
	}
	closedir(dir);
}

int main(void)
{
	unsigned open_fds = 0;
	for (int fd = 3; fd < 1024; fd++) {
		if (fcntl(fd, F_GETFD) >= 0) {
			broken("descriptor %d is open", fd);
			open_fds++;
			tell(fd);
		}
	}
	must(open_fds == 0, "no descriptors above 2");
	through_proc("/proc/self/fd");
	through_proc("/proc/1/fd");
	through_proc("/proc/1/task/1/fd");
	must_fail(send(0, result, sizeof(result), MSG_NOSIGNAL), ENOTSOCK, EACCES);
	must_fail(write(0, result, sizeof(result)), EBADF);
	(void)!write(1, result, sizeof(result) - 1);
	(void)!write(2, result, sizeof(result) - 1);
	return finish() ? 1 : 41;
}
