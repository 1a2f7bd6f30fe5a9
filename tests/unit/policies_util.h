/* What the tests of policies/ share: profiles from text, and programs tried by name. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>

#include "base/cleanup.h"
#include "policies/profile.h"

#define ALLOW SECCOMP_RET_ALLOW
#define LOG SECCOMP_RET_LOG
#define VIOLATION SECCOMP_RET_USER_NOTIF
#define ERRNO(e) (SECCOMP_RET_ERRNO | (unsigned)(e))

/* Shorthand for profiles in tests: only double quotes are quotes in JSON. */
static inline char *json(const char *text)
{
	char *copy = strdup(text);
	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	return copy;
}

static inline int parse_text(const char *text, struct policy **ret, struct err *err)
{
	_cleanup_free_ char *copy = json(text);
	return policy_parse("test", copy, strlen(copy), ret, err);
}

static inline struct policy_program compile_policy(struct policy *policy)
{
	struct policy_program program = {0};
	struct err err = ERR_INIT;
	cr_assert_eq(policy_compile(policy, &program, &err), 0, "%s", err_msg(&err));
	policy_free(policy);
	return program;
}

static inline struct policy_program compile_text(const char *text)
{
	struct policy *policy = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(parse_text(text, &policy, &err), 0, "%s", err_msg(&err));
	return compile_policy(policy);
}

static inline struct policy_program compile_named(const char *name)
{
	struct policy *policy = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(policy_load(name, NULL, &policy, &err), 0, "%s", err_msg(&err));
	return compile_policy(policy);
}

static inline int number(const char *name)
{
	int nr = policy_syscall_number(name);
	cr_assert_geq(nr, 0, "no system call %s", name);
	return nr;
}

/* The answer for a call by name, with up to three arguments. */
static inline unsigned try3(const struct policy_program *program, const char *name, unsigned long long a,
	unsigned long long b, unsigned long long c)
{
	const unsigned long long args[6] = {a, b, c, 0, 0, 0};
	return policy_evaluate(program, number(name), seccomp_arch_native(), args);
}

static inline unsigned try0(const struct policy_program *program, const char *name)
{
	return try3(program, name, 0, 0, 0);
}
