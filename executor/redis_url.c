/*
 * Where Redis is, as people write it: unix:///path, redis://host:port/db (process: petri; the text comes from
 * the operator, still every byte is checked). Messages never repeat the text, which may hold a password.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "executor/queue.h"

#define SENTINEL_PORT 26379
#define SOCKET_PATH_MAX 107 /* sun_path, unix(7) */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Percent-decode len bytes of text. Return: 0, or -EINVAL (bad escape, NUL, or no room). */
static int decode(const char *text, size_t len, char *out, size_t cap)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)text[i];
		if (c == '%') {
			if (len - i < 3 || hex_digit(text[i + 1]) < 0 || hex_digit(text[i + 2]) < 0)
				return -EINVAL;
			c = hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]);
			i += 2;
		}
		if (c == 0 || n + 1 >= cap)
			return -EINVAL;
		out[n++] = (char)c;
	}
	out[n] = 0;
	return 0;
}

static int number(const char *text, size_t len, uint64_t max, int *ret)
{
	char buf[16];
	uint64_t value;
	if (len == 0 || len >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, text, len);
	buf[len] = 0;
	if (parse_u64(buf, &value, NULL) < 0 || value > max)
		return -EINVAL;
	*ret = (int)value;
	return 0;
}

static int credentials(const char *text, size_t len, bool allowed, struct redis_url *url, struct err *err)
{
	if (!allowed)
		return err_say(err, EINVAL,
			"redis: credentials do not belong on a command line, where every user can read them; "
			"put the URL "
			"into the environment variable PETRI_REDIS or into a file");
	const char *colon = memchr(text, ':', len);
	if (!colon)
		return err_say(err, EINVAL, "redis: the URL has a user without a password (user:password@)");
	size_t user = (size_t)(colon - text);
	if (decode(text, user, url->user, sizeof(url->user)) < 0 ||
		decode(colon + 1, len - user - 1, url->password, sizeof(url->password)) < 0)
		return err_say(
			err, EINVAL, "redis: the URL's user or password is too long or badly %%-escaped");
	if (!url->password[0])
		return err_say(err, EINVAL, "redis: the URL has an empty password");
	return 0;
}

static int host(const char *text, size_t len, struct redis_url *url, struct err *err)
{
	const char *end = text + len, *name = text, *allowed, *rest;
	size_t n;
	if (len && *text == '[') {
		const char *close = memchr(text, ']', len);
		if (!close)
			return err_say(err, EINVAL, "redis: the URL's [address] lacks its closing bracket");
		name = text + 1;
		n = (size_t)(close - name);
		rest = close + 1;
		allowed = "0123456789abcdefABCDEF:.";
	} else {
		const char *colon = memchr(text, ':', len);
		n = colon ? (size_t)(colon - text) : len;
		rest = text + n;
		allowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-";
	}
	if (n == 0 || n >= sizeof(url->host))
		return err_say(err, EINVAL, "redis: the URL has no host, or one that is too long");
	memcpy(url->host, name, n);
	url->host[n] = 0;
	if (strspn(url->host, allowed) != n)
		return err_say(err, EINVAL, "redis: the URL's host has characters that no host name has");
	url->port = 6379;
	if (rest == end)
		return 0;
	if (*rest != ':' || number(rest + 1, (size_t)(end - rest - 1), 65535, &url->port) < 0 ||
		url->port == 0)
		return err_say(err, EINVAL, "redis: the URL's port is not a number from 1 to 65535");
	return 0;
}

static int unix_path(const char *text, struct redis_url *url, struct err *err)
{
	const char *query = strchr(text, '?');
	size_t n = query ? (size_t)(query - text) : strlen(text);
	if (n < 2)
		return err_say(err, EINVAL,
			"redis: unix:// needs an absolute path, such as unix:///run/redis/redis.sock");
	if (n > SOCKET_PATH_MAX)
		return err_say(err, ENAMETOOLONG, "redis: the path of a unix socket has at most %d bytes",
			SOCKET_PATH_MAX);
	memcpy(url->path, text, n);
	url->path[n] = 0;
	if (query &&
		(strncmp(query, "?db=", 4) != 0 || number(query + 4, strlen(query + 4), 65535, &url->db) < 0))
		return err_say(err, EINVAL, "redis: after a unix socket's path only ?db=NUMBER can follow");
	return 0;
}

