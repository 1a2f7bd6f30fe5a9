/* What the attacks on disk space share. */
#pragma once

#include <string.h>
#include <unistd.h>

#define MOST (4 << 20)	  /* --disk */
#define SLACK (256 << 10) /* the program itself, directories */

/* Write until it is refused, or four times the limit. Return: the bytes that were taken. */
static inline long fill(int fd)
{
	static char chunk[65536];
	long written = 0;
	memset(chunk, 1, sizeof(chunk));
	for (ssize_t n; written < 4L * MOST && (n = write(fd, chunk, sizeof(chunk))) > 0;)
		written += n;
	return written;
}
