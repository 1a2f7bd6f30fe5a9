#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/queue.h"
#include "executor/sentinel.h"

static struct redis_url good(const char *text)
{
	struct redis_url url;
	struct err err = ERR_INIT;
	cr_assert_eq(redis_url_parse(text, true, &url, &err), 0, "%s: %s", text, err_msg(&err));
	return url;
}

Test(redis_url, unix_socket)
{
	struct redis_url url = good("unix:///run/redis/redis.sock");
	cr_assert_str_eq(url.path, "/run/redis/redis.sock");
	cr_assert_str_eq(url.host, "");
	cr_assert_eq(url.db, 0);
	url = good("unix:///tmp/a@b:c?db=3");
	cr_assert_str_eq(url.path, "/tmp/a@b:c");
	cr_assert_eq(url.db, 3);
	url = good("unix://me:secret@/tmp/s");
	cr_assert_str_eq(url.user, "me");
	cr_assert_str_eq(url.password, "secret");
	cr_assert_str_eq(url.path, "/tmp/s");
}

Test(redis_url, tcp)
{
	struct redis_url url = good("redis://localhost");
	cr_assert_str_eq(url.host, "localhost");
	cr_assert_eq(url.port, 6379);
	url = good("redis://10.0.0.1:7000/2");
	cr_assert_str_eq(url.host, "10.0.0.1");
	cr_assert_eq(url.port, 7000);
	cr_assert_eq(url.db, 2);
	url = good("redis://[::1]:7000/");
	cr_assert_str_eq(url.host, "::1");
	cr_assert_eq(url.port, 7000);
	url = good("redis://:p%40ss%2f@h/1");
	cr_assert_str_eq(url.user, "");
	cr_assert_str_eq(url.password, "p@ss/");
	cr_assert_eq(url.db, 1);
}

Test(redis_url, refused)
{
	static const struct {
		const char *text;
		int code;
	} cases[] = {
		{"", -EINVAL},
		{"localhost:6379", -EINVAL},
		{"http://x", -EINVAL},
		{"redis://", -EINVAL},
		{"redis://h:0", -EINVAL},
		{"redis://h:65536", -EINVAL},
		{"redis://h:", -EINVAL},
		{"redis://h/x", -EINVAL},
		{"redis://h/1/2", -EINVAL},
		{"redis://h/99999999999999999999", -EINVAL},
		{"redis://[::1", -EINVAL},
		{"redis://[::1]x", -EINVAL},
		{"redis://a b", -EINVAL},
		{"redis://h\n", -EINVAL},
		{"redis://user@h", -EINVAL},
		{"redis://u:@h", -EINVAL},
		{"redis://u:%zz@h", -EINVAL},
		{"redis://u:%00@h", -EINVAL},
		{"redis://u:%4@h", -EINVAL},
		{"unix://", -EINVAL},
		{"unix:///", -EINVAL},
		{"unix://host/path", -EINVAL},
		{"unix:///p?x=1", -EINVAL},
		{"unix:///p?db=", -EINVAL},
		{"sentinel://h", -EINVAL},
		{"sentinel://h/", -EINVAL},
		{"sentinel:///mymaster", -EINVAL},
		{"sentinel://h,,g/mymaster", -EINVAL},
		{"sentinel://h:0/mymaster", -EINVAL},
		{"sentinel://h/my master", -EINVAL},
		{"sentinel://h/mymaster/x", -EINVAL},
		{"sentinel://h/mymaster/1/2", -EINVAL},
		{"sentinel://user@h/mymaster", -EINVAL},
		{"rediss://h", -ENOTSUP},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct redis_url url;
		struct err err = ERR_INIT;
		cr_assert_eq(
			redis_url_parse(cases[i].text, true, &url, &err), cases[i].code, "%s", cases[i].text);
		cr_assert_neq(err.msg[0], 0);
	}
	char text[400] = "unix:///";
	memset(text + 8, 'x', 200);
	struct redis_url url;
	cr_assert_eq(redis_url_parse(text, true, &url, NULL), -ENAMETOOLONG);
	strcpy(text, "redis://");
	memset(text + 8, 'x', 300);
	cr_assert_eq(redis_url_parse(text, true, &url, NULL), -EINVAL);
}

