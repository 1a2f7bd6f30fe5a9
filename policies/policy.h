/*
 * Seccomp policies: profiles in the OCI/Docker JSON format, compiled by libseccomp into classic BPF.
 * Runs in the unprivileged worker; a profile is untrusted input and never crashes the parser.
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct policy; /* a parsed profile */

/* What the pool needs of a policy. */
struct policy_program {
	struct sock_filter *insns; /* owned; see policy_program_free() */
	size_t len;		   /* instructions; at most BPF_MAXINSNS (4096) */
	/* Some call ends in SECCOMP_RET_USER_NOTIF: install with a listener. */
	bool notifies;
	/* socket() can succeed for some argument, or socketpair() with anything but a connected, nameless pair of
	 * AF_UNIX stream sockets: the job could reach beyond itself. */
	bool allows_sockets;
	/* Every system call that a waiting zygote's child needs is allowed, whatever its arguments: the filter can be
	 * installed before the job is known. */
	bool allows_launch;
};

/*
 * policy_parse - parse a profile. Unknown fields, actions, operators or architectures are errors that name the
 * JSON path ("syscalls[3].action"); unknown system call names are ignored, as a newer profile has them.
 * @name: for messages; copied. Return: 0, -EINVAL, -ENOMEM.
 */
int policy_parse(const char *name, const char *json, size_t len, struct policy **ret, struct err *err);

/*
 * policy_load - find a profile by name: <dir>/NAME.json for each of dirs (NULL-terminated, may be NULL), then
 * the built-in ones. A file that is there but cannot be read or is wrong is an error, never a reason to take the next.
 * Return: 0, -ENOENT (unknown policy), -EINVAL (bad name or profile), or the -errno of reading it.
 */
int policy_load(const char *name, const char *const *dirs, struct policy **ret, struct err *err);

/* policy_builtin - NULL-terminated names of the profiles that are part of the program. */
const char *const *policy_builtin(void);

/*
 * policy_compile - to BPF for the machine's own architecture; calls of any other get ENOSYS. The program is compared
 * with the profile before it is returned. @ret is only touched on success.
 * Return: 0, -E2BIG (more than BPF_MAXINSNS), -ENOSYS (no user notification here), -ENOMEM, or -ENOTRECOVERABLE
 * (libseccomp made something else of the profile).
 */
int policy_compile(const struct policy *policy, struct policy_program *ret, struct err *err);

void policy_program_free(struct policy_program *program);
void policy_free(struct policy *policy);

/*
 * policy_evaluate - run a compiled program on one call, as the kernel would. Return: the SECCOMP_RET_* value.
 * For tests and for deriving the flags of struct policy_program.
 */
unsigned policy_evaluate(const struct policy_program *program, int nr, unsigned arch, const unsigned long long args[6]);

/* policy_syscall_name - name of a native system call number into buf; "syscall_NNN" when it is not known. */
const char *policy_syscall_name(int nr, char *buf, size_t cap);
