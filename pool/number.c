/* Slot numbers, which are host-wide: taken with an OFD lock each; and what the owners of others left when they crashed. petri-nursery. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "pool/slot.h"

static int take_number(struct nursery *n, unsigned number)
{
	char name[32];
	(void)snprintf(name, sizeof(name), "slot-%u", number);
	_cleanup_close_ int fd = openat(n->config->lock_dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int slot_take_number(struct nursery *n, unsigned first, int *ret_lock, struct err *err)
{
	int busy = 0;
	for (unsigned number = first; number < POOL_NUMBERS_MAX; number++) {
		_cleanup_close_ int lock = take_number(n, number);
		if (lock == -EAGAIN || lock == -EACCES)
			continue;
		if (lock < 0)
			return err_set(err, lock, "lock slot %u", number);
		int r = cgroup_leaf_remove(n->tree, number, err);
		if (r == 0) {
			*ret_lock = TAKE_FD(lock);
			return (int)number;
		}
		/* Something in it cannot be killed, or is no petri's: another number does as well. */
		busy = r;
		log_write(LOG_WARN_, "nursery: slot=%u error=\"%s\", taking another", number, err_msg(err));
	}
	return busy ? busy : err_say(err, EBUSY, "all %d slot numbers of this machine are taken", POOL_NUMBERS_MAX);
}

void slot_sweep(struct nursery *n)
{
	int fd = openat(n->tree->unified, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	unsigned number;
	char end;
	for (struct dirent *e; dir && (e = readdir(dir));) {
		if (sscanf(e->d_name, "slot-%u%c", &number, &end) != 1 || number >= POOL_NUMBERS_MAX)
			continue;
		_cleanup_close_ int lock = take_number(n, number);
		if (lock >= 0) /* ours and other workers' are locked */
			(void)cgroup_leaf_remove(n->tree, number, NULL);
	}
	unsigned left[POOL_SLOTS_MAX];
	unsigned count = n->stamper->leftovers(n->stamper->env, left, POOL_SLOTS_MAX);
	for (unsigned i = 0; i < count; i++) {
		_cleanup_close_ int lock = left[i] < POOL_NUMBERS_MAX ? take_number(n, left[i]) : -1;
		if (lock >= 0)
			n->stamper->sweep(n->stamper->env, left[i]);
	}
}
