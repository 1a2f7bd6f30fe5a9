/* Logging: level filter and one write(2) a record. The level and the form are the only state of base/. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define MESSAGE_MAX 1000
#define JOB_MAX 128
/* No more than PIPE_BUF, so that records of several processes do not mix in a pipe, pipe(7). */
#define RECORD_MAX 4096

static const char *const level_names[LOG_LEVEL_MAX] = {
	[LOG_DEBUG_] = "debug", [LOG_INFO_] = "info", [LOG_WARN_] = "warning", [LOG_ERROR_] = "error"};
static enum log_level threshold = LOG_WARN_;
static enum log_format format = LOG_TEXT;

void log_set_level(enum log_level level)
{
	threshold = level;
}

enum log_level log_get_level(void)
{
	return threshold;
}

void log_set_format(enum log_format wanted)
{
	format = wanted;
}

enum log_format log_get_format(void)
{
	return format;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

const char *log_format_name(enum log_format which)
{
	return which == LOG_JSON ? "json" : "text";
}

int log_parse_level(const char *text, enum log_level *ret)
{
	for (size_t i = 0; i < LOG_LEVEL_MAX; i++) {
		if (strncmp(text, level_names[i], 4) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

int log_parse_format(const char *text, enum log_format *ret)
{
	for (int i = LOG_TEXT; i <= LOG_JSON; i++) {
		if (strcmp(text, log_format_name((enum log_format)i)) == 0) {
			*ret = (enum log_format)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_init(void)
{
	const char *level = getenv("PETRI_LOG"), *form = getenv("PETRI_LOG_FORMAT");
	if (form && *form && log_parse_format(form, &format) < 0)
		log_write(LOG_WARN_, "PETRI_LOG_FORMAT=%.100s is not one of text, json, ignoring", form);
	if (level && *level && log_parse_level(level, &threshold) < 0)
		log_write(LOG_WARN_, "PETRI_LOG=%.100s is not one of debug, info, warn, error, ignoring", level);
}

/* ---- text ---- */
static size_t text_record(enum log_level level, const char *message, char *line)
{
	int head = snprintf(line, RECORD_MAX, "petri: %s: %s", level_names[level], message);
	size_t len = MIN((size_t)head, (size_t)RECORD_MAX - 2);
	/* A job's bytes may reach a message (an id, a path): keep them from steering the operator's terminal. */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	return len;
}

/* ---- JSON ---- */
struct record {
	char *line;
	size_t len;
	bool full;
};

static void add(struct record *r, const char *text, size_t len)
{
	/* The end, a quote, a brace and a newline, always has its room. */
	r->full |= r->len + len > RECORD_MAX - 3;
	if (r->full)
		return;
	memcpy(r->line + r->len, text, len);
	r->len += len;
}

/* Length of the well-formed UTF-8 character at p (RFC 3629: shortest form, no surrogates, up to U+10FFFF); 0 for none. */
static size_t utf8_length(const unsigned char *p)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
		: p[0] >= 0xe0 && p[0] < 0xf0			 ? 3
		: p[0] >= 0xf0 && p[0] < 0xf5			 ? 4
								 : 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80) /* the NUL at the end as well */
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
		return 0;
	return n;
}

/* The inside of a JSON string, RFC 8259: what is no UTF-8 becomes U+FFFD. */
static void add_string(struct record *r, const char *text, size_t len)
{
	char escape[8];
	for (size_t i = 0, n; i < len; i += n) {
		unsigned char c = (unsigned char)text[i];
		n = utf8_length((const unsigned char *)text + i);
		if (n == 0 || n > len - i) {
			n = 1;
			add(r, "\\ufffd", 6);
		} else if (c == '"' || c == '\\') {
			add(r, (const char[]){'\\', (char)c}, 2);
		} else if (c < 0x20 || c == 0x7f) {
			(void)snprintf(escape, sizeof(escape), "\\u%04x", c);
			add(r, escape, 6);
		} else {
			add(r, text + i, n);
		}
	}
}

/* The members before the message, which comes last and may be cut short, fit in any case. */
static void add_member(struct record *r, const char *name, const char *value, size_t len)
{
	add(r, r->len > 1 ? ",\"" : "\"", r->len > 1 ? 2 : 1);
	add(r, name, strlen(name));
	add(r, "\":\"", 3);
	add_string(r, value, len);
	r->line[r->len++] = '"';
}

/* "job=…" at the head of a message, where only petri's own text stands, is a member of its own: what one searches for. */
static void add_job(struct record *r, const char *message)
{
	if (strncmp(message, "job=", 4) == 0)
		add_member(r, "job", message + 4, MIN(strcspn(message + 4, " :;"), (size_t)JOB_MAX));
}

static size_t json_record(enum log_level level, const char *message, char *line)
{
	struct record r = {.line = line};
	struct timespec now;
	struct tm utc;
	char stamp[40], name[17] = "", pid[16];
	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &utc);
	size_t n = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
	(void)snprintf(stamp + n, sizeof(stamp) - n, ".%03ldZ", now.tv_nsec / 1000000);
	(void)prctl(PR_GET_NAME, name, 0, 0, 0);
	(void)snprintf(pid, sizeof(pid), ",\"pid\":%d", (int)getpid());
	add(&r, "{", 1);
	add_member(&r, "time", stamp, strlen(stamp));
	add_member(&r, "level", level_names[level], strlen(level_names[level]));
	add_member(&r, "process", name, strlen(name));
	add(&r, pid, strlen(pid));
	add_job(&r, message);
	add_member(&r, "message", message, strlen(message));
	memcpy(line + r.len, "}\n", 2);
	return r.len + 2;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	if (level < threshold)
		return;
	int saved = errno;
	char message[MESSAGE_MAX], line[RECORD_MAX];
	va_list ap;
	va_start(ap, fmt);
	if (vsnprintf(message, sizeof(message), fmt, ap) < 0)
		message[0] = '\0';
	va_end(ap);
	size_t len = format == LOG_JSON ? json_record(level, message, line) : text_record(level, message, line);
	ssize_t ignored = write(STDERR_FILENO, line, len);
	(void)ignored;
	errno = saved;
}
