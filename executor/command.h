/* A program's argv, environment and directory as one run of NUL-terminated strings, in this order: what a zygote is sent. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "executor/job.h"
#include "layers/store.h"

struct command {
	char *text; /* owned */
	size_t len, cap;
	uint32_t argc, envc;
};

/*
 * command_make - the job's argv, or the image's when it gives none; the job's env over the image's over petri's defaults; the cwd.
 * Return: 0; -ENOENT when there is no argv at all; -E2BIG past DISPATCH_STRINGS_MAX; -ENOMEM.
 */
int command_make(struct command *ret, const struct job *job, const struct image *image);
/* command_add_argv - append words. Return: 0, -E2BIG or -ENOMEM. */
int command_add_argv(struct command *command, char *const *argv);
void command_clear(struct command *command);
/* command_next - the string after @word, which is one of the command's; NULL after the last. command->text is the first. */
const char *command_next(const struct command *command, const char *word);
