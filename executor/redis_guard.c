/*
 * The guard of a connection to Redis (process: petri). hiredis 0.14 asserts that nobody answers who was not asked, and that what comes
 * for a subscription is made as it should be; of a short "unsubscribe" it reads an element that is not there; and of an array it
 * believes any length, and takes memory for it at once. Its reader makes objects by functions that can be replaced: here, those that
 * look first. An object that they refuse is to hiredis one that there is no memory for: the connection is closed.
 *
 * It suffices to look when a reply begins: what was answered before has left the list of those who wait.
 */
#include "executor/redis_guard.h"

#include <string.h>

#include "base/log.h"

/* How it counts an array's elements. */
#if HIREDIS_MAJOR >= 1
typedef size_t elements_t;
#else
typedef int elements_t;
#endif

/* What is about to be made. Its kind is not the task's: "$-1" makes no string, but a nil. */
struct object {
	int type;
	const char *text; /* of strings, errors and statuses */
	size_t len;
	elements_t elements; /* of arrays */
};

/* petri unsubscribes from nothing, and has no patterns. */
static bool is_word(const struct object *what)
{
	return what->type == REDIS_REPLY_STRING &&
		((what->len == 7 && memcmp(what->text, "message", 7) == 0) || (what->len == 9 && memcmp(what->text, "subscribe", 9) == 0));
}

static bool welcome(const redisReadTask *task, const struct object *what)
{
	struct redis_guard *guard = task->privdata;
	const redisAsyncContext *ac = guard->ac;
	if (what->elements > REDIS_GUARD_ELEMENTS_MAX)
		return false;
	if (!task->parent) {
		guard->message = false;
		if (ac->replies.head || what->type == REDIS_REPLY_ERROR)
			return true; /* an error that nobody asked for says that there are too many clients */
		guard->message = true;
		return (ac->c.flags & REDIS_SUBSCRIBED) && what->elements >= 3;
	}
	if (!guard->message || task->parent->parent)
		return true;
	return task->idx == 0 ? is_word(what) : task->idx > 1 || what->type == REDIS_REPLY_STRING;
}

/* Return: the functions of hiredis', or NULL when the object is not to be made. */
static const redisReplyObjectFunctions *admit(const redisReadTask *task, const struct object *what)
{
	const struct redis_guard *guard = task->privdata;
	if (welcome(task, what))
		return guard->plain;
	log_warn("redis: an answer that nobody asked for, or that is none; the connection is closed");
	return NULL;
}

static void *make_string(const redisReadTask *task, char *text, size_t len)
{
	const redisReplyObjectFunctions *fn = admit(task, &(struct object){.type = task->type, .text = text, .len = len});
	return fn ? fn->createString(task, text, len) : NULL;
}

static void *make_array(const redisReadTask *task, elements_t elements)
{
	const redisReplyObjectFunctions *fn = admit(task, &(struct object){.type = REDIS_REPLY_ARRAY, .elements = elements});
	return fn ? fn->createArray(task, elements) : NULL;
}

static void *make_integer(const redisReadTask *task, long long value)
{
	const redisReplyObjectFunctions *fn = admit(task, &(struct object){.type = REDIS_REPLY_INTEGER});
	return fn ? fn->createInteger(task, value) : NULL;
}

static void *make_nil(const redisReadTask *task)
{
	const redisReplyObjectFunctions *fn = admit(task, &(struct object){.type = REDIS_REPLY_NIL});
	return fn ? fn->createNil(task) : NULL;
}

void redis_guard_attach(struct redis_guard *guard, redisAsyncContext *ac)
{
	redisReader *reader = ac->c.reader;
	*guard = (struct redis_guard){.ac = ac, .plain = reader->fn, .fn = *reader->fn};
	guard->fn.createString = make_string;
	guard->fn.createArray = make_array;
	guard->fn.createInteger = make_integer;
	guard->fn.createNil = make_nil;
	reader->privdata = guard;
	reader->fn = &guard->fn;
}

void redis_guard_detach(struct redis_guard *guard)
{
	guard->ac->c.reader->fn = guard->plain;
}
