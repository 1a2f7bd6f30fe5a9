/* Loop devices for `petri store init`. Runs as root. */
#include "layers/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"

#define LOOP_MAJOR_NUMBER 7
#define LOOP_TRIES 16

static int open_device(unsigned n, int flags, char ret_name[LOOP_NAME_MAX])
{
	(void)snprintf(ret_name, LOOP_NAME_MAX, "/dev/loop%u", n);
	int fd = open(ret_name, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int loop_attach(int file, char ret_name[LOOP_NAME_MAX], struct err *err)
{
	_cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return err_set(err, errno, "open /dev/loop-control (is the module loop loaded?)");
	for (int i = 0; i < LOOP_TRIES; i++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE);
		if (n < 0)
			return err_set(err, errno, "find a free loop device");
		_cleanup_close_ int fd = open_device((unsigned)n, O_RDWR, ret_name);
		if (fd < 0)
			return err_set(err, fd, "open %s", ret_name);
		struct loop_config config = {.fd = (unsigned)file, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			return TAKE_FD(fd);
		if (errno != EBUSY) /* somebody else was quicker */
			return err_set(err, errno, "attach a file to %s", ret_name);
	}
	return err_say(err, EBUSY, "no loop device stayed free for long enough");
}

int loop_backs(dev_t dev, const struct stat *st, char ret_name[LOOP_NAME_MAX])
{
	struct loop_info64 info;
	if (major(dev) != LOOP_MAJOR_NUMBER)
		return 0;
	_cleanup_close_ int fd = open_device(minor(dev), O_RDONLY, ret_name);
	if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0)
		return 0;
	return info.lo_inode == st->st_ino && info.lo_device == st->st_dev;
}
