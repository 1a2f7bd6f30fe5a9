/* One pass over a job's text before it is parsed, linear in its length and without memory. */
#include <string.h>

#include "executor/job_json.h"

/* A job's own values nest four deep; the rest is room for meta. jansson itself recurses to 2048. */
#define SCAN_DEPTH_MAX 64
/* Arrays and objects: every file is one, and meta has at most 4 KiB of them. */
#define SCAN_CONTAINERS_MAX 16384
/* Commas: most can only be arguments and environment. */
#define SCAN_COMMAS_MAX 262144

/* The byte after the string whose opening quote is before p, or end. The next quote is remembered, since
 * looking for it anew after each backslash would be quadratic. */
static const char *skip_string(const char *p, const char *end)
{
	const char *quote = NULL;
	while (p < end) {
		if (!quote || quote < p)
			quote = memchr(p, '"', (size_t)(end - p));
		if (!quote)
			return end;
		const char *backslash = memchr(p, '\\', (size_t)(quote - p));
		if (!backslash)
			return quote + 1;
		p = backslash + 2;
	}
	return end;
}

int job_scan(const char *json, size_t len, struct reject *reject)
{
	const char *end = json + len;
	size_t depth = 0, containers = 0, commas = 0;
	for (const char *p = json; p < end;) {
		char c = *p++;
		if (c == '"') {
			p = skip_string(p, end);
		} else if (c == '[' || c == '{') {
			containers++;
			if (++depth > SCAN_DEPTH_MAX)
				return reject_set(
					reject, "", REJECT_TOO_LARGE, "nested deeper than %d levels", SCAN_DEPTH_MAX);
		} else if (c == ']' || c == '}') {
			depth -= depth > 0;
		} else if (c == ',') {
			commas++;
		}
		if (containers > SCAN_CONTAINERS_MAX || commas > SCAN_COMMAS_MAX)
			return reject_set(reject, "", REJECT_TOO_LARGE, "more than %d objects and arrays, or %d values",
				SCAN_CONTAINERS_MAX, SCAN_COMMAS_MAX);
	}
	return 0;
}
