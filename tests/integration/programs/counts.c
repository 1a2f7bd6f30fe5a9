/* counts [hold]: what the kernel counts by user: inotify instances, queued signals, POSIX timers, message queues. Prints how many
 * inotify instances (of 4), signals (of 4), timers (of 4) and queues (of 1) it can have; "hold": it takes all there are, says how many,
 * and keeps them for three seconds. */
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

static bool one_queue(int n)
{
	struct mq_attr attr = {.mq_maxmsg = 10, .mq_msgsize = 4000};
	char name[32];
	snprintf(name, sizeof(name), "/petri-counts-%d", n);
	mqd_t q = mq_open(name, O_CREAT | O_RDWR, 0600, &attr);
	if (q != (mqd_t)-1)
		mq_unlink(name);
	return q != (mqd_t)-1;
}

int main(int argc, char **argv)
{
	bool hold = argc > 1 && strcmp(argv[1], "hold") == 0;
	int most = hold ? 1 << 20 : 4, inotify = 0, queues = 0, signals = 0, timers = 0;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	sigset_t all;
	timer_t timer;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	while (inotify < most && inotify_init() >= 0)
		inotify++;
	while (queues < (hold ? most : 1) && one_queue(queues))
		queues++;
	while (timers < most && timers < 1000 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
		timers++;
	while (signals < most && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0)
		signals++;
	printf("%d %d %d %d\n", inotify, signals, timers, queues);
	fflush(stdout);
	if (hold)
		sleep(3);
	return 0;
}
