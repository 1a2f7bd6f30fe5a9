/* --help, from a verb's table. */
#include <string.h>

#include "base/cleanup.h"
#include "executor/options.h"

#define WIDTH 100
#define HEAD_WIDTH 26

/* One paragraph, wrapped; *at is the column where it begins. */
static void wrap(FILE *f, const char *text, size_t len, unsigned column, unsigned indent)
{
	const char *end = text + len;
	while (text < end) {
		const char *blank = memchr(text, ' ', (size_t)(end - text));
		size_t word = (size_t)((blank ? blank : end) - text);
		if (column > indent && column + 1 + word > WIDTH) {
			(void)fprintf(f, "\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			(void)fputc(' ', f);
			column++;
		}
		(void)fwrite(text, 1, word, f);
		column += (unsigned)word;
		text += word + 1;
	}
	(void)fputc('\n', f);
}

static void paragraphs(FILE *f, const char *text)
{
	while (text && *text) {
		const char *end = strstr(text, "\n\n");
		wrap(f, text, end ? (size_t)(end - text) : strlen(text), 0, 0);
		(void)fputc('\n', f);
		text = end ? end + 2 : NULL;
	}
}

static void row(FILE *f, const char *head, const char *text)
{
	(void)fprintf(f, "  %-*s", HEAD_WIDTH - 2, head);
	unsigned column = HEAD_WIDTH;
	if (strlen(head) + 4 > HEAD_WIDTH)
		(void)fprintf(f, "\n%*s", HEAD_WIDTH, "");
	wrap(f, text, strlen(text), column, HEAD_WIDTH);
}

static void options(FILE *f, const char *title, const struct option *option)
{
	if (!option || !option->name)
		return;
	(void)fprintf(f, "%s:\n", title);
	for (; option->name; option++) {
		char head[96], text[400], bounds[128];
		(void)snprintf(head, sizeof(head), "--%s%s%s", option->name, option->arg ? " " : "", option->arg ? option->arg : "");
		option_bounds(option, bounds, sizeof(bounds));
		(void)snprintf(text, sizeof(text), "%s%s%s%s%s", option->help, option->repeats ? "; may be repeated" : "", *bounds ? " (" : "",
			bounds, *bounds ? ")" : "");
		row(f, head, text);
	}
	(void)fputc('\n', f);
}

void verb_help(const struct verb *verb, FILE *f)
{
	for (size_t i = 0; verb->forms[i]; i++)
		(void)fprintf(f, "%s petri %s %s\n", i == 0 ? "usage:" : "      ", verb->name, verb->forms[i]);
	(void)fputc('\n', f);
	paragraphs(f, verb->about);
	options(f, "Options", verb->options);
	options(f, verb->limits_title, verb->limits ? verb->limits() : NULL);
	if (verb->codes)
		(void)fputs("Exit codes:\n", f);
	for (const struct exit_code *code = verb->codes; code && code->code; code++)
		row(f, code->code, code->meaning);
	if (verb->codes)
		(void)fputc('\n', f);
	(void)fprintf(f, "`man petri-%s` says more.\n", verb->name);
}

void petri_help(FILE *f)
{
	(void)fputs("petri: run untrusted programs\n\n", f);
	for (size_t i = 0; verbs[i]; i++)
		(void)fprintf(f, "  petri %-8s %s\n", verbs[i]->name, verbs[i]->summary);
	(void)fputs("\n`petri VERB --help` says more, `man petri` most. The store is in /var/lib/petri, or --state DIR, or PETRI_STATE.\n", f);
}
