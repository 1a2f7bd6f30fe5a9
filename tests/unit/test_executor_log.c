/* base/log.h in JSON: every record is one line, valid, and says what was logged, whatever bytes that had. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static char line[8192];
static size_t line_len;

/* What one call writes to standard error. */
static void logged(const char *message)
{
	int fds[2], saved = dup(STDERR_FILENO);
	cr_assert_eq(pipe(fds), 0);
	(void)dup2(fds[1], STDERR_FILENO);
	log_write(LOG_ERROR_, "%s", message);
	(void)dup2(saved, STDERR_FILENO);
	ssize_t n = read(fds[0], line, sizeof(line) - 1);
	cr_assert_gt(n, 0);
	line_len = (size_t)n;
	line[n] = '\0';
	close(fds[0]);
	close(fds[1]);
	close(saved);
}

static json_t *parsed(const char *message)
{
	json_error_t where;
	logged(message);
	cr_assert_leq(line_len, (size_t)PIPE_BUF);
	cr_assert_eq(strcspn(line, "\n"), line_len - 1, "not one line");
	json_t *o = json_loadb(line, line_len, JSON_REJECT_DUPLICATES, &where);
	cr_assert_not_null(o, "%s: %s", where.text, line);
	return o;
}

static const char *text(json_t *o, const char *member)
{
	const char *value = json_string_value(json_object_get(o, member));
	return value ? value : "(none)";
}

Test(log, json_record)
{
	log_set_format(LOG_JSON);
	json_t *o = parsed("job=sub-42 still runs: \"x\" \\ \t\x01 \x7f \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
	cr_assert_str_eq(text(o, "level"), "error");
	cr_assert_str_eq(text(o, "job"), "sub-42");
	cr_assert_str_eq(text(o, "message"), "job=sub-42 still runs: \"x\" \\ \t\x01 \x7f \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
	cr_assert_eq(json_integer_value(json_object_get(o, "pid")), getpid());
	cr_assert_eq(strlen(text(o, "time")), strlen("2026-11-22T09:18:55.123Z"));
	json_decref(o);
}

Test(log, what_is_no_utf8_is_replaced)
{
	static const char *const bad[] = {"\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3", "\xe2\x82", "\x80", "\xf5\x80\x80\x80"};
	log_set_format(LOG_JSON);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *o = parsed(bad[i]);
		cr_assert_eq(strncmp(text(o, "message"), "\xef\xbf\xbd", 3), 0, "case %zu: %s", i, line);
		json_decref(o);
	}
}

/* A stranger's text later in a message does not become a member. */
Test(log, job_only_at_the_head)
{
	log_set_format(LOG_JSON);
	json_t *o = parsed("worker: path /x job=forged");
	cr_assert_null(json_object_get(o, "job"));
	json_decref(o);
}

Test(log, any_bytes)
{
	unsigned seed = 1;
	log_set_format(LOG_JSON);
	for (int round = 0; round < 3000; round++) {
		char message[1200];
		size_t len = (size_t)rand_r(&seed) % (sizeof(message) - 1);
		int high = rand_r(&seed) % 3;
		for (size_t i = 0; i < len; i++)
			message[i] = (char)(high == 0 ? 1 + rand_r(&seed) % 31 : high == 1 ? 128 + rand_r(&seed) % 128
											   : 1 + rand_r(&seed) % 255);
		message[len] = '\0';
		json_decref(parsed(message));
	}
}

Test(log, text_keeps_the_terminal_safe)
{
	log_set_format(LOG_TEXT);
	logged("a\x1b[2Jb\nc\x7f");
	cr_assert_str_eq(line, "petri: error: a?[2Jb?c?\n");
}
