/* Parsing of numbers, sizes and durations as people write them on a command line. All are strict: the whole
 * string must be used, nothing is negative, and overflow is an error. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* parse_u64 - decimal digits only. Return: 0, -EINVAL or -ERANGE. */
int parse_u64(const char *s, uint64_t *ret, struct err *err);

/* parse_size - bytes: "64M", "1.5G", "4096"; suffixes K M G T (powers of 1024), optionally followed by "iB" or
 * "B". Return: 0, -EINVAL or -ERANGE. */
int parse_size(const char *s, uint64_t *ret_bytes, struct err *err);

#define SIZE_TEXT_MAX 16
/* format_size - for people, and as parse_size() reads it: "512", "1.5K", "20.0G". */
void format_size(uint64_t bytes, char ret[SIZE_TEXT_MAX]);

/* parse_duration_ms - "10s", "250ms", "1.5s", "2m", "1h"; a bare number is seconds. Milliseconds, rounded up. */
int parse_duration_ms(const char *s, uint64_t *ret_ms, struct err *err);

/* parse_decimal - a non-negative decimal such as "0.5" or "2". */
int parse_decimal(const char *s, double *ret, struct err *err);

/* parse_cpu_list - a cpuset list "0-1,3"; only checked, its ends must be in order. @ret_max: highest number. */
int parse_cpu_list(const char *s, unsigned *ret_max, struct err *err);

/* parse_id128 - "xxh128:" followed by 32 lower-case hex digits. */
int parse_id128(const char *s, uint8_t ret[16], struct err *err);

#define ID128_TEXT_MAX 40 /* "xxh128:" + 32 + NUL */

/* format_id128 - the text that parse_id128() reads. */
void format_id128(const uint8_t id[16], char ret[ID128_TEXT_MAX]);

/* format_hex - lower-case hex digits of len bytes; ret has room for 2 * len + 1. */
void format_hex(const uint8_t *bytes, size_t len, char *ret);
