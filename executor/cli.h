/* The command line: one function a verb, and what they share. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define EXIT_USAGE 125 /* as for a rejected job: never to be mistaken for a job's own code */

int cmd_run(int argc, char **argv);
int cmd_worker(int argc, char **argv);
int cmd_submit(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_cancel(int argc, char **argv);
int cmd_queue(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_blob(int argc, char **argv);
int cmd_layer(int argc, char **argv);
int cmd_gc(int argc, char **argv);
int cmd_store(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

/*
 * A cursor over arguments. cli_option() takes "--name VALUE" or "--name=VALUE".
 */
struct cli {
	int argc, at;
	char **argv;
	const char *verb;
	bool failed; /* a message was printed */
};

/* cli_is - the current argument is this option without a value; it is consumed. */
bool cli_is(struct cli *cli, const char *name);
/* cli_option - the current argument is this option: *ret is its value, and both are consumed. A missing value prints
 * an error and sets failed (and still returns true). */
bool cli_option(struct cli *cli, const char *name, const char **ret);
/* cli_more - there is a current argument that begins with '-', and nothing failed. "--" is consumed and ends them. */
bool cli_more(struct cli *cli);
/*
 * cli_words - all that is no option, wherever options stand between: moved to argv[at] up to argc, in order. Each option is given to
 * `option`, which takes it or calls cli_unknown(); after "--" everything is a word.
 */
void cli_words(struct cli *cli, void (*option)(struct cli *cli, void *ctx), void *ctx);
/* cli_unknown - complain about the current argument. */
void cli_unknown(struct cli *cli);
/* cli_scratch - "auto" or "tmpfs"; anything else is an error. Return: tmpfs was asked for. */
bool cli_scratch(struct cli *cli, const char *value);
/* cli_document - read a job document: a file, or "-" for standard input, up to one byte more than a job may have, so that
 * the job's parser is the one to refuse it. *ret is the caller's to free. Return: 0 or -errno. */
int cli_document(const char *path, char **ret, size_t *ret_len, struct err *err);
/* cli_error - "petri VERB: message", sets failed. */
void cli_error(struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
