/* Parsing of configuration files; see the header. Pure functions; the bytes are the operator's, and still each is checked. */
#include "executor/config_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define KEY_MAX 64

struct parser {
	char section[KEY_MAX], key[KEY_MAX], value[CONFIG_LINE_MAX];
	config_fn fn;
	void *ctx;
};

static bool is_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t");
}

/* Nothing but a comment follows. */
static bool at_end(const char *p)
{
	const char *rest = skip_blanks(p);
	return *rest == '\0' || (*rest == '#' && rest > p);
}

static int take_name(const char **p, char ret[KEY_MAX], const char *what, struct err *err)
{
	size_t len = 0;
	while (is_name((*p)[len]))
		len++;
	if (len == 0 || len >= KEY_MAX)
		return err_say(err, EINVAL, "%s is missing, too long, or has other characters than letters, digits and . _ -", what);
	memcpy(ret, *p, len);
	ret[len] = '\0';
	*p += len;
	return 0;
}

static int take_section(struct parser *parser, const char *p, struct err *err)
{
	p++;
	int r = take_name(&p, parser->section, "a section's name", err);
	if (r == 0 && (*p != ']' || !at_end(p + 1)))
		r = err_say(err, EINVAL, "a section is a name in brackets, and nothing behind it");
	return r;
}

static int take_quoted(struct parser *parser, const char *p, struct err *err)
{
	size_t n = 0;
	for (p++; *p && *p != '"'; p++) {
		if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
			p++;
		else if (*p == '\\')
			return err_say(err, EINVAL, "within quotes a backslash comes before another or before a quote");
		parser->value[n++] = *p;
	}
	parser->value[n] = '\0';
	if (*p != '"')
		return err_say(err, EINVAL, "the value's closing quote is missing");
	return at_end(p + 1) ? 0 : err_say(err, EINVAL, "something follows the value's closing quote");
}

static int take_plain(struct parser *parser, const char *p, struct err *err)
{
	size_t n = 0;
	for (; *p; p++) {
		if (*p == '#' && n > 0 && (p[-1] == ' ' || p[-1] == '\t'))
			break;
		if (*p == '#' || *p == '"')
			return err_say(err, EINVAL, "a value with '#' or '\"' must be in double quotes");
		parser->value[n++] = *p;
	}
	while (n > 0 && (parser->value[n - 1] == ' ' || parser->value[n - 1] == '\t'))
		n--;
	parser->value[n] = '\0';
	return n > 0 ? 0 : err_say(err, EINVAL, "there is no value behind '='");
}

/* @line: without its newline. */
static int take_line(struct parser *parser, const char *line, unsigned number, struct err *err)
{
	const char *p = skip_blanks(line);
	if (*p == '\0' || *p == '#')
		return 0;
	if (*p == '[')
		return take_section(parser, p, err);
	int r = take_name(&p, parser->key, "the setting's name", err);
	if (r < 0)
		return r;
	p = skip_blanks(p);
	if (*p != '=')
		return err_say(err, EINVAL, "this is neither 'name = value', '[section]' nor '# comment'");
	p = skip_blanks(p + 1);
	r = *p == '"' ? take_quoted(parser, p, err) : take_plain(parser, p, err);
	return r < 0 ? r : parser->fn(parser->ctx, parser->section, parser->key, parser->value, number, err);
}

static int check_bytes(const char *line, size_t len, struct err *err)
{
	if (len >= CONFIG_LINE_MAX)
		return err_say(err, E2BIG, "longer than %d bytes", CONFIG_LINE_MAX - 1);
	if (len > 0 && line[len - 1] == '\r')
		return err_say(err, EINVAL, "the line ends with a carriage return: save the file with plain newlines");
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)line[i] < 0x20 && line[i] != '\t') || line[i] == 0x7f)
			return err_say(err, EINVAL, "there is a control character");
	return 0;
}

int config_parse(const char *name, const char *text, size_t len, config_fn fn, void *ctx, struct err *err)
{
	struct parser parser = {.fn = fn, .ctx = ctx};
	char line[CONFIG_LINE_MAX];
	const char *end = text + len;
	int r = 0;
	for (unsigned number = 1; r == 0 && text < end; number++) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((newline ? newline : end) - text);
		r = check_bytes(text, n, err);
		if (r == 0) {
			memcpy(line, text, n);
			line[n] = '\0';
			r = take_line(&parser, line, number, err);
		}
		if (r < 0)
			(void)err_wrap(err, "%s:%u", name, number);
		text = newline ? newline + 1 : end;
	}
	explicit_bzero(&parser, sizeof(parser));
	explicit_bzero(line, sizeof(line));
	return r;
}

bool config_quote(const char *value, char *ret, size_t cap)
{
	size_t len = strlen(value), n = 0;
	bool plain = len > 0 && !strpbrk(value, "#\"") && value[0] != ' ' && value[0] != '\t' && value[len - 1] != ' ' && value[len - 1] != '\t';
	if (2 * len + 3 > cap)
		return false;
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f)
			return false;
	if (plain) {
		(void)snprintf(ret, cap, "%s", value);
		return true;
	}
	ret[n++] = '"';
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			ret[n++] = '\\';
		ret[n++] = *value;
	}
	ret[n++] = '"';
	ret[n] = '\0';
	return true;
}
