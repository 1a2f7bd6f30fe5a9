/*
 * Tries: to use up what the kernel counts by user: queued signals, POSIX timers, message queues, inotify instances and watches.
 * Must: each end at a limit; other jobs miss nothing of theirs.
 * Stopped by: limits of its own user, in a user namespace whose owner is the slot's own root; the memory limit.
 * Without it: the namespace owned by root: integration/isolation/what_the_kernel_counts_by_user found "0 0 0 0" left for the
 *   next job.
 */
// flags: --open-files 1024 --memory 64M --cpu 5s
// expect: exited 0 | memory_limit
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>

#include "attack.h"

int main(void)
{
	long signals = 0, timers = 0, queues = 0, watches = 0, instances = 0;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	sigset_t all;
	timer_t timer;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	while (timers < 10000 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
		timers++;
	while (signals < 1000000 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0)
		signals++;
	must(signals < 1000000, "%ld signals queued, %ld timers", signals, timers);
	for (char name[32]; queues < 1000; queues++) {
		snprintf(name, sizeof(name), "/q%ld", queues);
		if (mq_open(name, O_CREAT | O_RDWR, 0600, NULL) == (mqd_t)-1)
			break;
	}
	must(queues < 1000, "%ld message queues", queues);
	int fd = inotify_init(), last = fd;
	for (; last >= 0 && instances < 1000; instances++)
		last = inotify_init();
	for (; fd >= 0 && watches < 10000; watches++) {
		char path[32];
		snprintf(path, sizeof(path), "/dev/shm/%ld", watches);
		if (mknod(path, S_IFREG | 0600, 0) < 0 || inotify_add_watch(fd, path, IN_ALL_EVENTS) < 0)
			break;
	}
	must(instances < 1000, "%ld inotify instances, %ld watches", instances, watches);
	return finish();
}
