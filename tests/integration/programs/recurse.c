/* recurse MIB: use that much stack, and say so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int down(long kib)
{
	volatile char page[1024];
	memset((char *)page, (int)kib, sizeof(page));
	return kib > 0 ? down(kib - 1) + page[kib % 1024] % 2 : page[0];
}

int main(int argc, char **argv)
{
	int sum = down((argc > 1 ? atol(argv[1]) : 1) * 1024);
	printf("back %d\n", sum != 12345678);
	return 0;
}
