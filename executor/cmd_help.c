/* petri help: what the tables of the verbs say, in several forms. */
#include <stdio.h>
#include <string.h>

#include "executor/cli.h"

struct help_options {
	bool man;
	const char *completion;
};

static const struct option options[] = {
	{.name = "man", .kind = OPTION_SWITCH, OPTION_AT(struct help_options, man), .help = "print the manual page, in mdoc(7)", .more = "Without a verb petri(1): petri help --man run | man -l -"},
	{.name = "completion", .arg = "SHELL", .kind = OPTION_WORD, OPTION_AT(struct help_options, completion), .choices = "bash", .help = "print the completion for a shell: bash"},
	{0},
};

const struct verb help_verb = {
	.name = "help",
	.summary = "what petri's verbs do, as help, manual page or completion",
	.fn = cmd_help,
	.forms = (const char *const[]){"[VERB]", "--man [VERB]", "--completion bash", NULL},
	.about = "Prints what the verbs and their options are.",
	.options = options,
	.max_words = 1,
	.words = WORDS_VERBS,
};

int cmd_help(int argc, char **argv)
{
	struct help_options o = {0};
	char **words;
	int code;
	if (!verb_parse(&help_verb, &o, argc, argv, &words, &code))
		return code;
	const struct verb *verb = words[0] ? verb_find(words[0]) : NULL;
	if (words[0] && !verb)
		return verb_complain(&help_verb, "there is no verb '%s'", words[0]);
	if (o.completion)
		bash_completion(stdout);
	else if (o.man)
		verb_manual(verb, stdout);
	else if (verb)
		verb_help(verb, stdout);
	else
		petri_help(stdout);
	return 0;
}
