/* stubborn stay|leave: does all that a program can do to be hard to end: ignores signals, closes its streams, starts
 * daemons by double fork in sessions of their own, one of them stopped, and uses all the CPU that it gets. "leave": the
 * first process exits 0 at once and the daemons stay. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void spin(void)
{
	for (volatile unsigned long i = 0;; i++)
		;
}

static void start_daemon(int stopped)
{
	if (fork() != 0)
		return;
	(void)setsid();
	if (fork() != 0)
		_exit(0);
	if (stopped)
		(void)raise(SIGSTOP);
	spin();
}

int main(int argc, char **argv)
{
	for (int i = 1; i < 64; i++)
		(void)signal(i, SIG_IGN);
	for (int i = 0; i < 3; i++)
		(void)close(i);
	start_daemon(0);
	start_daemon(1);
	if (argc > 1 && strcmp(argv[1], "leave") == 0)
		return 0;
	spin();
}