Test(redis_url, sentinels)
{
	struct redis_url url, one;
	struct err err = ERR_INIT;
	char text[700], shown[700];
	cr_assert_eq(redis_url_parse("sentinel://u:p%40@a,10.0.0.1:1,[::1],[::2]:7/my-master/3", true, &url, &err), 0, "%s", err_msg(&err));
	cr_assert_str_eq(url.sentinels, "a:26379,10.0.0.1:1,[::1]:26379,[::2]:7");
	cr_assert_str_eq(url.master, "my-master");
	cr_assert_str_eq(url.user, "u");
	cr_assert_str_eq(url.password, "p@");
	cr_assert_eq(url.db, 3);
	redis_url_format(&url, shown, sizeof(shown));
	cr_assert_str_eq(shown, "sentinel://a:26379,10.0.0.1:1,[::1]:26379,[::2]:7/my-master/3");
	static const struct {
		const char *host;
		int port;
	} nodes[] = {{"a", 26379}, {"10.0.0.1", 1}, {"::1", 26379}, {"::2", 7}};
	for (unsigned i = 0; i < ARRAY_SIZE(nodes); i++) {
		cr_assert_eq(sentinel_node(&url, i, &one), 0);
		cr_assert_str_eq(one.host, nodes[i].host);
		cr_assert_eq(one.port, nodes[i].port);
		cr_assert_str_eq(one.password, "", "a sentinel must not see the master's password");
	}
	cr_assert_eq(sentinel_node(&url, 4, &one), -ENOENT);
	cr_assert_eq(redis_url_parse("sentinel://u:p@a/m", false, &url, &err), -EINVAL);
	size_t n = (size_t)snprintf(text, sizeof(text), "sentinel://a");
	while (n < 600)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ",host");
	(void)snprintf(text + n, sizeof(text) - n, "/m");
	cr_assert_eq(redis_url_parse(text, true, &url, NULL), -E2BIG);
}

/* Credentials on a command line are refused with advice, and no message repeats a password. */
Test(redis_url, credentials_stay_secret)
{
	static const char *const texts[] = {"redis://me:hunter2@h", "unix://me:hunter2@/tmp/s",
		"redis://me:hunter2@h:x", "redis://me:hunter2@", "hunter2://x"};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct redis_url url;
		struct err err = ERR_INIT;
		cr_assert_eq(redis_url_parse(texts[i], false, &url, &err), -EINVAL);
		cr_assert_null(strstr(err.msg, "hunter2"));
		if (i < 4)
			cr_assert_not_null(strstr(err.msg, "PETRI_REDIS"), "%s", err.msg);
		cr_assert(redis_url_parse(texts[i], true, &url, &err) == 0 || !strstr(err.msg, "hunter2"));
	}
	struct redis_url url = good("redis://me:hunter2@h/1");
	char buf[300];
	redis_url_format(&url, buf, sizeof(buf));
	cr_assert_str_eq(buf, "redis://h:6379/1");
}

Test(redis_url, prefixes)
{
	cr_assert(redis_prefix_valid("petri"));
	cr_assert(redis_prefix_valid("{petri0}"));
	cr_assert_not(redis_prefix_valid(""));
	cr_assert_not(redis_prefix_valid(NULL));
	cr_assert_not(redis_prefix_valid("a:b"));
	cr_assert_not(redis_prefix_valid("a b"));
	cr_assert_not(redis_prefix_valid("a*"));
	char text[66];
	memset(text, 'p', 65);
	text[65] = 0;
	cr_assert_not(redis_prefix_valid(text));
	text[64] = 0;
	cr_assert(redis_prefix_valid(text));
}
