/* Tables of options: parsing, and that every verb's table is sound. */
#include <criterion/criterion.h>
#include <ctype.h>
#include <string.h>

#include "executor/cli.h"

struct target {
	bool on;
	const char *word;
	unsigned count;
	uint64_t size, duration;
	char buffer[4];
};

static const struct option rows[] = {
	{.name = "on", .kind = OPTION_SWITCH, OPTION_AT(struct target, on), .help = "h"},
	{.name = "word", .arg = "W", .kind = OPTION_WORD, OPTION_AT(struct target, word), .help = "h", .choices = "red green"},
	{.name = "count", .arg = "N", .kind = OPTION_COUNT, OPTION_AT(struct target, count), .min = 1, .max = 9, .help = "h"},
	{.name = "size", .arg = "S", .kind = OPTION_SIZE, OPTION_AT(struct target, size), .help = "h"},
	{.name = "duration", .arg = "D", .kind = OPTION_DURATION, OPTION_AT(struct target, duration), .help = "h"},
	{.name = "buffer", .arg = "B", .kind = OPTION_BUFFER, OPTION_AT(struct target, buffer), .help = "h"},
	{0},
};

static const struct verb verb = {.name = "test", .summary = "s", .forms = (const char *const[]){"WORD", NULL}, .about = "a", .options = rows, .max_words = 2};

static bool parse(struct target *t, char ***words, const char *line)
{
	static char copy[256];
	static char *argv[32];
	int argc = 0, code;
	(void)snprintf(copy, sizeof(copy), "test %s", line);
	for (char *rest = copy, *item; (item = strsep(&rest, " "));)
		argv[argc++] = item;
	argv[argc] = NULL;
	*t = (struct target){0};
	return verb_parse(&verb, t, argc, argv, words, &code);
}

Test(options, all_kinds)
{
	struct target t;
	char **words, text[OPTION_TEXT_MAX];
	cr_assert(parse(&t, &words, "a --on --word green b --count=3 --size 64M --duration 1500ms --buffer abc"));
	cr_assert(t.on);
	cr_assert_str_eq(t.word, "green");
	cr_assert_eq(t.count, 3);
	cr_assert_eq(t.size, 64 << 20);
	cr_assert_eq(t.duration, 1500);
	cr_assert_str_eq(t.buffer, "abc");
	cr_assert_str_eq(words[0], "a");
	cr_assert_str_eq(words[1], "b");
	cr_assert_null(words[2]);
	static const char *const shown[] = {"true", "green", "3", "64M", "1500ms", "abc"};
	for (size_t i = 0; rows[i].name; i++) {
		option_show(&t, &rows[i], text);
		cr_assert_str_eq(text, shown[i]);
	}
}

Test(options, dashes_end_the_options)
{
	struct target t;
	char **words;
	cr_assert(parse(&t, &words, "- -- --on"));
	cr_assert_not(t.on);
	cr_assert_str_eq(words[0], "-");
	cr_assert_str_eq(words[1], "--on");
}

Test(options, mistakes)
{
	static const char *const wrong[] = {"--nope", "--on=1", "--count", "--count 0", "--count 10", "--count x", "--word blue", "--word re", "--word", "--buffer abcd",
		"--size 1Q", "-x", "--cou 1", "--countx 1", "a b c"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct target t;
		char **words;
		cr_assert_not(parse(&t, &words, wrong[i]), "accepted %s", wrong[i]);
	}
}

static void one_line(const char *text, const char *what, const char *name)
{
	cr_assert(text && *text, "%s of %s", what, name);
	cr_assert_null(strchr(text, '\n'), "%s of %s", what, name);
	cr_assert_neq(text[strlen(text) - 1], '.', "%s of %s ends with a full stop", what, name);
}

Test(options, tables_are_sound)
{
	for (size_t i = 0; verbs[i]; i++) {
		const struct verb *v = verbs[i];
		unsigned n = 0;
		one_line(v->summary, "the summary", v->name);
		cr_assert(v->fn && v->forms && v->forms[0] && v->about, "%s", v->name);
		cr_assert_eq(verb_find(v->name), v);
		for (const struct option *o = NULL; (o = option_next(v, o)); n++) {
			one_line(o->help, "the help", o->name);
			cr_assert_eq(o->kind == OPTION_SWITCH, o->arg == NULL, "%s --%s", v->name, o->name);
			cr_assert(o->kind != OPTION_CALL || o->take, "%s --%s", v->name, o->name);
			cr_assert_eq(option_find(v, o->name, strlen(o->name)), o, "%s --%s is there twice", v->name, o->name);
			for (const char *p = o->name; *p; p++)
				cr_assert(islower((unsigned char)*p) || isdigit((unsigned char)*p) || *p == '-', "%s --%s", v->name, o->name);
			cr_assert_leq(n, 100);
		}
	}
}
