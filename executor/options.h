/*
 * Verbs and their options as tables. What a verb's table says is what is parsed, what --help, the manual page and the completion of
 * bash show, and (for `petri worker`) what may stand in its configuration file and environment: they cannot drift apart.
 *
 * An option's value goes to `offset` in the verb's target, a struct that the verb's function owns.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define WORDS_VERBS "@verbs" /* struct verb, words: the names of all verbs */
#define OPTION_TEXT_MAX 1100 /* of any value in its printed form */

enum option_kind {
	OPTION_SWITCH,	 /* bool; takes no value on the command line */
	OPTION_WORD,	 /* const char *: the argument itself, which must outlive the target */
	OPTION_BUFFER,	 /* char[size]: copied */
	OPTION_COUNT,	 /* unsigned or uint64_t, by size */
	OPTION_SIZE,	 /* the same, in bytes */
	OPTION_DURATION, /* the same, in milliseconds */
	OPTION_CALL,	 /* take() */
	OPTION_KIND_MAX
};

enum option_completion {
	COMPLETE_NOTHING,
	COMPLETE_FILE,
	COMPLETE_DIRECTORY
};

struct option {
	const char *name; /* without dashes */
	const char *arg;  /* what its value is called: "URL"; NULL for a switch */
	enum option_kind kind;
	size_t offset, size;
	uint64_t min, max;    /* of the numeric kinds; max 0: none */
	const char *standard; /* the default as --help shows it, or NULL */
	const char *help;     /* one line, without a full stop */
	const char *more;     /* for the manual page: sentences, or NULL */
	const char *choices;  /* "auto tmpfs": nothing else is taken; or NULL */
	enum option_completion complete;
	bool repeats;
	bool command_only; /* no setting: it makes sense on a command line alone */
	const char *env;   /* a variable that means the same, beside the one after the option's name (settings only) */
	/* OPTION_CALL: take the value; show what is there, "" for nothing. @value is "" for an option without arg. */
	int (*take)(void *target, const struct option *option, const char *value, struct err *err);
	void (*show)(const void *target, const struct option *option, char ret[OPTION_TEXT_MAX]);
};

#define OPTION_AT(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)NULL)->member)

struct exit_code {
	const char *code, *meaning;
};
/* 0 done, 1 failed, 125 a wrong command line: of the verbs that have nothing more to say. */
extern const struct exit_code plain_exit_codes[];

struct manual_section {
	const char *title, *text; /* paragraphs are separated by an empty line; lines that begin with a blank are shown as they are */
};

struct verb {
	const char *name, *summary;
	int (*fn)(int argc, char **argv); /* argv[0] is the verb; returns the exit code */
	const char *const *forms;	  /* what may follow "petri NAME", NULL-terminated */
	const char *about;		  /* paragraphs for --help and the manual page */
	/* Ends with a row without a name. NULL: the verb reads its arguments itself, and answers --help. */
	const struct option *options;
	const struct option *(*limits)(void); /* more options, made from the table of limits; or NULL */
	const char *limits_title;
	int min_words, max_words; /* arguments that are no options; max -1: any number */
	const char *words;	  /* what the first of them may be: "import list rm"; or NULL */
	enum option_completion complete;
	bool program;			       /* the first word ends the options: what follows is a program and its arguments */
	const struct exit_code *codes;	       /* ends with a row without a code; or NULL */
	const struct manual_section *sections; /* of the manual page alone; ends with a row without a title; or NULL */
	/* NULL: option_set(). Else called for each option in turn. */
	int (*take)(void *target, const struct option *option, const char *value, struct err *err);
};

/* All verbs, in the order of `petri --help`; NULL-terminated (verbs.c). */
extern const struct verb *const verbs[];
/* verb_find - by name; NULL when there is none. */
const struct verb *verb_find(const char *name);

/*
 * verb_parse - read a verb's arguments into @target.
 * @ret_words: the arguments that are no options, within argv, NULL-terminated.
 * Return: true to go on. False when help was printed or something was wrong (which was said): *ret_exit is the verb's exit code.
 */
bool verb_parse(const struct verb *verb, void *target, int argc, char **argv, char ***ret_words, int *ret_exit);
/* verb_complain - "petri VERB: message; see petri VERB --help". Return: EXIT_USAGE. */
int verb_complain(const struct verb *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* option_next - walk all options of a verb: NULL gives the first, the last gives NULL. */
const struct option *option_next(const struct verb *verb, const struct option *option);
/* option_find - by name without dashes, @len bytes of it; NULL when there is none. */
const struct option *option_find(const struct verb *verb, const char *name, size_t len);
/* option_set - parse and check a value, and put it into the target. The message does not name the option. Return: 0 or -errno. */
int option_set(void *target, const struct option *option, const char *value, struct err *err);
/* option_show - the value in the target as option_set() takes it; "" when there is none. */
void option_show(const void *target, const struct option *option, char ret[OPTION_TEXT_MAX]);
/* option_number - a number of this kind as option_set() takes it: "30s", "64M". */
void option_number(enum option_kind kind, uint64_t value, char ret[32]);
/* option_bounds - "default; from A to B", or what there is of it; "" for nothing. */
void option_bounds(const struct option *option, char *ret, size_t cap);

/* verb_help - `petri VERB --help`. */
void verb_help(const struct verb *verb, FILE *f);
/* petri_help - `petri --help`. */
void petri_help(FILE *f);
/* verb_manual - petri-VERB(1) in mdoc(7); NULL: petri(1). */
void verb_manual(const struct verb *verb, FILE *f);
/* bash_completion - for /usr/share/bash-completion/completions/petri. */
void bash_completion(FILE *f);
