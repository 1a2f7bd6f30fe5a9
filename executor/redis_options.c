/* Where Redis is and how to be let in; see the header. Runs with the rights of whoever started petri, before any are dropped. */
#include "executor/redis_options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "executor/config_file.h"

static int take_credential(void *ctx, const char *section, const char *key, const char *value, unsigned line, struct err *err)
{
	struct redis_url *url = ctx;
	bool user = strcmp(key, "user") == 0;
	(void)line;
	if (*section || (!user && strcmp(key, "password") != 0))
		return err_say(err, EINVAL, "a credentials file has 'user = NAME' and 'password = SECRET', and nothing else");
	char *at = user ? url->user : url->password;
	size_t cap = user ? sizeof(url->user) : sizeof(url->password);
	if (*at)
		return err_say(err, EINVAL, "%s is given twice", key);
	if (!*value || strlen(value) >= cap)
		return err_say(err, EINVAL, "the %s is empty, or longer than %zu bytes", key, cap - 1);
	(void)snprintf(at, cap, "%s", value);
	return 0;
}

/* What is checked is what is read: the open file, not its name. */
static int open_private(const char *path, struct err *err)
{
	struct stat st;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, errno, "open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_say(err, EINVAL, "%s is not a regular file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_say(err, EPERM, "%s belongs to another user", path);
	if (st.st_mode & 077)
		return err_say(err, EPERM, "others may read or change %s: chmod 600 it, and change the password", path);
	return TAKE_FD(fd);
}

int redis_credentials_load(const char *path, struct redis_url *url, struct err *err)
{
	char text[REDIS_CREDENTIALS_MAX + 1];
	if (url->user[0] || url->password[0])
		return err_say(err, EINVAL, "there are credentials in the URL and a credentials file: one of them has to go");
	_cleanup_close_ int fd = open_private(path, err);
	if (fd < 0)
		return fd;
	ssize_t n = fd_read_all(fd, text, sizeof(text));
	int r = n < 0 ? err_set(err, (int)n, "read %s", path) : n > REDIS_CREDENTIALS_MAX ? err_say(err, EFBIG, "%s is no credentials file: too large", path)
											  : config_parse(path, text, (size_t)n, take_credential, url, err);
	explicit_bzero(text, sizeof(text));
	if (r == 0 && !url->password[0])
		r = err_say(err, EINVAL, "%s has no password", path);
	return r;
}

int redis_options_ready(struct redis_options *options, struct redis_url *ret, struct err *err)
{
	const char *env = getenv("PETRI_REDIS"), *file = getenv("PETRI_REDIS_CREDENTIALS_FILE");
	bool from_env = !options->url && env && *env;
	if (!options->credentials_file && file && *file)
		options->credentials_file = file;
	if (!options->prefix)
		options->prefix = "petri";
	if (!redis_prefix_valid(options->prefix))
		return err_say(err, EINVAL, "--prefix wants letters, digits and . _ { } -, at most 64");
	int r = redis_url_parse(options->url ? options->url : from_env ? env
								       : REDIS_DEFAULT,
		from_env, ret, err);
	return r == 0 && options->credentials_file ? redis_credentials_load(options->credentials_file, ret, err) : r;
}
