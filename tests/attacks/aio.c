/*
 * Tries: to take all the AIO contexts that the kernel allows the whole machine (fs.aio-max-nr), so that no database of the host gets one,
 *        and to tell another job a number by how many are taken (fs.aio-nr)
 * Must: io_setup(2) does not exist for a job
 * Stopped by: the fixed filter, since the count belongs to no namespace and no user
 * Without it: SYS_io_setup left out of floor_build(): under default, BROKEN: io_setup(65536, &context): went through
 */
#include "attack.h"

#include <fcntl.h>
#include <sys/syscall.h>

static long taken(void)
{
	char text[32] = "";
	int fd = open("/proc/sys/fs/aio-nr", O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return -1;
	close(fd);
	return atol(text);
}

int main(void)
{
	unsigned long context = 0, other = 0;
	long before = taken();
	must_fail(syscall(SYS_io_setup, 65536, &context), ENOSYS);
	must_fail(syscall(SYS_io_setup, 1, &other), ENOSYS);
	must(taken() - before < 65536, "the machine's contexts are not taken");
	return finish();
}
