#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/queue.h"

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
		{"sentinel://h/mymaster", -ENOTSUP},
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
