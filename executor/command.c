/* What a job is to execute, laid out for its zygote. Pure memory. */
#include "executor/command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "pool/wire.h"

static const char default_path[] = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
static const char default_home[] = "HOME=/work";

static bool same_key(const char *a, const char *b)
{
	size_t len = strcspn(a, "=");
	return strncmp(a, b, len) == 0 && b[len] == '=';
}

static bool has_key(char *const *env, const char *entry)
{
	for (; env && *env; env++)
		if (same_key(entry, *env))
			return true;
	return false;
}

static int add_string(struct command *c, const char *s)
{
	size_t len = strlen(s) + 1;
	if (c->len + len > DISPATCH_STRINGS_MAX)
		return -E2BIG;
	if (c->len + len > c->cap) {
		size_t bigger = MAX(c->cap * 2, c->len + len + 1024);
		char *p = realloc(c->text, bigger);
		if (!p)
			return -ENOMEM;
		c->text = p;
		c->cap = bigger;
	}
	memcpy(c->text + c->len, s, len);
	c->len += len;
	return 0;
}

int command_add_argv(struct command *c, char *const *argv)
{
	for (; argv && *argv; argv++, c->argc++) {
		int r = add_string(c, *argv);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_env(struct command *c, char *const *env, char *const *const *over, size_t nover)
{
	for (; env && *env; env++) {
		bool hidden = false;
		for (size_t i = 0; i < nover; i++)
			hidden |= has_key(over[i], *env);
		if (hidden)
			continue;
		int r = add_string(c, *env);
		if (r < 0)
			return r;
		c->envc++;
	}
	return 0;
}

int command_make(struct command *ret, const struct job *job, const struct image *image)
{
	char *const defaults[] = {(char *)default_path, (char *)default_home, NULL};
	char *const *const over_defaults[] = {job->env, image->env};
	char *const *const over_image[] = {job->env};
	int r;
	if (job->argv) {
		r = command_add_argv(ret, job->argv);
	} else {
		r = command_add_argv(ret, image->entrypoint);
		if (r == 0)
			r = command_add_argv(ret, image->cmd);
	}
	if (r == 0 && ret->argc == 0)
		return -ENOENT;
	if (r == 0)
		r = add_env(ret, job->env, NULL, 0);
	if (r == 0)
		r = add_env(ret, image->env, over_image, 1);
	if (r == 0)
		r = add_env(ret, defaults, over_defaults, 2);
	if (r == 0)
		r = add_string(ret, job->cwd ? job->cwd : image->cwd && image->cwd[0] ? image->cwd
										      : "/work");
	return r;
}

void command_clear(struct command *command)
{
	free(command->text);
	*command = (struct command){0};
}

const char *command_next(const struct command *command, const char *word)
{
	const char *next = word + strlen(word) + 1;
	return next < command->text + command->len ? next : NULL;
}
