/*
 * Tries: to have a file taken that is not the job's, by changing what lies at its path all the time, until the kill and beyond it: a
 *        file, links to an image's file, a FIFO, a directory; and a directory on the way to it, which is a link at times
 * Must: the file's own bytes come, or nothing; nobody is kept waiting
 * Stopped by: outputs are opened when the leaf is empty, without symbolic links, beneath the job's root, and must be regular files
 * Without it: (open.c without RESOLVE_NO_SYMLINKS, NO_MAGICLINKS and O_NOFOLLOW) the image's /etc/passwd among the files
 */
// driven-by: tests/integration/test_attacks_results.py
#include "attack.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

static void put(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK, 0644);
	if (fd >= 0) {
		(void)!write(fd, text, strlen(text));
		close(fd);
	}
}

/* One after the other at "out", and at "way" a directory with a file "passwd" or a link to /etc, which has one as well. */
static void swap(unsigned turn, const char *own)
{
	char way[16];
	snprintf(way, sizeof(way), "way%s", own);
	(void)unlink(own);
	(void)rmdir(own);
	switch (turn % 6) {
	case 0:
		(void)!symlink("/etc/passwd", own);
		break;
	case 1:
		(void)mkfifo(own, 0666);
		break;
	case 2:
		(void)mkdir(own, 0755);
		break;
	case 3:
		(void)!symlink("/proc/self/root/etc/passwd", own);
		break;
	default:
		put(own, "mine\n");
	}
	(void)rename(own, "out");
	if (turn % 2) {
		(void)!symlink("/etc", way);
		(void)rename(way, "way");
	} else {
		(void)unlink("way");
		(void)mkdir("way", 0755);
		put("way/passwd", "mine\n");
		(void)unlink("way/passwd");
		(void)rmdir("way");
	}
}

int main(int argc, char **argv)
{
	static const char *const own[] = {"a", "b", "c", "d"};
	(void)!chdir("/work");
	for (unsigned i = 0; i < 4; i++) {
		if (fork() == 0) {
			for (int s = 1; s < NSIG; s++)
				(void)signal(s, SIG_IGN);
			for (unsigned turn = i;; turn++)
				swap(turn, own[i]);
		}
	}
	const struct timespec a_little = {.tv_nsec = argc > 1 ? atol(argv[1]) * 1000000 : 0};
	(void)nanosleep(&a_little, NULL);
	return 0;
}
