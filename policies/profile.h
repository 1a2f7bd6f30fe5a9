/*
 * A parsed profile, as the files of this folder share it. One rule is one native system call of one syscalls[]
 * entry; entries that do not apply here (includes, excludes, foreign calls) are gone already.
 *
 * What a profile means, where several rules speak of one call: a rule without args is the call's own default,
 * and rules with args are its exceptions. Among exceptions that match, and among several defaults, the strictest
 * action wins (kill, errno, log, allow; of two errnos the earlier one), so the order of entries does not widen
 * anything. A call that no rule matches gets defaultAction.
 */
#pragma once

#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "policies/policy.h"

#define POLICY_NAME_MAX 64
#define POLICY_JSON_MAX (1U << 20)  /* bytes of a profile; Docker's own has 17 KB */
#define POLICY_ENTRIES_MAX 4096	    /* syscalls[] */
#define POLICY_NAMES_MAX 4096	    /* names, caps, architectures of one entry */
#define POLICY_RULES_MAX 32768	    /* entries times names */
#define POLICY_CONDITIONAL_MAX 1024 /* of these, with args */
#define POLICY_ARGS_MAX 6
#define POLICY_ERRNO_MAX 4095 /* the kernel's MAX_ERRNO: more would be cut to it */

#define POLICY_ALWAYS UINT32_MAX

/* All args must match. */
struct policy_condition {
	unsigned nargs;
	struct scmp_arg_cmp args[POLICY_ARGS_MAX]; /* each argument at most once, as libseccomp wants it */
};

struct policy_rule {
	int nr;
	uint32_t action;    /* SECCOMP_RET_*, with its errno */
	uint32_t condition; /* index into conditions, or POLICY_ALWAYS */
	uint32_t order;	    /* place in the profile */
};

struct policy {
	char name[POLICY_NAME_MAX + 1];
	uint32_t default_action;
	struct policy_rule *rules; /* sorted by policy_sort() */
	size_t nrules;
	struct policy_condition *conditions;
	size_t nconditions;
};

/* policy_sort - bring rules into the order of evaluation: by call, exceptions before defaults, strictest first. */
void policy_sort(struct policy *policy);

/*
 * policy_decide - what the profile says of one native call, straight from the rules: the reference that compiled
 * programs are checked against. Return: SECCOMP_RET_*.
 */
uint32_t policy_decide(const struct policy *policy, int nr, const unsigned long long args[6]);

/*
 * policy_verify - compare a program with policy_decide() at the edges of every rule, high bits included.
 * Return: 0, or -ENOTRECOVERABLE naming the call where they differ: the program must not be used.
 */
int policy_verify(const struct policy *policy, const struct policy_program *program, struct err *err);

/*
 * policy_ranges - begin a program with the search for the calls that have no conditions; the others, and nothing else,
 * run on behind its last instruction. @program: with room for BPF_MAXINSNS. Return: 0, -ENOMEM or -E2BIG.
 */
int policy_ranges(const struct policy *policy, struct policy_program *program, struct err *err);

/* policy_derive - fill the flags of a program from its instructions. Return: 0 or -ENOMEM. */
int policy_derive(struct policy_program *program, struct err *err);

/* policy_syscall_number - of the native architecture. Return: the number, or -1 when there is none. */
int policy_syscall_number(const char *name);

/* The words of the format. Each returns 0 and sets its ret_, or -EINVAL for an unknown word. */
enum policy_action {
	POLICY_ALLOW,
	POLICY_LOG,
	POLICY_ERRNO,
	POLICY_VIOLATION, /* KILL*, TRAP, NOTIFY: petri is notified, and kills the job */
	POLICY_TRACE,	  /* known, so that it can be refused by name */
	POLICY_ACTION_MAX,
};
int policy_word_action(const char *word, enum policy_action *ret);
int policy_word_op(const char *word, enum scmp_compare *ret);
int policy_word_scmp_arch(const char *word);
int policy_word_arch(const char *word, bool *ret_native);
int policy_word_errno(const char *word, unsigned *ret);
int policy_word_flag(const char *word);

/* The profiles that CMake embeds. */
struct policy_shipped {
	const char *name;
	const char *json;
	size_t len;
};
extern const struct policy_shipped policy_shipped[];
extern const size_t policy_shipped_count;
extern const char *const policy_shipped_names[]; /* NULL-terminated */

/*
 * policy_filter - whether an entry applies on this machine, to a job without capabilities.
 * @entry: the JSON object (json_t), whose includes and excludes are looked at. @path: of the entry, for messages.
 */
struct json_t;
int policy_filter(const struct json_t *entry, const char *path, bool *ret_applies, struct err *err);

/*
 * Strict reading of JSON objects; each error names the path of what is wrong. @path: of the object, "" for the root.
 * An absent field and null are the same, as in Go, where the format comes from.
 */
#define POLICY_PATH_MAX 96
int policy_only_fields(const struct json_t *object, const char *path, const char *const *fields, struct err *err);
/* Return: 0, with NULL when it is absent. */
int policy_field_string(const struct json_t *object, const char *field, const char *path, const char **ret,
	struct err *err);
/* A list of strings. Return: 0, with NULL when it is absent. */
int policy_field_strings(const struct json_t *object, const char *field, const char *path, const struct json_t **ret,
	struct err *err);
/* A whole number from 0 to max. Return: 1 when it is there; 0 and *ret untouched when it is absent. */
int policy_field_number(const struct json_t *object, const char *field, const char *path, uint64_t max, uint64_t *ret,
	struct err *err);
/* An action and its errno. @names: of the three fields, e.g. action, errnoRet, errno. @ret: SECCOMP_RET_*. */
int policy_field_action(const struct json_t *object, const char *const names[3], const char *path, uint32_t *ret,
	struct err *err);

/* policy_printable - what of an untrusted word goes into a message: cut, and only printable ASCII. */
#define POLICY_WORD_MAX (POLICY_NAME_MAX + 1)
const char *policy_printable(const char *word, char buf[POLICY_WORD_MAX]);
