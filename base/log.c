/* Logging: level filter and one write(2) a record. The level is the only state of base/. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

static const char *const level_names[LOG_LEVEL_MAX] = {
	[LOG_DEBUG_] = "debug", [LOG_INFO_] = "info", [LOG_WARN_] = "warning", [LOG_ERROR_] = "error"};
static enum log_level threshold = LOG_WARN_;

void log_set_level(enum log_level level)
{
	threshold = level;
}

enum log_level log_get_level(void)
{
	return threshold;
}

void log_init(void)
{
	const char *value = getenv("PETRI_LOG");
	if (!value || !*value)
		return;
	for (size_t i = 0; i < LOG_LEVEL_MAX; i++) {
		if (strncmp(value, level_names[i], 4) == 0) {
			threshold = (enum log_level)i;
			return;
		}
	}
	log_write(LOG_WARN_, "PETRI_LOG=%s is not one of debug, info, warn, error, ignoring", value);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	if (level < threshold)
		return;
	int saved = errno;
	char line[1024];
	int head = snprintf(line, sizeof(line), "petri: %s: ", level_names[level]);
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line + head, sizeof(line) - (size_t)head - 1, fmt, ap);
	va_end(ap);
	size_t len = (size_t)head + (n < 0 ? 0 : MIN((size_t)n, sizeof(line) - (size_t)head - 2));
	/* A job's bytes may reach a message (an id, a path): keep them from steering the operator's terminal. */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, len);
	(void)ignored;
	errno = saved;
}
