/* petri worker --check-config and --print-config: the settings as text. */
#include <string.h>

#include "base/cleanup.h"
#include "executor/config_file.h"
#include "executor/worker.h"

#define MAX_LIMITS "max_limits"
#define COMMENT_WIDTH 100

static bool is_limit(const struct option *setting)
{
	return setting->kind == OPTION_CALL;
}

static void print_setting(FILE *f, const char *name, const char *value, const char *comment)
{
	char quoted[2 * OPTION_TEXT_MAX + 3], line[2 * OPTION_TEXT_MAX + 80];
	if (!*value)
		(void)snprintf(line, sizeof(line), "# %s is not set", name);
	else if (config_quote(value, quoted, sizeof(quoted)))
		(void)snprintf(line, sizeof(line), "%s = %s", name, quoted);
	else
		(void)snprintf(line, sizeof(line), "# %s cannot be written here", name);
	(void)fprintf(f, "%-48s # %s\n", line, comment);
}

static void source_text(const struct worker_config *c, const struct option *setting, char *ret, size_t cap)
{
	char variable[64];
	const struct setting_source *source = &c->sources[setting_index(setting)];
	setting_variable(setting, variable);
	if (source->origin == ORIGIN_FILE)
		(void)snprintf(ret, cap, "%s:%u", c->file, source->line);
	else if (source->origin == ORIGIN_ENVIRONMENT)
		(void)snprintf(ret, cap, "%s", source->variable ? source->variable : variable);
	else
		(void)snprintf(ret, cap, "%s%s", source->origin == ORIGIN_FLAG ? "--" : "default", source->origin == ORIGIN_FLAG ? setting->name : "");
	/* The file's name is the caller's: it must not end the comment. */
	for (char *p = ret; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

static const char *file_name(const struct option *setting)
{
	return is_limit(setting) ? setting->name + strlen("max-") : setting->name;
}

void worker_config_print(const struct worker_config *c, FILE *f)
{
	bool in_limits = false;
	for (const struct option *s = NULL; (s = setting_next(s));) {
		char value[OPTION_TEXT_MAX], source[600];
		option_show(c, s, value);
		if (strcmp(s->name, "redis") == 0)
			redis_url_format(&c->url, value, sizeof(value));
		source_text(c, s, source, sizeof(source));
		if (is_limit(s) && !in_limits)
			(void)fputs("\n[" MAX_LIMITS "]\n", f);
		in_limits |= is_limit(s);
		print_setting(f, file_name(s), value, source);
	}
}

static void print_comment(FILE *f, const char *text)
{
	size_t column = 1;
	(void)fputc('#', f);
	while (*text) {
		size_t word = strcspn(text, " ");
		if (column > 1 && column + 1 + word > COMMENT_WIDTH) {
			(void)fputs("\n#", f);
			column = 1;
		}
		(void)fprintf(f, " %.*s", (int)word, text);
		column += 1 + word;
		text += word + strspn(text + word, " ");
	}
	(void)fputc('\n', f);
}

void worker_config_print_default(FILE *f)
{
	static struct worker_config defaults;
	bool in_limits = false;
	worker_config_init(&defaults);
	(void)fputs("# Settings of `petri worker --config FILE`; see petri-worker(1). What is commented out shows the default.\n"
		    "# Each can also be given as an environment variable (PETRI_WORKER_SLOTS=8) or a flag (--slots 8); these take precedence.\n",
		f);
	for (const struct option *s = NULL; (s = setting_next(s));) {
		char value[OPTION_TEXT_MAX], bounds[128];
		option_show(&defaults, s, value);
		option_bounds(s, bounds, sizeof(bounds));
		if (is_limit(s) && !in_limits)
			(void)fputs("\n# The most that a job may ask for; the defaults are the most that petri takes.\n[" MAX_LIMITS "]\n", f);
		in_limits |= is_limit(s);
		(void)fprintf(f, "\n# %s%s%s%s\n", s->help, *bounds ? " (" : "", bounds, *bounds ? ")" : "");
		if (s->more)
			print_comment(f, s->more);
		(void)fprintf(f, "#%s = %s\n", file_name(s), *value ? value : "");
	}
}
