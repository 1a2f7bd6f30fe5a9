/*
 * From rules to BPF, for the native architecture only; any other one, x32 included, gets ENOSYS. Calls whose answer is
 * always the same are a search for their number (ranges.c). Those whose arguments matter are compiled by libseccomp.
 *
 * libseccomp has no order among the rules of one call: a rule without arguments silently drops those with, how rules
 * of different actions overlap is an accident of its tree, and 2.5.4 merges even rules of one action wrongly: given
 * "0 is not 1, 1 is not 0xffffffff, 2 is 0" and "0, 1 and 2 are not 0", it also allows (1, 0xfffffffe, 0). So it is
 * given one rule of each call at a time, in the order of evaluation (profile.h). Each of these passes is a program of
 * its own whose default is a mark; they are joined by turning the mark into a jump to the next one.
 */
#include "policies/profile.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* "No rule of this pass matched". Profiles cannot ask for TRACE, so no rule has this action. */
#define MARK SCMP_ACT_TRACE(0x5e7)
#define PASSES_MAX 256 /* rules of one call, and one */

static void cleanup_filter(scmp_filter_ctx *ctx)
{
	if (*ctx)
		seccomp_release(*ctx);
}

static size_t end_of_call(const struct policy *policy, size_t start)
{
	size_t end = start;
	while (end < policy->nrules && policy->rules[end].nr == policy->rules[start].nr)
		end++;
	return end;
}

static bool is_default(const struct policy_rule *rule)
{
	return rule->condition == POLICY_ALWAYS;
}

/* The passes of the rules of one call, which are sorted: from 1 on, and 0 for none. Return: the last one. */
static unsigned assign_call(const struct policy_rule *rules, size_t n, unsigned *passes)
{
	if (is_default(&rules[0]))
		return 0;
	unsigned pass = 0;
	for (size_t i = 0; i < n; i++)
		if (i == 0 || !is_default(&rules[i - 1])) /* of several defaults, the first is the strictest */
			passes[i] = ++pass;
	return pass;
}

static int assign(const struct policy *policy, unsigned *passes, unsigned *ret_last, struct err *err)
{
	unsigned last = 0;
	for (size_t i = 0, end; i < policy->nrules; i = end) {
		end = end_of_call(policy, i);
		last = MAX(last, assign_call(policy->rules + i, end - i, passes + i));
		if (last < PASSES_MAX)
			continue;
		char name[64];
		return err_say(err, E2BIG, "more than %d rules for %s", PASSES_MAX - 1,
			policy_syscall_name(policy->rules[i].nr, name, sizeof(name)));
	}
	*ret_last = last;
	return 0;
}

static int add_rule(scmp_filter_ctx ctx, const struct policy *policy, const struct policy_rule *rule, struct err *err)
{
	static const struct policy_condition always = {0};
	const struct policy_condition *c =
		rule->condition == POLICY_ALWAYS ? &always : &policy->conditions[rule->condition];
	int r = seccomp_rule_add_exact_array(ctx, rule->action, rule->nr, c->nargs, c->nargs ? c->args : NULL);
	if (r == 0 || r == -EEXIST)
		return 0;
	char name[64];
	(void)policy_syscall_name(rule->nr, name, sizeof(name));
	/* libseccomp asks the kernel which actions it has, and takes a refusal for "none". */
	if (rule->action == SCMP_ACT_NOTIFY && seccomp_api_get() < 5)
		return err_say(err, ENOSYS, "rule for %s: no seccomp user notification here (Linux 5.0, and seccomp(2) allowed)",
			name);
	return err_set(err, r, "rule for %s", name);
}

static int export_pass(const struct policy *policy, const unsigned *passes, unsigned pass, int fd, struct err *err)
{
	_cleanup_(cleanup_filter) scmp_filter_ctx ctx = seccomp_init(MARK);
	if (!ctx)
		return err_set(err, ENOMEM, "seccomp_init");
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree of call numbers */
	if (r < 0)
		return err_set(err, r, "seccomp_attr_set");
	for (size_t i = 0; i < policy->nrules; i++) {
		if (passes[i] != pass)
			continue;
		r = add_rule(ctx, policy, &policy->rules[i], err);
		if (r < 0)
			return r;
	}
	r = seccomp_export_bpf(ctx, fd);
	return r < 0 ? err_set(err, r, "seccomp_export_bpf") : 0;
}

/* One pass behind what the program has so far. */
static int append_pass(const struct policy *policy, const unsigned *passes, unsigned pass,
	struct policy_program *program, struct err *err)
{
	_cleanup_close_ int fd = memfd_create("petri-policy", MFD_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "memfd_create");
	int r = export_pass(policy, passes, pass, fd, err);
	if (r < 0)
		return r;
	off_t bytes = lseek(fd, 0, SEEK_END);
	if (bytes <= 0 || bytes % (off_t)sizeof(struct sock_filter) != 0 || lseek(fd, 0, SEEK_SET) != 0)
		return err_say(err, EIO, "libseccomp exported no program");
	size_t n = (size_t)bytes / sizeof(struct sock_filter);
	if (n > BPF_MAXINSNS - program->len)
		return err_say(err, E2BIG, "the program has more than %d instructions", BPF_MAXINSNS);
	ssize_t got = fd_read_all(fd, program->insns + program->len, (size_t)bytes);
	if (got != bytes)
		return err_set(err, got < 0 ? (int)got : EIO, "read back the program");
	program->len += n;
	return 0;
}

/* Turn the marks of the pass that begins at start: into the answer for the last one, else into a jump. */
static void join(struct policy_program *program, size_t start, bool last, uint32_t answer)
{
	for (size_t i = start; i < program->len; i++) {
		struct sock_filter *insn = &program->insns[i];
		if (insn->code != (BPF_RET | BPF_K) || insn->k != MARK)
			continue;
		if (last)
			insn->k = answer;
		else
			*insn = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)(program->len - i - 1));
	}
}

static void cleanup_program(struct policy_program *program)
{
	policy_program_free(program);
}

static int build(const struct policy *policy, struct policy_program *ret, struct err *err)
{
	_cleanup_(cleanup_program) struct policy_program program = {0};
	program.insns = calloc(BPF_MAXINSNS, sizeof(program.insns[0]));
	_cleanup_free_ unsigned *passes = calloc(policy->nrules + 1, sizeof(*passes));
	if (!program.insns || !passes)
		return err_set(err, ENOMEM, "allocate");
	unsigned last = 0;
	int r = assign(policy, passes, &last, err);
	if (r == 0)
		r = policy_ranges(policy, &program, err);
	for (unsigned pass = 1; pass <= last && r == 0; pass++) {
		size_t start = program.len;
		r = append_pass(policy, passes, pass, &program, err);
		if (r == 0)
			join(&program, start, pass == last, policy->default_action);
	}
	if (r == 0)
		r = policy_derive(&program, err);
	if (r == 0)
		r = policy_verify(policy, &program, err);
	if (r < 0)
		return r;
	*ret = program;
	program.insns = NULL;
	return 0;
}

int policy_compile(const struct policy *policy, struct policy_program *ret, struct err *err)
{
	int r = build(policy, ret, err);
	return r < 0 ? (err_wrap(err, "policy %s", policy->name), r) : 0;
}

void policy_program_free(struct policy_program *program)
{
	if (!program)
		return;
	free(program->insns);
	*program = (struct policy_program){0};
}
