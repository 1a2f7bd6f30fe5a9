/* The list of petri's verbs, and the exit codes of the plain ones. */
#include "executor/cli.h"

const struct verb *const verbs[] = {
	&run_verb,
	&worker_verb,
	&submit_verb,
	&status_verb,
	&cancel_verb,
	&queue_verb,
	&top_verb,
	&image_verb,
	&layer_verb,
	&blob_verb,
	&gc_verb,
	&store_verb,
	&doctor_verb,
	&help_verb,
	NULL,
};

const struct exit_code plain_exit_codes[] = {
	{"0", "done"},
	{"1", "failed"},
	{"125", "the command line is wrong"},
	{0},
};
