/* Manual pages in mdoc(7), from the verbs' tables; checked by tests with mandoc and groff. */
#include <ctype.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/options.h"

/* Text in which nothing is a macro or an escape, and a hyphen is one that can be copied. */
static void escaped(FILE *f, const char *text, size_t len)
{
	static const struct {
		char c;
		const char *as;
	} escapes[] = {{'\\', "\\e"}, {'-', "\\-"}, {'`', "\\(ga"}, {'\'', "\\(aq"}, {'^', "\\(ha"}, {'~', "\\(ti"}, {'"', "\\(dq"}};
	for (size_t i = 0; i < len; i++) {
		const char *as = NULL;
		for (size_t j = 0; j < ARRAY_SIZE(escapes) && !as; j++)
			as = escapes[j].c == text[i] ? escapes[j].as : NULL;
		if (as)
			(void)fputs(as, f);
		else
			(void)fputc(text[i], f);
	}
}

/* Where a sentence ends within text: behind a full stop and a blank. mdoc wants each on a line of its own. */
static const char *sentence_end(const char *text, const char *end)
{
	for (const char *p = text; p + 2 < end; p++)
		if ((*p == '.' || *p == ':') && p[1] == ' ' && isupper((unsigned char)p[2]))
			return p + 1;
	return end;
}

/* A paragraph: each line is set as it is when the first begins with a blank. */
static void paragraph(FILE *f, const char *text, size_t len)
{
	const char *end = text + len;
	bool literal = *text == ' ';
	if (literal)
		(void)fputs(".Bd -literal -offset indent\n", f);
	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = literal ? newline ? newline : end : sentence_end(text, end);
		if (literal)
			text += strspn(text, " ");
		(void)fputs(*text == '.' ? "\\&" : "", f);
		escaped(f, text, (size_t)(stop - text));
		(void)fputc('\n', f);
		text = stop < end ? stop + 1 : end;
	}
	if (literal)
		(void)fputs(".Ed\n", f);
}

static void paragraphs(FILE *f, const char *text)
{
	for (bool first = true; text && *text; first = false) {
		const char *end = strstr(text, "\n\n");
		if (!first && *text != ' ')
			(void)fputs(".Pp\n", f);
		paragraph(f, text, end ? (size_t)(end - text) : strlen(text));
		text = end ? end + 2 : NULL;
	}
}

/* One argument of a macro. */
static void argument(FILE *f, const char *text)
{
	(void)fputs("\"\\&", f);
	escaped(f, text, strlen(text));
	(void)fputc('"', f);
}

static void option(FILE *f, const struct option *o)
{
	char bounds[128];
	(void)fputs(".It Fl ", f);
	(void)fputs("\\-", f);
	escaped(f, o->name, strlen(o->name));
	if (o->arg) {
		(void)fputs(" Ar ", f);
		argument(f, o->arg);
	}
	(void)fputc('\n', f);
	char first = (char)toupper((unsigned char)o->help[0]);
	escaped(f, &first, 1);
	escaped(f, o->help + 1, strlen(o->help + 1));
	(void)fputs(o->repeats ? "; may be repeated.\n" : ".\n", f);
	if (o->more)
		paragraphs(f, o->more);
	option_bounds(o, bounds, sizeof(bounds));
	if (*bounds) {
		(void)fputs(o->standard ? "Default: " : "Range: ", f);
		escaped(f, bounds, strlen(bounds));
		(void)fputs(".\n", f);
	}
}

static void options(FILE *f, const char *title, const struct option *o)
{
	if (!o || !o->name)
		return;
	if (title) {
		(void)fputs(".Ss ", f);
		argument(f, title);
		(void)fputc('\n', f);
	}
	(void)fputs(".Bl -tag -width Ds\n", f);
	for (; o->name; o++)
		option(f, o);
	(void)fputs(".It Fl \\-help\nPrint a summary of all this.\n.El\n", f);
}

static void head(FILE *f, const char *title, const char *summary)
{
	(void)fputs(".Dd " PETRI_DATE "\n.Dt ", f);
	for (const char *p = title; *p; p++)
		(void)fputc(toupper((unsigned char)*p), f);
	(void)fprintf(f, " 1\n.Os\n.Sh NAME\n.Nm %s\n.Nd ", title);
	escaped(f, summary, strlen(summary));
	(void)fputs("\n.Sh SYNOPSIS\n", f);
}

