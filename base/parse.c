/* Strict parsers for what operators type. Pure functions, no locale: '.' is always the decimal point. */
#include "base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

static int parse_digits(const char **p, uint64_t *ret)
{
	if (!isdigit((unsigned char)**p))
		return -EINVAL;
	uint64_t v = 0;
	for (; isdigit((unsigned char)**p); (*p)++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(**p - '0'), &v))
			return -ERANGE;
	*ret = v;
	return 0;
}

/* A decimal as whole + frac/scale, exact for up to nine digits after the point; more are cut off. */
static int parse_fixed(const char **p, uint64_t *whole, uint64_t *nano)
{
	int r = parse_digits(p, whole);
	if (r < 0)
		return r;
	*nano = 0;
	if (**p != '.')
		return 0;
	(*p)++;
	if (!isdigit((unsigned char)**p))
		return -EINVAL;
	uint64_t unit = 100000000;
	for (; isdigit((unsigned char)**p); (*p)++, unit /= 10)
		*nano += unit * (uint64_t)(**p - '0');
	return 0;
}

static int bad(struct err *err, int r, const char *what, const char *s)
{
	if (r == -ERANGE)
		return err_say(err, ERANGE, "'%.100s' is too large for %s", s, what);
	return err_say(err, EINVAL, "'%.100s' is not %s", s, what);
}

int parse_u64(const char *s, uint64_t *ret, struct err *err)
{
	const char *p = s;
	uint64_t v;
	int r = parse_digits(&p, &v);
	if (r < 0 || *p)
		return bad(err, r, "a whole number", s);
	*ret = v;
	return 0;
}

/* whole.nano * unit, rounded up. */
static int scale(uint64_t whole, uint64_t nano, uint64_t unit, uint64_t *ret)
{
	unsigned __int128 v = (unsigned __int128)whole * unit;
	v += ((unsigned __int128)nano * unit + 999999999) / 1000000000;
	if (v > UINT64_MAX)
		return -ERANGE;
	*ret = (uint64_t)v;
	return 0;
}

int parse_size(const char *s, uint64_t *ret_bytes, struct err *err)
{
	const char *p = s;
	uint64_t whole, nano, unit = 1;
	int r = parse_fixed(&p, &whole, &nano);
	if (r < 0)
		return bad(err, r, "a size such as 64M", s);
	static const char suffixes[] = "KMGT";
	const char *at = *p ? strchr(suffixes, toupper((unsigned char)*p)) : NULL;
	if (at) {
		unit = 1ULL << (10 * (at - suffixes + 1));
		p++;
		if (p[0] == 'i' && p[1] == 'B')
			p += 2;
	}
	if (p[0] == 'B' && p[-1] != 'B')
		p++;
	if (*p)
		return bad(err, -EINVAL, "a size such as 64M", s);
	r = scale(whole, nano, unit, ret_bytes);
	return r < 0 ? bad(err, r, "a size such as 64M", s) : 0;
}

void format_size(uint64_t bytes, char ret[SIZE_TEXT_MAX])
{
	static const char suffixes[] = "KMGT";
	double value = (double)bytes;
	size_t i = 0;
	if (bytes < 1024) {
		(void)snprintf(ret, SIZE_TEXT_MAX, "%u", (unsigned)bytes);
		return;
	}
	for (value /= 1024; value >= 1023.95 && i + 1 < strlen(suffixes); i++)
		value /= 1024;
	(void)snprintf(ret, SIZE_TEXT_MAX, "%.1f%c", value, suffixes[i]);
}

int parse_duration_ms(const char *s, uint64_t *ret_ms, struct err *err)
{
	static const struct {
		const char *suffix;
		uint64_t ms;
	} units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	const char *p = s;
	uint64_t whole, nano;
	int r = parse_fixed(&p, &whole, &nano);
	if (r < 0)
		return bad(err, r, "a duration such as 10s or 250ms", s);
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(p, units[i].suffix) != 0)
			continue;
		r = scale(whole, nano, units[i].ms, ret_ms);
		return r < 0 ? bad(err, r, "a duration", s) : 0;
	}
	return bad(err, -EINVAL, "a duration such as 10s or 250ms", s);
}

int parse_decimal(const char *s, double *ret, struct err *err)
{
	const char *p = s;
	uint64_t whole, nano;
	int r = parse_fixed(&p, &whole, &nano);
	if (r < 0 || *p)
		return bad(err, r, "a decimal number", s);
	*ret = (double)whole + (double)nano / 1e9;
	return 0;
}

int parse_cpu_list(const char *s, unsigned *ret_max, struct err *err)
{
	const char *p = s;
	uint64_t highest = 0;
	for (;;) {
		uint64_t lo, hi;
		if (parse_digits(&p, &lo) < 0)
			return bad(err, -EINVAL, "a CPU list such as 0-1,3", s);
		hi = lo;
		if (*p == '-') {
			p++;
			if (parse_digits(&p, &hi) < 0)
				return bad(err, -EINVAL, "a CPU list such as 0-1,3", s);
		}
		if (hi < lo || hi > 65535)
			return bad(err, -EINVAL, "a CPU list such as 0-1,3", s);
		highest = MAX(highest, hi);
		if (*p == '\0')
			break;
		if (*p++ != ',')
			return bad(err, -EINVAL, "a CPU list such as 0-1,3", s);
	}
	if (ret_max)
		*ret_max = (unsigned)highest;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int parse_id128(const char *s, uint8_t ret[16], struct err *err)
{
	static const char prefix[] = "xxh128:";
	uint8_t id[16];
	if (strncmp(s, prefix, strlen(prefix)) != 0 || strlen(s) != strlen(prefix) + 32)
		return bad(err, -EINVAL, "an id such as xxh128: and 32 hex digits", s);
	const char *p = s + strlen(prefix);
	for (size_t i = 0; i < 16; i++) {
		int hi = hex_digit(p[2 * i]), lo = hex_digit(p[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return bad(err, -EINVAL, "an id such as xxh128: and 32 hex digits", s);
		id[i] = (uint8_t)(hi << 4 | lo);
	}
	memcpy(ret, id, sizeof(id));
	return 0;
}

void format_hex(const uint8_t *bytes, size_t len, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < len; i++) {
		ret[2 * i] = digits[bytes[i] >> 4];
		ret[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret[2 * len] = '\0';
}

void format_id128(const uint8_t id[16], char ret[ID128_TEXT_MAX])
{
	memcpy(ret, "xxh128:", 7);
	format_hex(id, 16, ret + 7);
}
