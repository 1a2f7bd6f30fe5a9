/* Argument vectors for Redis commands. Nothing is ever formatted into one string: a job's bytes stay arguments. */
#include "executor/redis_args.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

void redis_args_clear(struct redis_args *args)
{
	free(args->argv);
	free(args->lens);
	*args = (struct redis_args){0};
}

void redis_args_add(struct redis_args *args, const void *data, size_t len)
{
	if (args->n == SIZE_MAX)
		return;
	if (args->n == args->cap) {
		size_t cap = args->cap ? args->cap * 2 : 32;
		const char **argv = reallocarray(args->argv, cap, sizeof(*argv));
		if (argv)
			args->argv = argv;
		size_t *lens = reallocarray(args->lens, cap, sizeof(*lens));
		if (lens)
			args->lens = lens;
		if (!argv || !lens) {
			args->n = SIZE_MAX;
			return;
		}
		args->cap = cap;
	}
	args->argv[args->n] = data;
	args->lens[args->n++] = len;
}

void redis_args_str(struct redis_args *args, const char *text)
{
	redis_args_add(args, text, strlen(text));
}

void redis_args_u64(struct redis_args *args, uint64_t value)
{
	if (args->nnumbers == ARRAY_SIZE(args->numbers)) {
		args->n = SIZE_MAX;
		return;
	}
	char *text = args->numbers[args->nnumbers++];
	(void)snprintf(text, sizeof(args->numbers[0]), "%" PRIu64, value);
	redis_args_str(args, text);
}
