/* Base64, RFC 4648 section 4, strictly: the standard alphabet, padding required, no white space, and the
 * unused bits of the last character zero, so that each content has exactly one text. */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* base64_encoded_len - characters for len bytes. */
static inline size_t base64_encoded_len(size_t len)
{
	return (len + 2) / 3 * 4;
}

/* base64_encode - write base64_encoded_len(len) characters, no NUL. */
void base64_encode(const void *data, size_t len, char *out);

/*
 * base64_decode - decode into a fresh buffer.
 * @ret: the caller frees it; one NUL byte follows the data. Neither output is touched on failure.
 * Return: 0, -EINVAL with a message that says what is wrong and where, or -ENOMEM.
 */
int base64_decode(const char *text, size_t len, char **ret, size_t *ret_len, struct err *err);