static int authority(
	const char *text, bool tcp, bool allow_credentials, struct redis_url *url, struct err *err)
{
	size_t len = strcspn(text, "/");
	const char *rest = text + len;
	const char *at = memrchr(text, '@', len);
	if (at) {
		int r = credentials(text, (size_t)(at - text), allow_credentials, url, err);
		if (r < 0)
			return r;
		len -= (size_t)(at + 1 - text);
		text = at + 1;
	}
	if (!tcp) {
		if (len)
			return err_say(err, EINVAL,
				"redis: a unix socket has no host: three slashes, "
				"unix:///run/redis/redis.sock");
		return unix_path(rest, url, err);
	}
	int r = host(text, len, url, err);
	if (r < 0)
		return r;
	if (rest[0] && rest[1] && number(rest + 1, strlen(rest + 1), 65535, &url->db) < 0)
		return err_say(err, EINVAL, "redis: after the host only /NUMBER (a database) can follow");
	return 0;
}

/* Each must be what redis:// would take, with 26379 for a port that is not there. */
static int add_sentinel(const char *text, size_t len, struct redis_url *url, struct err *err)
{
	struct redis_url one = {0};
	int r = host(text, len, &one, err);
	if (r < 0)
		return r;
	bool plain = !memchr(text, ':', len), bracketed = *text == '[';
	if ((plain || (bracketed && text[len - 1] == ']')))
		one.port = SENTINEL_PORT;
	size_t n = strlen(url->sentinels);
	int added = snprintf(url->sentinels + n, sizeof(url->sentinels) - n, bracketed ? "%s[%s]:%d" : "%s%s:%d", n ? "," : "", one.host, one.port);
	if (added < 0 || (size_t)added >= sizeof(url->sentinels) - n)
		return err_say(err, E2BIG, "redis: the URL has too many sentinels");
	return 0;
}

static int sentinels(const char *text, bool allow_credentials, struct redis_url *url, struct err *err)
{
	size_t len = strcspn(text, "/");
	const char *at = memrchr(text, '@', len), *name = text[len] ? text + len + 1 : "";
	int r = at ? credentials(text, (size_t)(at - text), allow_credentials, url, err) : 0;
	size_t n = strcspn(name, "/");
	const char *end = text + len;
	for (const char *one = at ? at + 1 : text; r == 0 && one <= end;) {
		const char *comma = memchr(one, ',', (size_t)(end - one)), *stop = comma ? comma : end;
		r = add_sentinel(one, (size_t)(stop - one), url, err);
		one = stop + 1;
	}
	if (r < 0)
		return r;
	if (n == 0 || n >= sizeof(url->master) ||
		strspn(name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-") != n)
		return err_say(err, EINVAL, "redis: after the sentinels the URL names the master: sentinel://host:26379,…/mymaster");
	memcpy(url->master, name, n);
	if (name[n] && name[n + 1] && number(name + n + 1, strlen(name + n + 1), 65535, &url->db) < 0)
		return err_say(err, EINVAL, "redis: after the master's name only /NUMBER (a database) can follow");
	return 0;
}

int redis_url_parse(const char *text, bool allow_credentials, struct redis_url *ret, struct err *err)
{
	struct redis_url url = {0};
	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return err_say(
				err, EINVAL, "redis: the URL has a blank, control or non-ASCII character");
	int r;
	if (strncmp(text, "unix://", 7) == 0)
		r = authority(text + 7, false, allow_credentials, &url, err);
	else if (strncmp(text, "redis://", 8) == 0)
		r = authority(text + 8, true, allow_credentials, &url, err);
	else if (strncmp(text, "sentinel://", 11) == 0)
		r = sentinels(text + 11, allow_credentials, &url, err);
	else if (strncmp(text, "rediss://", 9) == 0)
		r = err_say(err, ENOTSUP, "redis: TLS is not built in; run a TLS proxy and name its socket");
	else
		r = err_say(err, EINVAL, "redis: the URL must begin with unix://, redis:// or sentinel://");
	if (r == 0)
		*ret = url;
	explicit_bzero(&url, sizeof(url));
	return r;
}

void redis_url_format(const struct redis_url *url, char *buf, size_t cap)
{
	if (url->master[0])
		(void)snprintf(buf, cap, "sentinel://%s/%s/%d", url->sentinels, url->master, url->db);
	else if (url->path[0])
		(void)snprintf(buf, cap, url->db ? "unix://%s?db=%d" : "unix://%s", url->path, url->db);
	else if (strchr(url->host, ':'))
		(void)snprintf(buf, cap, "redis://[%s]:%d/%d", url->host, url->port, url->db);
	else
		(void)snprintf(buf, cap, "redis://%s:%d/%d", url->host, url->port, url->db);
}

bool redis_prefix_valid(const char *prefix)
{
	size_t n = prefix ? strlen(prefix) : 0;
	return n >= 1 && n <= 64 &&
		strspn(prefix, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._{}-") == n;
}
