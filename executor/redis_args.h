/* An argument vector for one Redis command. Arguments are borrowed until the command was sent, which copies them;
 * numbers are kept here. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define REDIS_ARGS_NUMBERS 32

struct redis_args {
	const char **argv;
	size_t *lens;
	size_t n, cap, nnumbers;
	char numbers[REDIS_ARGS_NUMBERS][24];
};

void redis_args_clear(struct redis_args *args);
/* A vector that could not grow (no memory) stays marked: redis_args_ok() is false and sending it fails. */
void redis_args_add(struct redis_args *args, const void *data, size_t len);
void redis_args_str(struct redis_args *args, const char *text);
void redis_args_u64(struct redis_args *args, uint64_t value);
static inline int redis_args_ok(const struct redis_args *args)
{
	return args->n > 0 && args->n != SIZE_MAX;
}

#define _cleanup_args_ __attribute__((cleanup(redis_args_clear)))
