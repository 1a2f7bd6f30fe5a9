/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* utf8_text_prefix - how many leading bytes of data are whole, well-formed UTF-8 characters other than NUL.
 */
size_t utf8_text_prefix(const void *data, size_t len);

/* utf8_is_text - all of it is; true for no bytes at all. */
static inline bool utf8_is_text(const void *data, size_t len)
{
	return utf8_text_prefix(data, len) == len;
}

/* utf8_trim - cut off a character that a fixed-size buffer left incomplete at the end of the string s. */
void utf8_trim(char *s);
