/* Strings of a result as JSON. The bytes are a job's output and hostile; a write error is left in the stream.
 */
#include "executor/result_text.h"

#include <string.h>

#include "base/cleanup.h"
#include "executor/base64.h"
#include "executor/utf8.h"

/* Through a chunk: a call of fwrite for each escape costs more than all the rest. @data is UTF-8, or NULs. */
static void put_escaped(FILE *f, const char *data, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	static const char shorts[32] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
	char chunk[4096];
	size_t used = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];
		if (used > sizeof(chunk) - 6) {
			(void)fwrite_unlocked(chunk, 1, used, f);
			used = 0;
		}
		if (c >= 0x20 && c != '"' && c != '\\') {
			chunk[used++] = (char)c;
			continue;
		}
		chunk[used++] = '\\';
		if (c >= 0x20) {
			chunk[used++] = (char)c;
			continue;
		}
		if (shorts[c]) {
			chunk[used++] = shorts[c];
			continue;
		}
		memcpy(chunk + used, "u00", 3);
		chunk[used + 3] = hex[c >> 4];
		chunk[used + 4] = hex[c & 15];
		used += 5;
	}
	(void)fwrite_unlocked(chunk, 1, used, f);
}

void text_string(FILE *f, const char *data, size_t len)
{
	(void)fputc_unlocked('"', f);
	for (size_t at = 0; at < len;) {
		size_t good = utf8_text_prefix(data + at, len - at);
		put_escaped(f, data + at, good);
		at += good;
		if (at == len)
			break;
		if (data[at] == '\0')
			put_escaped(f, data + at, 1);
		else
			(void)fputs_unlocked("\xef\xbf\xbd", f);
		at++;
	}
	(void)fputc_unlocked('"', f);
}

void text_data(FILE *f, const char *data, size_t len)
{
	if (utf8_is_text(data, len)) {
		(void)fputs_unlocked("\"data\":\"", f);
		put_escaped(f, data, len);
		(void)fputc_unlocked('"', f);
		return;
	}
	(void)fputs_unlocked("\"base64\":\"", f);
	char chunk[4096]; /* its input is a multiple of 3, so that only the last one is padded */
	const size_t step = sizeof(chunk) / 4 * 3;
	for (size_t at = 0; at < len; at += step) {
		size_t n = MIN(step, len - at);
		base64_encode(data + at, n, chunk);
		(void)fwrite_unlocked(chunk, 1, base64_encoded_len(n), f);
	}
	(void)fputc_unlocked('"', f);
}
