/*
 * What limits are tried on: `load spin N` keeps N processes busy, `load sleep` waits for ever. Static, like true.c: it runs in an
 * image that holds nothing else.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "sleep") == 0)
		for (;;)
			(void)pause();
	if (argc != 3 || strcmp(argv[1], "spin") != 0)
		return 2;
	for (long n = strtol(argv[2], NULL, 10); n > 1; n--)
		if (fork() == 0)
			break;
	for (;;)
		__asm__ volatile("");
}
