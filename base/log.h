/*
 * Logging to stderr, one line a record: "petri: LEVEL: message key=value ...". Libraries log at debug only;
 * the executor logs a failure once. PETRI_LOG=debug|info|warn|error sets the threshold.
 */
#pragma once

enum log_level {
	LOG_DEBUG_,
	LOG_INFO_,
	LOG_WARN_,
	LOG_ERROR_,
	LOG_LEVEL_MAX
};

/* log_init - read PETRI_LOG; an unknown value is an error message and the default (warn). */
void log_init(void);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* log_write - one record, written with one write(2), control characters escaped; keeps errno. */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) \
	do { \
		if (log_get_level() <= LOG_DEBUG_) \
			log_write(LOG_DEBUG_, __VA_ARGS__); \
	} while (0)
#define log_info(...) log_write(LOG_INFO_, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN_, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR_, __VA_ARGS__)
