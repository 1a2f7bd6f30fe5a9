/* forks [MAX] [thread]: make processes (or threads) that wait until there are MAX or no more can be had; print how many,
 * and exit 1 when MAX was not reached. Each is held by a pipe, so that none outlives the count. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int gate[2];

static void *wait_at_gate(void *unused)
{
	char byte;
	(void)!read(gate[0], &byte, 1);
	return unused;
}

int main(int argc, char **argv)
{
	int max = argc > 1 ? atoi(argv[1]) : 1000000, made = 0, threads = argc > 2 && strcmp(argv[2], "thread") == 0;
	if (pipe(gate) < 0)
		return 2;
	while (made < max) {
		pthread_t id;
		pid_t pid = 1;
		if (threads ? pthread_create(&id, NULL, wait_at_gate, NULL) != 0 : (pid = fork()) < 0)
			break;
		if (pid == 0) {
			close(gate[1]);
			wait_at_gate(NULL);
			_exit(0);
		}
		made++;
	}
	printf("%d\n", made);
	fflush(stdout);
	close(gate[1]);
	while (!threads && wait(NULL) > 0)
		;
	_exit(made == max ? 0 : 1);
}
