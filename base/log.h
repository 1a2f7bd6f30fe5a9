/*
 * Logging to stderr, one line a record: "petri: LEVEL: message key=value ...", or a JSON object
 * {"time", "level", "process", "pid", "job" (where the message begins with job=), "message"}. Libraries log at debug only;
 * the executor logs a failure once. PETRI_LOG=debug|info|warn|error sets the threshold, PETRI_LOG_FORMAT=text|json the form.
 */
#pragma once

enum log_level {
	LOG_DEBUG_,
	LOG_INFO_,
	LOG_WARN_,
	LOG_ERROR_,
	LOG_LEVEL_MAX
};

enum log_format {
	LOG_TEXT,
	LOG_JSON
};

/* log_init - read PETRI_LOG and PETRI_LOG_FORMAT; an unknown value is a warning, and the default (warn, text). */
void log_init(void);
/* log_parse_level, log_parse_format - by name. Return: 0, or -EINVAL. */
int log_parse_level(const char *text, enum log_level *ret);
int log_parse_format(const char *text, enum log_format *ret);
const char *log_level_name(enum log_level level);
const char *log_format_name(enum log_format format);
void log_set_format(enum log_format format);
enum log_format log_get_format(void);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* log_write - one record, written with one write(2), control characters escaped (in JSON also what is no UTF-8); keeps errno. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) \
	do { \
		if (log_get_level() <= LOG_DEBUG_) \
			log_write(LOG_DEBUG_, __VA_ARGS__); \
	} while (0)
#define log_info(...) log_write(LOG_INFO_, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN_, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR_, __VA_ARGS__)
