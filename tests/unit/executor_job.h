/* What the tests of job_parse() share: parse, accept or refuse a document, and build large ones. */
#pragma once

#include <criterion/criterion.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "executor/job.h"

#define ID_A "xxh128:000102030405060708090a0b0c0d0e0f"
#define ID_B "xxh128:ffffffffffffffffffffffffffffffff"

static struct job job; /* the last one parsed */
static struct reject reject;

static inline int parse_len(const char *text, size_t len, const struct job_limits *max)
{
	memset(&reject, 0x55, sizeof(reject));
	return job_parse(text, len, max, &job, &reject);
}

static inline int parse(const char *text)
{
	return parse_len(text, strlen(text), NULL);
}

static inline void accept(const char *text)
{
	cr_assert_eq(parse(text), 0, "%.200s: refused for '%s': %s", text, reject.field, reject.message);
}

static inline void refuse(const char *text, const char *field, enum reject_reason reason)
{
	cr_assert_eq(parse(text), 1, "accepted %.200s", text);
	cr_assert_str_eq(reject.field, field, "%.200s: '%s' (%s)", text, reject.field, reject.message);
	cr_assert_eq(reject.reason, reason, "%.200s: %s", text, reject.message);
	cr_assert_str_not_empty(reject.message);
	job_clear(&job);
}

/* A document built by printf; the caller frees it. */
__attribute__((format(printf, 1, 2))) static inline char *make(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	va_start(ap, fmt);
	cr_assert_geq(vasprintf(&text, fmt, ap), 0);
	va_end(ap);
	return text;
}

/* n times unit, with separators between; the caller frees it. */
static inline char *repeat(const char *unit, const char *separator, size_t n)
{
	size_t a = strlen(unit), b = strlen(separator);
	char *text = malloc(n * (a + b) + 1), *p = text;
	for (size_t i = 0; i < n; i++) {
		memcpy(p, separator, i ? b : 0);
		p += i ? b : 0;
		memcpy(p, unit, a);
		p += a;
	}
	*p = '\0';
	return text;
}
