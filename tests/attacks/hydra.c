/*
 * Tries: to outrun its end: processes that fork all the time, half of them stopped, in sessions of their own, deaf to signals, and that stop
 *        and kill all they can see, while petri kills the job and collects its outputs
 * Must: the result comes soon after the limit or the cancellation, once, with what was written until then; the slot serves the next job
 * Stopped by: cgroup.kill, which kills what is being forked as well; no result before the leaf is empty
 * Without it: (leaf_kill() that does not write to cgroup.kill) a job with a wall limit of 100 ms ended after 5.07 s
 */
// driven-by: tests/integration/test_attacks_petri.py
#include "attack.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* What is slow to die where little CPU time is given: many, with memory to be freed. */
static void burn(void)
{
	for (int i = 0; i < 12 && fork() != 0; i++)
		;
	static char memory[4 << 20];
	for (volatile unsigned turn = 0;; turn++)
		if (turn < sizeof(memory))
			memory[turn] = 1;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "burn") == 0)
		burn();
	int out = open("/work/out", O_CREAT | O_WRONLY | O_TRUNC, 0644);
	(void)!write(out, "mine\n", 5);
	bool stops = argc > 1 && strcmp(argv[1], "stop") == 0;
	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_IGN);
	for (unsigned turn = 0;; turn++) {
		if (fork() == 0) {
			(void)setsid();
			if (fork() == 0 && turn % 2)
				(void)raise(SIGSTOP);
		}
		if (stops && turn % 64 == 63)
			(void)kill(-1, SIGSTOP);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}
