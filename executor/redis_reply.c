/* What a Redis reply says. Replies come from outside: their shape is checked, never assumed. */
#include "executor/redis_reply.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static const struct {
	const char *word;
	enum redis_error kind;
} words[] = {
	{"LOADING", REDIS_ERROR_LATER},
	{"OOM", REDIS_ERROR_LATER},
	{"BUSY", REDIS_ERROR_LATER},
	{"MISCONF", REDIS_ERROR_LATER},
	{"NOREPLICAS", REDIS_ERROR_LATER},
	{"TRYAGAIN", REDIS_ERROR_LATER},
	{"CLUSTERDOWN", REDIS_ERROR_LATER},
	{"MASTERDOWN", REDIS_ERROR_LATER},
	{"UNBLOCKED", REDIS_ERROR_LATER},
	{"ERR max number of clients", REDIS_ERROR_LATER},
	{"READONLY", REDIS_ERROR_MOVED},
	{"MOVED", REDIS_ERROR_MOVED},
	{"NOAUTH", REDIS_ERROR_AUTH},
	{"WRONGPASS", REDIS_ERROR_AUTH},
	{"ERR Protocol error: unauth", REDIS_ERROR_AUTH}, /* a long request before AUTH */
	{"DENIED", REDIS_ERROR_AUTH},			  /* protected mode */
	{"NOPERM", REDIS_ERROR_DENIED},
	{"ERR unknown command", REDIS_ERROR_DENIED},
	{"NOSCRIPT", REDIS_ERROR_NOSCRIPT},
	{"NOGROUP", REDIS_ERROR_NOGROUP},
};

enum redis_error redis_error_kind(const char *text)
{
	if (*text == '-') /* as scripts hand on an error that pcall caught */
		text++;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strncmp(text, words[i].word, strlen(words[i].word)) == 0)
			return words[i].kind;
	return REDIS_ERROR_OTHER;
}

enum redis_error redis_reply_error(const redisReply *reply)
{
	if (!reply)
		return REDIS_ERROR_LATER;
	return reply->type == REDIS_REPLY_ERROR ? redis_error_kind(reply->str) : REDIS_ERROR_NONE;
}

bool redis_reply_is_string(const redisReply *reply)
{
	return reply && reply->type == REDIS_REPLY_STRING;
}

const char *redis_reply_text(const redisReply *reply)
{
	if (!reply)
		return "connection lost";
	bool text = reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS ||
		reply->type == REDIS_REPLY_ERROR;
	return text && reply->str ? reply->str : "";
}

const redisReply *redis_reply_at(const redisReply *reply, size_t i)
{
	return reply && reply->type == REDIS_REPLY_ARRAY && i < reply->elements ? reply->element[i] : NULL;
}

long long redis_reply_int(const redisReply *reply, long long fallback)
{
	if (!reply)
		return fallback;
	if (reply->type == REDIS_REPLY_INTEGER)
		return reply->integer;
	if (reply->type != REDIS_REPLY_STRING)
		return fallback;
	char *end;
	long long value = strtoll(reply->str, &end, 10);
	return end != reply->str && !*end ? value : fallback;
}

void redis_ignore_sigpipe(void)
{
	struct sigaction action;
	if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
		(void)signal(SIGPIPE, SIG_IGN);
}
