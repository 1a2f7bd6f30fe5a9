/*
 * What the attacks of this directory share. Each is one static program that runs as a job, tries something, looks at what it got,
 * and prints a line for each attempt: "HELD: …" when it was stopped, "BROKEN: …" when it went through. attack.py compiles
 * nothing and knows no more of an attack than its head comment, its directives and these lines.
 */
#pragma once

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One write(2) a line, so that lines of several processes do not mix, and nothing waits in a buffer for an exit that may not come. */
static inline void attack_say(const char *verdict, const char *format, va_list args)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "%s: ", verdict);
	int m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, format, args);
	if (m > (int)sizeof(line) - n - 2)
		m = (int)sizeof(line) - n - 2;
	n += m > 0 ? m : 0;
	line[n++] = '\n';
	if (write(STDOUT_FILENO, line, (size_t)n) < 0)
		_exit(99);
}

/* Set in shared memory, so that finish() knows of what a child said. */
static inline bool *attack_broken(void)
{
	static bool *flag, own;
	if (!flag) {
		flag = (bool *)mmap(NULL, sizeof(*flag), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (flag == MAP_FAILED)
			flag = &own;
	}
	return flag;
}

/* An attempt was stopped. */
__attribute__((format(printf, 1, 2))) static inline void held(const char *format, ...)
{
	int saved = errno;
	va_list args;
	va_start(args, format);
	(void)attack_broken(); /* made before the first fork, if the first attempt is made before it */
	attack_say("HELD", format, args);
	va_end(args);
	errno = saved;
}

/* An attempt went through. */
__attribute__((format(printf, 1, 2))) static inline void broken(const char *format, ...)
{
	int saved = errno;
	va_list args;
	va_start(args, format);
	*attack_broken() = true;
	attack_say("BROKEN", format, args);
	va_end(args);
	errno = saved;
}

/* held() when the condition is true, else broken(); both with the text that follows. */
#define must(condition, ...) ((condition) ? held(__VA_ARGS__) : broken(__VA_ARGS__))

/* A call's result and errno: it must have failed, with one of the errnos; with any, if there are none. */
static inline void attack_judge(const char *what, long result, const int *errnos, size_t n)
{
	int got = errno;
	bool fine = n == 0;
	for (size_t i = 0; i < n; i++)
		fine |= errnos[i] == got;
	if (result >= 0)
		broken("%s: went through, %ld", what, result);
	else if (fine)
		held("%s: %s", what, strerror(got));
	else
		broken("%s: failed, but not as it should: %s", what, strerror(got));
}

/* must_fail(open("/x", O_RDONLY), ENOENT, EACCES): a call that returns a negative number on failure must fail so. No errno: anyhow. */
#define must_fail(call, ...) must_fail_as(#call, call, __VA_ARGS__)
/* The same, under a name of its own. */
#define must_fail_as(what, call, ...) attack_judge(what, (errno = 0, (long)(call)), (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

/* vfork(2), made raw: its child goes on where one of the C library's may not. aarch64 has it as flags of clone(2) alone. */
#ifdef SYS_vfork
#define raw_vfork() syscall(SYS_vfork)
#else
#define raw_vfork() syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0)
#endif

/* The end of main: 1 when anything went through, in this process or a child. */
static inline int finish(void)
{
	return *attack_broken() ? 1 : 0;
}
