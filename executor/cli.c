/* Reading a command line; see the header. */
#include "executor/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "executor/job.h"

bool cli_is(struct cli *cli, const char *name)
{
	if (strcmp(cli->argv[cli->at], name) != 0)
		return false;
	cli->at++;
	return true;
}

bool cli_option(struct cli *cli, const char *name, const char **ret)
{
	const char *arg = cli->argv[cli->at];
	size_t len = strlen(name);
	if (strncmp(arg, name, len) != 0 || (arg[len] != '\0' && arg[len] != '='))
		return false;
	cli->at++;
	if (arg[len] == '=') {
		*ret = arg + len + 1;
		return true;
	}
	if (cli->at >= cli->argc) {
		cli_error(cli, "%s needs a value", name);
		*ret = "";
		return true;
	}
	*ret = cli->argv[cli->at++];
	return true;
}

bool cli_more(struct cli *cli)
{
	if (cli->failed || cli->at >= cli->argc)
		return false;
	const char *arg = cli->argv[cli->at];
	if (strcmp(arg, "--") == 0) {
		cli->at++;
		return false;
	}
	return arg[0] == '-' && arg[1] != '\0';
}

void cli_words(struct cli *cli, void (*option)(struct cli *cli, void *ctx), void *ctx)
{
	int first = cli->at, words = first;
	while (!cli->failed && cli->at < cli->argc) {
		const char *arg = cli->argv[cli->at];
		if (strcmp(arg, "--") == 0) {
			for (cli->at++; cli->at < cli->argc; cli->at++)
				cli->argv[words++] = cli->argv[cli->at];
		} else if (arg[0] == '-' && arg[1] != '\0') {
			option(cli, ctx);
		} else {
			cli->argv[words++] = cli->argv[cli->at++];
		}
	}
	cli->at = first;
	cli->argc = words;
}

bool cli_scratch(struct cli *cli, const char *value)
{
	bool tmpfs = strcmp(value, "tmpfs") == 0;
	if (!tmpfs && strcmp(value, "auto") != 0)
		cli_error(cli, "--scratch is auto or tmpfs, not '%s'", value);
	return tmpfs;
}

int cli_document(const char *path, char **ret, size_t *ret_len, struct err *err)
{
	bool standard = strcmp(path, "-") == 0;
	_cleanup_close_ int fd = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "open %s", path);
	_cleanup_free_ char *text = malloc(JOB_JSON_MAX + 2);
	ssize_t n = text ? fd_read_all(fd, text, JOB_JSON_MAX + 1) : -ENOMEM;
	if (n < 0)
		return err_set(err, (int)n, "read %s", standard ? "standard input" : path);
	*ret = TAKE_PTR(text);
	*ret_len = (size_t)n;
	return 0;
}

void cli_unknown(struct cli *cli)
{
	cli_error(cli, "unknown option '%s'; see petri %s --help", cli->argv[cli->at], cli->verb);
	cli->at++;
}

void cli_error(struct cli *cli, const char *fmt, ...)
{
	va_list ap;
	cli->failed = true;
	(void)fprintf(stderr, "petri %s: ", cli->verb);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
}
