/* Finding a profile by its name: the operator's directories first, then those that are part of the program. */
#include "policies/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* A name becomes a file name: nothing that leaves the directory, hides in it, or needs quoting in a log. */
static bool valid_name(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t len = strlen(name);
	return len > 0 && len <= POLICY_NAME_MAX && name[0] != '.' && strspn(name, letters) == len;
}

/* Return: 0, 1 when the directory or the file is not there, or -errno. */
static int load_from(const char *dir, const char *name, struct policy **ret, struct err *err)
{
	_cleanup_close_ int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return errno == ENOENT ? 1 : err_set(err, errno, "open policy directory %s", dir);
	char file[POLICY_NAME_MAX + sizeof(".json")];
	(void)snprintf(file, sizeof(file), "%s.json", name);
	_cleanup_free_ char *json = NULL;
	size_t len = 0;
	int r = fd_read_file(dirfd, file, POLICY_JSON_MAX, &json, &len, err);
	if (r == -ENOENT)
		return 1;
	/* Anything else is an error, not a reason to fall back: a built-in of that name may be laxer. */
	return r < 0 ? r : policy_parse(name, json, len, ret, err);
}

int policy_load(const char *name, const char *const *dirs, struct policy **ret, struct err *err)
{
	if (!valid_name(name))
		return err_say(err, EINVAL, "a policy's name is 1 to %d of A-Z a-z 0-9 . _ - and does not begin with a dot",
			POLICY_NAME_MAX);
	for (size_t i = 0; dirs && dirs[i]; i++) {
		int r = load_from(dirs[i], name, ret, err);
		if (r <= 0)
			return r;
	}
	for (size_t i = 0; i < policy_shipped_count; i++)
		if (strcmp(policy_shipped[i].name, name) == 0)
			return policy_parse(name, policy_shipped[i].json, policy_shipped[i].len, ret, err);
	return err_say(err, ENOENT, "unknown policy %s", name);
}