static void codes(FILE *f, const struct exit_code *code)
{
	(void)fputs(".Sh EXIT STATUS\n.Bl -tag -width Ds\n", f);
	for (; code->code; code++) {
		(void)fputs(".It ", f);
		argument(f, code->code);
		(void)fputc('\n', f);
		escaped(f, code->meaning, strlen(code->meaning));
		(void)fputs(".\n", f);
	}
	(void)fputs(".El\n", f);
}

static void petri_page(FILE *f)
{
	head(f, "petri", "run untrusted programs");
	(void)fputs(".Nm\n.Ar verb\n.Op Ar argument ...\n.Sh DESCRIPTION\n", f);
	paragraphs(f,
		"petri runs untrusted programs quickly, under limits, and reports what each one used and how it ended. It keeps a pool of "
		"processes that were forked ahead, each in its own namespaces and cgroup, over a read-only image with a fresh writable layer. "
		"Jobs come from a command line (petri run) or from Redis (petri worker).\n\nThe verbs are:");
	(void)fputs(".Bl -tag -width Ds\n", f);
	for (size_t i = 0; verbs[i]; i++) {
		(void)fprintf(f, ".It Xr petri-%s 1\n", verbs[i]->name);
		escaped(f, verbs[i]->summary, strlen(verbs[i]->summary));
		(void)fputs(".\n", f);
	}
	(void)fputs(".El\n", f);
	paragraphs(f, "Sizes are written 64M, 1.5G or in bytes; durations 250ms, 10s, 2m, 1h, and a bare number is seconds.");
	(void)fputs(".Sh ENVIRONMENT\n.Bl -tag -width Ds\n", f);
	(void)fputs(".It Ev PETRI_STATE\nThe store's directory, where no option names one.\n", f);
	(void)fputs(".It Ev PETRI_REDIS\nRedis' URL, where no option gives one; it may hold a user and a password.\n", f);
	(void)fputs(".It Ev PETRI_LOG\ndebug, info, warn (the default) or error: what is logged to standard error.\n", f);
	(void)fputs(".It Ev PETRI_LOG_FORMAT\ntext (the default) or json: how.\n.El\n", f);
	(void)fputs(".Sh FILES\n.Bl -tag -width Ds\n", f);
	(void)fputs(".It Pa /var/lib/petri\nThe store: images, layers, blobs and scratch.\n", f);
	(void)fputs(".It Pa /etc/petri/policies\nSystem call policies beside the shipped ones.\n", f);
	(void)fputs(".It Pa /run/petri\nLocks of the host's slots.\n.El\n.Sh SEE ALSO\n", f);
	(void)fputs(".Xr seccomp 2 ,\n.Xr cgroups 7 ,\n.Xr namespaces 7\n", f);
}

void verb_manual(const struct verb *verb, FILE *f)
{
	char title[64];
	if (!verb) {
		petri_page(f);
		return;
	}
	(void)snprintf(title, sizeof(title), "petri-%s", verb->name);
	head(f, title, verb->summary);
	for (size_t i = 0; verb->forms[i]; i++) {
		(void)fprintf(f, "%s.Nm petri %s\n", i ? ".br\n" : "", verb->name);
		if (*verb->forms[i]) {
			escaped(f, verb->forms[i], strlen(verb->forms[i]));
			(void)fputc('\n', f);
		}
	}
	(void)fputs(".Sh DESCRIPTION\n", f);
	paragraphs(f, verb->about);
	(void)fputs(verb->options || verb->limits ? ".Sh OPTIONS\n" : "", f);
	options(f, NULL, verb->options);
	options(f, verb->limits_title, verb->limits ? verb->limits() : NULL);
	for (const struct manual_section *section = verb->sections; section && section->title; section++) {
		(void)fputs(".Sh ", f);
		argument(f, section->title);
		(void)fputc('\n', f);
		paragraphs(f, section->text);
	}
	if (verb->codes)
		codes(f, verb->codes);
	(void)fputs(".Sh SEE ALSO\n.Xr petri 1\n", f);
}
