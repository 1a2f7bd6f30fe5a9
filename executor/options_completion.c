/*
 * Completion for bash, from the verbs' tables. The script uses nothing but bash itself, so that it also works where the package
 * bash-completion is not installed and the script is sourced by hand.
 */
#include <string.h>

#include "base/cleanup.h"
#include "executor/options.h"

static const char prologue[] =
	"# bash completion for petri; made by `petri help --completion bash`.\n"
	"_petri_words() {\n"
	"\tmapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$2\")\n"
	"}\n"
	"_petri_files() {\n"
	"\tmapfile -t COMPREPLY < <(compgen \"$1\" -- \"$2\")\n"
	"\t[ ${#COMPREPLY[@]} -eq 0 ] || compopt -o filenames 2>/dev/null\n"
	"}\n"
	"_petri() {\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev= verb=${COMP_WORDS[1]:-} i word=0\n"
	"\tCOMPREPLY=()\n"
	"\t[ \"$COMP_CWORD\" -gt 0 ] && prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	"\t# \"--name=value\" is three words where '=' breaks words.\n"
	"\tif [ \"$cur\" = = ]; then\n"
	"\t\tcur=\n"
	"\telif [ \"$prev\" = = ] && [ \"$COMP_CWORD\" -gt 1 ]; then\n"
	"\t\tprev=${COMP_WORDS[COMP_CWORD-2]}\n"
	"\tfi\n";

static const char epilogue[] =
	"}\n"
	"complete -F _petri petri\n";

static void verb_names(FILE *f)
{
	for (size_t i = 0; verbs[i]; i++)
		(void)fprintf(f, "%s%s", i ? " " : "", verbs[i]->name);
}

static void action(FILE *f, const char *words, enum option_completion complete)
{
	if (words && strcmp(words, WORDS_VERBS) == 0) {
		(void)fputs("_petri_words '", f);
		verb_names(f);
		(void)fputs("' \"$cur\"", f);
	} else if (words)
		(void)fprintf(f, "_petri_words '%s' \"$cur\"", words);
	else if (complete != COMPLETE_NOTHING)
		(void)fprintf(f, "_petri_files %s \"$cur\"", complete == COMPLETE_DIRECTORY ? "-d" : "-f");
	else
		(void)fputs(":", f);
}

static bool same_action(const struct option *a, const struct option *b)
{
	bool words = a->choices || b->choices;
	return words ? a->choices && b->choices && strcmp(a->choices, b->choices) == 0 : a->complete == b->complete;
}

/* "--a | --b)" of those with a value that complete alike, each once. */
static void values(FILE *f, const struct verb *verb)
{
	for (const struct option *o = NULL; (o = option_next(verb, o));) {
		bool seen = false, first = true;
		for (const struct option *p = NULL; (p = option_next(verb, p)) && p != o;)
			seen |= p->arg && same_action(p, o);
		if (!o->arg || seen)
			continue;
		(void)fputs("\t\t", f);
		for (const struct option *p = o; p; p = option_next(verb, p)) {
			if (!p->arg || !same_action(p, o))
				continue;
			(void)fprintf(f, "%s--%s", first ? "" : " | ", p->name);
			first = false;
		}
		(void)fputs(") ", f);
		action(f, o->choices, o->complete);
		(void)fputs("; return ;;\n", f);
	}
}

static void verb_case(FILE *f, const struct verb *verb)
{
	(void)fprintf(f, "\t%s)\n\t\tcase $prev in\n", verb->name);
	values(f, verb);
	(void)fputs("\t\tesac\n\t\tcase $cur in\n\t\t-*)\n\t\t\t_petri_words '", f);
	for (const struct option *o = NULL; (o = option_next(verb, o));)
		(void)fprintf(f, "--%s ", o->name);
	(void)fputs("--help' \"$cur\"\n\t\t\treturn\n\t\t\t;;\n\t\tesac\n", f);
	if (verb->words) {
		(void)fputs("\t\tif [ \"$word\" -eq 0 ]; then\n\t\t\t", f);
		action(f, verb->words, COMPLETE_NOTHING);
		(void)fputs("\n\t\t\treturn\n\t\tfi\n", f);
	}
	(void)fputs("\t\t", f);
	action(f, NULL, verb->complete);
	(void)fputs("\n\t\t;;\n", f);
}

void bash_completion(FILE *f)
{
	(void)fputs(prologue, f);
	(void)fputs("\tif [ \"$COMP_CWORD\" -le 1 ]; then\n\t\t_petri_words '", f);
	verb_names(f);
	(void)fputs(" --help --version' \"$cur\"\n\t\treturn\n\tfi\n", f);
	/* How many words that are neither options nor their values stand before the one under the cursor. */
	(void)fputs("\tfor ((i = 2; i < COMP_CWORD; i++)); do\n"
		    "\t\tcase ${COMP_WORDS[i]} in\n"
		    "\t\t-* | =) ;;\n"
		    "\t\t*) case ${COMP_WORDS[i-1]} in --* | =) ;; *) word=$((word + 1)) ;; esac ;;\n"
		    "\t\tesac\n"
		    "\tdone\n",
		f);
	(void)fputs("\tcase $verb in\n", f);
	for (size_t i = 0; verbs[i]; i++)
		verb_case(f, verbs[i]);
	(void)fputs("\tesac\n", f);
	(void)fputs(epilogue, f);
}
