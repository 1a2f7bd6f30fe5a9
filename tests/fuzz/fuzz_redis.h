/*
 * What the fuzz targets of Redis share: replies, out of the input through hiredis' own reader. A record of the input ends with
 * byte 0x1e. Lengths of more than four digits are left out: hiredis believes them, and would only show how much memory there is.
 */
#pragma once

#include <ctype.h>
#include <hiredis/hiredis.h>

#include "fuzz_input.h"

#define RECORD_END 0x1e

/* take_reply - the next record as one reply. Return: NULL when it is none, or not a whole one; else freeReplyObject(). */
static inline redisReply *take_reply(struct input *in)
{
	const uint8_t *end = in->left ? memchr(in->at, RECORD_END, in->left) : NULL;
	size_t len = end ? (size_t)(end - in->at) : in->left;
	const char *text = (const char *)in->at;
	void *reply = NULL;
	in->at += len + (end != NULL);
	in->left -= len + (end != NULL);
	for (size_t i = 0, digits = 0; i < len; i++) {
		if ((text[i] == '*' || text[i] == '$') && (i == 0 || text[i - 1] == '\n'))
			digits = 1;
		else if (digits)
			digits = isdigit((unsigned char)text[i]) ? digits + 1 : 0;
		if (digits > 5)
			return NULL;
	}
	redisReader *reader = redisReaderCreate();
	CHECK(reader && redisReaderFeed(reader, text, len) == REDIS_OK);
	if (redisReaderGetReply(reader, &reply) != REDIS_OK)
		reply = NULL;
	redisReaderFree(reader);
	return reply;
}
