/*
 * The one error idiom: int f(..., struct err *err) returns < 0 (-errno) with err filled where the fault
 * happened and wrapped with context on the way up, 0 for success, > 0 for a documented condition.
 * struct err is a fixed-size value owned by the caller; NULL is allowed everywhere.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#define ERR_MSG_MAX 480

struct err {
	int code; /* negative errno; 0 when nothing was recorded */
	char msg[ERR_MSG_MAX];
};

#define ERR_INIT ((struct err){0, ""})

/*
 * err_set - record a fault.
 * @err:  where to record it, or NULL
 * @code: errno value, positive or negative; 0 is taken as EIO so that a fault is never mistaken for success
 * @fmt:  what was being done; ": strerror(code)" is appended
 *
 * Return: -abs(code), so that `return err_set(err, errno, "open %s", path);` reads naturally.
 */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* err_say - as err_set(), but fmt is the whole message: for faults whose errno would only confuse. */
int err_say(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * err_wrap - put context before the message already recorded: "context: message".
 * Return: err->code (negative), or -EIO when err is NULL or empty.
 */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#if defined(__clang_analyzer__) && !defined(ERR_DEFINITIONS) /* what is promised above, for a reader of one file at a time */
static inline int err_negative(int r)
{
	if (r >= 0)
		__builtin_unreachable();
	return r;
}
#define err_set(...) err_negative(err_set(__VA_ARGS__))
#define err_say(...) err_negative(err_say(__VA_ARGS__))
#define err_wrap(...) err_negative(err_wrap(__VA_ARGS__))
#endif

/* err_msg - the message; never NULL. */
const char *err_msg(const struct err *err);
