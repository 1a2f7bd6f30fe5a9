/*
 * Runtimes: interpreters that are started ahead in a slot's zygote and wait there for the one job that they will run
 * (docs/runtimes.md has the protocol). Here is what belongs to no slot: which there are, which jobs one can stand in for, and the job
 * as it is told to it. Worker, unprivileged; pure memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "executor/command.h"
#include "executor/job.h"
#include "layers/store.h"

#define RUNTIME_FILES_MAX (1u << 20)   /* bytes of a warm job's files together */
#define RUNTIME_WORDS_MAX (256u << 10) /* of its argv and env */

struct runtime_shipped;

struct runtime {
	const struct runtime_shipped *shipped; /* NULL: the image's own */
	struct command command;		       /* the interpreter's: argv, the image's env and cwd */
	struct command serves;		       /* its argv: what it stands in for */
	uint64_t retry_us;		       /* not to be tried before */
	unsigned failures;		       /* since it was last ready */
};

/* Generated from executor/runtimes/: the source that a shipped interpreter is given with -c or -e. */
struct runtime_source {
	const char *name, *text;
};
extern const struct runtime_source runtime_sources[];

/* runtime_is_shipped - is there one of that name? */
bool runtime_is_shipped(const char *name);

/*
 * runtime_make - from what an image says. @ret: to be released with runtime_clear().
 * Return: 0; 1 when the image has none; -ENOENT when its name is not known here; or -errno.
 */
int runtime_make(const struct image *image, struct runtime *ret);
void runtime_clear(struct runtime *runtime);
/* runtime_equal - started and used alike. */
bool runtime_equal(const struct runtime *a, const struct runtime *b);

/*
 * runtime_serves - can this runtime run the job such that nobody could tell? @command: the job's.
 * It needs inline files, the usual rlimits, no layers, and nothing that only an interpreter's start would take notice of.
 */
bool runtime_serves(const struct runtime *runtime, const struct job *job, const struct command *command,
	const struct job_limits *usual);

/* runtime_job_json - the job as the protocol has it. @ret: the caller frees it. Return: 0, or -errno. */
int runtime_job_json(const struct job *job, const struct command *command, char **ret, size_t *ret_len);
