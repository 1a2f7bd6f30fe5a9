/*
 * Slot numbers, which are host-wide: taken with an OFD lock each; and what the owners of others left when they crashed. petri-nursery.
 *
 * An owner that was killed may still be dying when its successor starts: its locks go with the last of its processes, which may have
 * mounts to take down. So what could not be swept then is tried again by a child of the nursery, later and later, as long as there is any.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "pool/slot.h"

#define AGAIN_MS 100
#define AGAIN_MS_MAX 60000 /* other workers of the machine have numbers for as long as they live: looking costs a fork */

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

static bool is_mine(const struct nursery *n, unsigned number)
{
	for (unsigned i = 0; i < n->nslots; i++)
		if (n->slots[i].number == number)
			return true;
	return false;
}

/* Return: how many stay, because somebody has their number, or because a group will not go. */
static unsigned sweep(struct nursery *n)
{
	int fd = openat(n->tree->unified, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	unsigned number, stay = 0;
	char end;
	for (struct dirent *e; dir && (e = readdir(dir));) {
		if (sscanf(e->d_name, "slot-%u%c", &number, &end) != 1 || number >= POOL_NUMBERS_MAX)
			continue;
		_cleanup_close_ int lock = take_number(n, number);
		if (lock >= 0 && cgroup_leaf_remove(n->tree, number, NULL) == 0)
			continue;
		stay += !is_mine(n, number);
	}
	unsigned left[POOL_SLOTS_MAX];
	unsigned count = n->stamper->leftovers(n->stamper->env, left, POOL_SLOTS_MAX);
	for (unsigned i = 0; i < count; i++) {
		_cleanup_close_ int lock = left[i] < POOL_NUMBERS_MAX ? take_number(n, left[i]) : -1;
		if (lock >= 0)
			n->stamper->sweep(n->stamper->env, left[i]);
		else
			stay += !is_mine(n, left[i]);
	}
	return stay;
}

static void plan_next(struct sweeper *s, bool stays)
{
	s->at_ms = stays ? now_us() / 1000 + s->delay_ms : 0;
	s->delay_ms = MIN(s->delay_ms * 2, AGAIN_MS_MAX);
}

void slot_sweep(struct nursery *n)
{
	n->sweeper.delay_ms = AGAIN_MS;
	plan_next(&n->sweeper, sweep(n) > 0);
}

int sweeper_wait_ms(const struct nursery *n)
{
	if (n->sweeper.at_ms == 0)
		return -1;
	uint64_t now = now_us() / 1000;
	return n->sweeper.at_ms <= now ? 0 : (int)(n->sweeper.at_ms - now);
}

bool sweeper_has_retried(const struct nursery *n)
{
	return (n->sweeper.at_ms || n->sweeper.pid > 0) && n->sweeper.delay_ms > 2 * AGAIN_MS;
}

void sweeper_start(struct nursery *n)
{
	pid_t pid = slot_fork();
	if (pid == 0) {
		slot_let_go(n, NULL);
		_exit(sweep(n) > 0 ? 1 : 0);
	}
	n->sweeper.at_ms = 0;
	if (pid > 0)
		n->sweeper.pid = pid;
	else
		plan_next(&n->sweeper, true);
}

void sweeper_reaped(struct nursery *n, int status)
{
	n->sweeper.pid = 0;
	plan_next(&n->sweeper, status != 0);
}
