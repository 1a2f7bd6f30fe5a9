/*
 * Profiles and their compilation. The first byte chooses: the rest is the JSON of a profile, a recipe for rules that
 * overlap as JSON from a mutator seldom does, or a BPF program as it is. A profile that compiles to a program which
 * answers otherwise than its rules (policy_verify() says so, or a sample finds it) is a crash.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "policies/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes of the input, zeros behind its end. */
struct bytes {
	const uint8_t *data;
	size_t left;
};

static uint8_t next(struct bytes *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

static const uint64_t values[] = {0, 1, 2, 3, 4, 7, 8, 16, 0xf, 0xff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
	0x100000000, 0x100000001, 0xffffffff00000000, 0xffffffff00000001, 0x7fffffffffffffff, 0x8000000000000000,
	0xfffffffffffffffe, 0xffffffffffffffff};

static uint64_t next_value(struct bytes *in)
{
	return values[next(in) % ARRAY_SIZE(values)];
}

/* Every call and argument that the rules can speak of, with arguments from the same few values. */
static void compare(const struct policy *policy, const struct policy_program *program, struct bytes in)
{
	for (int i = 0; i < 2000; i++) {
		unsigned long long args[6];
		uint64_t mix = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15ULL;
		for (int k = 0; k < 6; k++) {
			mix ^= mix >> 29;
			mix *= 0xbf58476d1ce4e5b9ULL;
			args[k] = values[(mix >> 32) % ARRAY_SIZE(values)] ^ (in.left ? next(&in) % 2 : 0);
		}
		int nr = (int)(mix % 12);
		uint32_t want = policy_decide(policy, nr, args);
		uint32_t got = policy_evaluate(program, nr, seccomp_arch_native(), args);
		if (want == got)
			continue;
		fprintf(stderr, "call %d(%#llx, %#llx, %#llx): want %#x, got %#x\n", nr, args[0], args[1], args[2], want, got);
		abort();
	}
}

static void compile(const struct policy *policy, struct bytes in)
{
	struct policy_program program = {0};
	struct err err = ERR_INIT;
	int r = policy_compile(policy, &program, &err);
	if (r == 0)
		compare(policy, &program, in);
	else if (r == -ENOTRECOVERABLE) {
		fprintf(stderr, "%s\n", err_msg(&err));
		abort();
	}
	policy_program_free(&program);
}

static void from_json(const uint8_t *data, size_t size)
{
	struct policy *policy = NULL;
	struct err err = ERR_INIT;
	if (policy_parse("fuzz", (const char *)data, size, &policy, &err) == 0)
		compile(policy, (struct bytes){data, size});
	else if (err.code == 0 || err.msg[0] == '\0')
		abort();
	policy_free(policy);
}

static void from_recipe(struct bytes in)
{
	static const uint32_t actions[] = {SCMP_ACT_ALLOW, SCMP_ACT_LOG, SCMP_ACT_ERRNO(1), SCMP_ACT_ERRNO(38),
		SCMP_ACT_NOTIFY};
	struct policy_condition conditions[16] = {0};
	struct policy_rule rules[16];
	struct policy policy = {.name = "fuzz", .rules = rules, .conditions = conditions};
	policy.default_action = actions[next(&in) % ARRAY_SIZE(actions)];
	size_t n = next(&in) % 16;
	for (size_t i = 0; i < n && in.left > 0; i++) {
		struct policy_condition *c = &conditions[policy.nconditions];
		unsigned nargs = next(&in) % 4;
		for (unsigned k = 0; k < nargs; k++) {
			uint64_t a = next_value(&in), b = next_value(&in);
			enum scmp_compare op = SCMP_CMP_NE + next(&in) % 7;
			if (op == SCMP_CMP_MASKED_EQ)
				b &= a;
			unsigned arg = (k + next(&in) % 2 * 3) % 6;
			for (unsigned m = 0; m < k; m++)
				if (c->args[m].arg == arg)
					arg = (arg + 1) % 6, m = (unsigned)-1;
			c->args[k] = (struct scmp_arg_cmp){arg, op, a, b};
		}
		c->nargs = nargs;
		rules[i] = (struct policy_rule){
			.nr = next(&in) % 10,
			.action = actions[next(&in) % ARRAY_SIZE(actions)],
			.condition = nargs ? (uint32_t)policy.nconditions++ : POLICY_ALWAYS,
			.order = (uint32_t)i,
		};
		policy.nrules++;
	}
	policy_sort(&policy);
	compile(&policy, in);
}

static void from_program(const uint8_t *data, size_t size)
{
	struct policy_program program = {.len = size / sizeof(struct sock_filter)};
	program.insns = malloc(size + 1);
	if (!program.insns)
		return;
	memcpy(program.insns, data, size);
	unsigned long long args[6] = {0, 1, ~0ULL, 1ULL << 32, 4096, 0};
	struct err err = ERR_INIT;
	(void)policy_evaluate(&program, 1, seccomp_arch_native(), args);
	(void)policy_derive(&program, &err);
	policy_program_free(&program);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	switch (data[0] % 3) {
	case 0:
		from_json(data + 1, size - 1);
		break;
	case 1:
		from_recipe((struct bytes){data + 1, size - 1});
		break;
	default:
		from_program(data + 1, size - 1);
		break;
	}
	return 0;
}
