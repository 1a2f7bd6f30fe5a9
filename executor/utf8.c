/* Validation of UTF-8. Pure functions over hostile bytes; nothing here fails. */
#include "executor/utf8.h"

#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"

/* The Unicode Standard, table 3-7: which second bytes follow which lead; later ones are 80..BF. */
static const struct {
	uint8_t first, last; /* lead bytes */
	uint8_t low, high;   /* the second byte */
	uint8_t len;	     /* of the whole character */
} forms[] = {
	{0xc2, 0xdf, 0x80, 0xbf, 2},
	{0xe0, 0xe0, 0xa0, 0xbf, 3},
	{0xe1, 0xec, 0x80, 0xbf, 3},
	{0xed, 0xed, 0x80, 0x9f, 3},
	{0xee, 0xef, 0x80, 0xbf, 3},
	{0xf0, 0xf0, 0x90, 0xbf, 4},
	{0xf1, 0xf3, 0x80, 0xbf, 4},
	{0xf4, 0xf4, 0x80, 0x8f, 4},
};

/* Bytes of the character at p, which is not ASCII; 0 when it is malformed or cut short. */
static size_t multibyte_len(const uint8_t *p, size_t left)
{
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if (p[0] < forms[i].first || p[0] > forms[i].last)
			continue;
		if (left < forms[i].len || p[1] < forms[i].low || p[1] > forms[i].high)
			return 0;
		for (size_t k = 2; k < forms[i].len; k++)
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].len;
	}
	return 0;
}

/* All eight bytes are 01..7F: the top bits are clear, and no byte borrows when 1 is taken from each. */
static bool ascii8(const uint8_t *p)
{
	uint64_t word;
	memcpy(&word, p, sizeof(word));
	const uint64_t top = 0x8080808080808080ULL, ones = 0x0101010101010101ULL;
	return ((word | (word - ones)) & top) == 0;
}

size_t utf8_text_prefix(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	size_t at = 0;
	while (at < len) {
		if (len - at >= 8 && ascii8(bytes + at)) {
			at += 8;
			continue;
		}
		size_t n = bytes[at] == 0 ? 0 : bytes[at] < 0x80 ? 1
								 : multibyte_len(bytes + at, len - at);
		if (n == 0)
			break;
		at += n;
	}
	return at;
}

void utf8_trim(char *s)
{
	size_t len = strlen(s);
	/* A lead byte among the last three is the only thing that can be incomplete. */
	for (size_t back = 1; back <= 3 && back <= len; back++) {
		uint8_t c = (uint8_t)s[len - back];
		if ((c & 0xc0) == 0x80)
			continue;
		size_t want = c >= 0xf0 ? 4 : c >= 0xe0 ? 3
			: c >= 0xc0			? 2
							: 1;
		if (want > back)
			s[len - back] = '\0';
		return;
	}
}
