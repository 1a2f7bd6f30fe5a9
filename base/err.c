/* The error value. No allocation, no globals: it works in any process, also after a fork. */
#define ERR_DEFINITIONS
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int normalise(int code)
{
	if (code == 0)
		return -EIO;
	return code > 0 ? -code : code;
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	code = normalise(code);
	if (!err)
		return code;
	char text[ERR_MSG_MAX];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err->code = code;
	(void)snprintf(err->msg, sizeof(err->msg), "%.400s: %.70s", text, strerrordesc_np(-code) ? strerrordesc_np(-code) : "unknown error");
	return code;
}

int err_say(struct err *err, int code, const char *fmt, ...)
{
	code = normalise(code);
	if (!err)
		return code;
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	err->code = code;
	return code;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	if (!err)
		return -EIO;
	char context[ERR_MSG_MAX / 2], old[ERR_MSG_MAX];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
	(void)snprintf(old, sizeof(old), "%s", err->msg);
	(void)snprintf(err->msg, sizeof(err->msg), "%.200s: %.270s", context, old);
	if (err->code == 0)
		err->code = -EIO;
	return err->code;
}

const char *err_msg(const struct err *err)
{
	return err && err->msg[0] ? err->msg : "unknown error";
}
