/* Which command lines are compared; see the header. */
#include "bench/subject.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int subject_choose(struct subject *s, const struct workspace *ws, const struct options *o, struct err *err)
{
	static char *true_in_image[] = {(char *)"/true", NULL};
	s->true_argv[0] = (char *)ws->floor;
	s->programs[SUBJECT_FLOOR] = s->programs[SUBJECT_NATIVE] = (struct program){.argv = s->true_argv};
	s->is_floor = !o->argv;
	s->argv = s->is_floor ? true_in_image : o->argv;
	if (s->is_floor)
		return 0;
	size_t n = 0;
	while (s->argv[n])
		n++;
	s->native_argv = calloc(n + 1, sizeof(char *));
	if (!s->native_argv)
		return err_set(err, ENOMEM, "copy a command line");
	memcpy(s->native_argv, s->argv, n * sizeof(char *));
	if (o->native)
		s->native_argv[0] = (char *)o->native;
	s->programs[SUBJECT_NATIVE] = (struct program){.argv = s->native_argv, .foreign = true, .log_fd = STDERR_FILENO}; /* it may print */
	return 0;
}
