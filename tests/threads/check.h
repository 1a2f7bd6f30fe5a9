/* What the programs here share: a check that ends the program, and its line. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition, ...) \
	do { \
		if (!(condition)) { \
			(void)fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
			(void)fprintf(stderr, __VA_ARGS__); \
			(void)fputc('\n', stderr); \
			exit(1); \
		} \
	} while (0)
