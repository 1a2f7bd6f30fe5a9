/* What verbs share; see the header. */
#include "executor/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "executor/job.h"

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
