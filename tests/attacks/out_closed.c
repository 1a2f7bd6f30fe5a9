/*
 * Tries: to close its streams, so that what it does next lands where petri expects output; to give its own pipe odd flags.
 * Must: end as it ends; nothing but what it wrote to the pipe is its output.
 * Stopped by: the streams are pipes of the job's own, of which the worker holds other ends and other descriptions.
 * Without it: (the worker given the job's own end of stdout, not the other one) "ended as ['signaled', 'signaled 13'], wanted
 *   ['exited 0']".
 */
// flags: --output 4K --disk 8M
#include <fcntl.h>

#include "attack.h"

int main(void)
{
	static char chunk[65536];
	int keep = dup(1);
	memset(chunk, 'x', sizeof(chunk));
	close(0);
	close(1);
	close(2);
	int file = open("/work/file", O_CREAT | O_RDWR, 0600), second = open("/work/file", O_RDWR), third = open("/work/file", O_RDWR);
	for (int i = 0; i < 16; i++)
		if (write(1, chunk, sizeof(chunk)) < 0)
			break;
	fcntl(keep, F_SETFL, O_NONBLOCK | O_ASYNC | O_DIRECT);
	fcntl(keep, F_SETOWN, 1);
	fcntl(keep, F_SETPIPE_SZ, 4096);
	dup2(keep, 1);
	must(file >= 0 && second >= 0 && third >= 0, "what is written to files is not output");
	return finish();
}
