/* The command line: one function a verb, and what they share. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "executor/options.h"

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
int cmd_help(int argc, char **argv);

extern const struct verb run_verb, worker_verb, submit_verb, status_verb, cancel_verb, queue_verb, top_verb, image_verb, layer_verb, blob_verb, gc_verb, store_verb, doctor_verb, help_verb;

/* The option --state of the verbs that use the store; see state_dir(). */
#define STATE_OPTION(type, member) \
	{ \
		.name = "state", .arg = "DIR", .kind = OPTION_WORD, OPTION_AT(type, member), .complete = COMPLETE_DIRECTORY, \
		.standard = "PETRI_STATE, or /var/lib/petri", .help = "the store's directory" \
	}

/* cli_document - read a job document: a file, or "-" for standard input, up to one byte more than a job may have, so that
 * the job's parser is the one to refuse it. *ret is the caller's to free. Return: 0 or -errno. */
int cli_document(const char *path, char **ret, size_t *ret_len, struct err *err);
