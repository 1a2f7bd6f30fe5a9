/* Where Redis is, and with which credentials: the options that every verb has which speaks to it. */
#pragma once

#include "executor/options.h"
#include "executor/queue.h"

#define REDIS_DEFAULT "redis://127.0.0.1:6379/0"
#define REDIS_CREDENTIALS_MAX 4096 /* bytes of the file */

struct redis_options {
	const char *url, *prefix, *credentials_file;
};

/* Rows for a verb whose target has a struct redis_options as @member; see redis_options_ready(). */
/* A member has no parentheses after its dot. NOLINTBEGIN(bugprone-macro-parentheses) */
#define REDIS_OPTIONS(type, member) \
	{ \
		.name = "redis", .arg = "URL", .kind = OPTION_WORD, OPTION_AT(type, member.url), .standard = "PETRI_REDIS, or " REDIS_DEFAULT, .help = REDIS_URL_HELP, .more = REDIS_URL_MORE}, \
		{.name = "redis-credentials-file", .arg = "FILE", .kind = OPTION_WORD, OPTION_AT(type, member.credentials_file), .help = REDIS_CREDENTIALS_HELP, .more = REDIS_CREDENTIALS_MORE, .complete = COMPLETE_FILE}, \
	{ \
		.name = "prefix", .arg = "PREFIX", .kind = OPTION_WORD, OPTION_AT(type, member.prefix), .standard = "petri", \
		.help = REDIS_PREFIX_HELP \
	}
/* NOLINTEND(bugprone-macro-parentheses) */

#define REDIS_URL_HELP "where Redis is: unix:///path[?db=N], redis://host[:port][/db], or sentinel://host[:port],host[:port]/master[/db]"
#define REDIS_URL_MORE \
	"User and password never go on a command line, where every user of the machine can read them. Put redis://user:password@host into " \
	"the environment variable PETRI_REDIS, or name a credentials file. There is no TLS: use a proxy. " \
	"With sentinel:// the sentinels are asked in turn which server is master; they get no credentials."
#define REDIS_CREDENTIALS_HELP "a file with Redis' user and password"
#define REDIS_CREDENTIALS_MORE \
	"Lines 'user = NAME' (not needed for the default user) and 'password = SECRET', in quotes where they hold blanks or '#'. The file " \
	"must belong to root or to the caller, and be neither readable nor writable for anybody else (mode 0600 or 0400)."
#define REDIS_PREFIX_HELP "what every key in Redis begins with"

/* redis_options_ready - the options and the environment (PETRI_REDIS, PETRI_REDIS_CREDENTIALS_FILE) as a URL with credentials, and
 * the prefix checked and defaulted. Return: 0 or -errno. */
int redis_options_ready(struct redis_options *options, struct redis_url *ret, struct err *err);
/* redis_credentials_load - a credentials file's user and password into a URL that has none yet. Messages never repeat its text. */
int redis_credentials_load(const char *path, struct redis_url *url, struct err *err);
