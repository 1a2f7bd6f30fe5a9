/*
 * A compiled program is compared with the rules it came from before anyone installs it: the generator is a library
 * whose version is not ours to choose, and a filter that is looser than its profile would be noticed by nobody else.
 * Arguments are tried at the edges of every condition, and with bits set above the 32 that the kernel looks at.
 */
#include "policies/profile.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>

#include "base/cleanup.h"

static int check(const struct policy *policy, const struct policy_program *program, int nr,
	const unsigned long long args[6], struct err *err)
{
	uint32_t want = policy_decide(policy, nr, args);
	uint32_t got = policy_evaluate(program, nr, seccomp_arch_native(), args);
	if (want == got)
		return 0;
	char name[64];
	return err_say(err, ENOTRECOVERABLE,
		"libseccomp compiled %s wrongly: arguments %#llx %#llx %#llx give %#x instead of %#x",
		policy_syscall_name(nr, name, sizeof(name)), args[0], args[1], args[2], got, want);
}

/* A value of the argument that meets the comparison, or any where none does. */
static uint64_t meeting(const struct scmp_arg_cmp *cmp)
{
	switch (cmp->op) {
	case SCMP_CMP_NE:
		return cmp->datum_a ^ 1;
	case SCMP_CMP_LT:
		return cmp->datum_a - 1;
	case SCMP_CMP_GT:
		return cmp->datum_a + 1;
	case SCMP_CMP_MASKED_EQ:
		return cmp->datum_b;
	default:
		return cmp->datum_a;
	}
}

static int check_condition(const struct policy *policy, const struct policy_program *program, int nr,
	const struct policy_condition *condition, struct err *err)
{
	unsigned long long base[6] = {0}, args[6];
	for (unsigned i = 0; i < condition->nargs; i++)
		base[condition->args[i].arg] = meeting(&condition->args[i]);
	int r = check(policy, program, nr, base, err);
	for (unsigned i = 0; i < condition->nargs && r == 0; i++) {
		const struct scmp_arg_cmp *cmp = &condition->args[i];
		const uint64_t edges[] = {0, UINT64_MAX, UINT32_MAX, 1ULL << 32, 1ULL << 63, cmp->datum_a,
			cmp->datum_a - 1, cmp->datum_a + 1, cmp->datum_a ^ 1ULL << 32, cmp->datum_a ^ 1ULL << 63,
			cmp->datum_a | ~0ULL << 32, cmp->datum_a & UINT32_MAX, ~cmp->datum_a, cmp->datum_b,
			cmp->datum_b ^ 1, cmp->datum_b | 1ULL << 32, cmp->datum_b | ~cmp->datum_a, cmp->datum_b ^ cmp->datum_a};
		memcpy(args, base, sizeof(args));
		for (size_t e = 0; e < ARRAY_SIZE(edges) && r == 0; e++) {
			args[cmp->arg] = edges[e];
			r = check(policy, program, nr, args, err);
		}
	}
	return r;
}

/* Calls by another ABI have other numbers, so none may get through. */
static int check_foreign(const struct policy_program *program, struct err *err)
{
	static const unsigned long long args[6] = {0};
	const uint32_t nosys = SECCOMP_RET_ERRNO | ENOSYS, arch = seccomp_arch_native();
	static const unsigned foreign[] = {0, AUDIT_ARCH_I386, AUDIT_ARCH_ARM, AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64, ~0U};
	for (int nr = 0; nr < 1024; nr++) {
		bool ok = arch != AUDIT_ARCH_X86_64 || policy_evaluate(program, nr | 0x40000000, arch, args) == nosys;
		for (size_t i = 0; i < ARRAY_SIZE(foreign) && ok; i++)
			ok = foreign[i] == arch || policy_evaluate(program, nr, foreign[i], args) == nosys;
		if (!ok)
			return err_say(err, ENOTRECOVERABLE, "the program lets calls of foreign ABIs through");
	}
	return 0;
}

int policy_verify(const struct policy *policy, const struct policy_program *program, struct err *err)
{
	static const unsigned long long zeros[6] = {0};
	static const unsigned long long ones[6] = {~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL};
	int r = 0;
	for (size_t i = 0; i < policy->nrules && r == 0; i++) {
		const struct policy_rule *rule = &policy->rules[i];
		if (rule->condition != POLICY_ALWAYS)
			r = check_condition(policy, program, rule->nr, &policy->conditions[rule->condition], err);
	}
	if (r == 0)
		r = check_foreign(program, err);
	/* Every call, also those that no rule names. */
	for (int nr = 0; nr < 1024 && r == 0; nr++) {
		r = check(policy, program, nr, zeros, err);
		if (r == 0)
			r = check(policy, program, nr, ones, err);
	}
	return r;
}
