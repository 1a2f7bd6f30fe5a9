/* Base64 for file contents and outputs in JSON. Pure functions; the decoder's input is hostile. */
#include "executor/base64.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *data, size_t len, char *out)
{
	const uint8_t *p = data;
	for (; len >= 3; len -= 3, p += 3) {
		uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
		*out++ = alphabet[v >> 18];
		*out++ = alphabet[v >> 12 & 63];
		*out++ = alphabet[v >> 6 & 63];
		*out++ = alphabet[v & 63];
	}
	if (len == 0)
		return;
	uint32_t v = (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);
	*out++ = alphabet[v >> 18];
	*out++ = alphabet[v >> 12 & 63];
	*out++ = '=';
	*out = '=';
	if (len == 2)
		out[-1] = alphabet[v >> 6 & 63];
}

/* 64 for a byte outside the alphabet, '=' included. */
static uint8_t digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint8_t)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint8_t)(c - 'a' + 26);
	if (c >= '0' && c <= '9')
		return (uint8_t)(c - '0' + 52);
	return c == '+' ? 62 : c == '/' ? 63
					: 64;
}

int base64_decode(const char *text, size_t len, char **ret, size_t *ret_len, struct err *err)
{
	if (len % 4 != 0)
		return err_say(err, EINVAL, "its length, %zu, is not a multiple of 4 (padding is required)", len);
	size_t pad = 0;
	if (len > 0)
		pad = text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1
								      : 2;
	size_t size = len / 4 * 3 - pad;
	_cleanup_free_ char *buf = malloc(size + 1);
	if (!buf)
		return err_set(err, ENOMEM, "decode %zu characters of base64", len);
	uint32_t bits = 0;
	size_t at = 0;
	for (size_t i = 0; i < len - pad; i++) {
		uint8_t v = digit(text[i]);
		if (v == 64)
			return err_say(err, EINVAL, "character %zu is not one of A-Z a-z 0-9 + /", i);
		bits = bits << 6 | v;
		if (i % 4 == 0)
			continue;
		/* 2, 4 or 6 bits of this character wait for the next one; what is shifted out was used. */
		unsigned rest = 6 - 2 * (unsigned)(i % 4);
		buf[at++] = (char)(bits >> rest & 0xff);
	}
	/* The last character of a padded group carries 2 (one '=') or 4 (two) bits that no byte uses. */
	if (pad > 0 && (bits & (pad == 1 ? 3u : 15u)) != 0)
		return err_say(err, EINVAL, "the unused bits before the padding are not zero");
	buf[at] = '\0';
	*ret = TAKE_PTR(buf);
	*ret_len = size;
	return 0;
}
