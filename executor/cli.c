/* Reading a command line; see the header. */
#include "executor/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
