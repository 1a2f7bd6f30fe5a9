/* What a Redis reply says: kinds of errors, and its parts without trust in their types. */
#pragma once

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

enum redis_error {
	REDIS_ERROR_NONE,     /* not an error */
	REDIS_ERROR_LATER,    /* LOADING, OOM, BUSY, MISCONF …: the same request may succeed later */
	REDIS_ERROR_MOVED,    /* READONLY and the like: this server is not (or no longer) the one to talk to */
	REDIS_ERROR_AUTH,     /* NOAUTH, WRONGPASS, protected mode */
	REDIS_ERROR_DENIED,   /* NOPERM, or a command that does not exist here */
	REDIS_ERROR_NOSCRIPT, /* EVALSHA of a script that the server does not hold */
	REDIS_ERROR_NOGROUP,  /* stream or group vanished (FLUSHALL) */
	REDIS_ERROR_OTHER,
	REDIS_ERROR_MAX
};

/* redis_reply_error - NULL (the connection was lost) counts as REDIS_ERROR_LATER. */
enum redis_error redis_reply_error(const redisReply *reply);
enum redis_error redis_error_kind(const char *text);
/* redis_reply_text - an error's or string's text; never NULL. */
const char *redis_reply_text(const redisReply *reply);
/* redis_reply_at - element i of an array; NULL when it is no array or too short. */
const redisReply *redis_reply_at(const redisReply *reply, size_t i);
/* redis_reply_int - an integer, or a string of digits; fallback otherwise. */
long long redis_reply_int(const redisReply *reply, long long fallback);
bool redis_reply_is_string(const redisReply *reply);
/* redis_ignore_sigpipe - hiredis writes with write(2): a server that went away would end the process. Leaves a handler
 * of the program's own alone. */
void redis_ignore_sigpipe(void);
