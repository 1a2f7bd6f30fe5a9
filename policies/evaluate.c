/*
 * An interpreter for the part of classic BPF that seccomp programs are made of. Any input is safe: jumps only go
 * forward, loads are checked, and whatever is not understood ends as SECCOMP_RET_KILL_PROCESS, the strictest answer.
 */
#include "policies/policy.h"

#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>

static bool jumps(unsigned short code, uint32_t a, uint32_t k)
{
	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return a == k;
	case BPF_JGT:
		return a > k;
	case BPF_JGE:
		return a >= k;
	case BPF_JSET:
		return (a & k) != 0;
	default: /* BPF_JA never comes here */
		return false;
	}
}

unsigned policy_evaluate(const struct policy_program *program, int nr, unsigned arch, const unsigned long long args[6])
{
	struct seccomp_data data = {.nr = nr, .arch = arch};
	for (int i = 0; i < 6; i++)
		data.args[i] = args[i];
	uint32_t a = 0;
	for (size_t pc = 0; pc < program->len; pc++) {
		const struct sock_filter *insn = &program->insns[pc];
		switch (insn->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			/* The kernel refuses unaligned and outlying loads too: seccomp_check_filter(). */
			if (insn->k % sizeof(a) != 0 || insn->k >= sizeof(data))
				return SECCOMP_RET_KILL_PROCESS;
			memcpy(&a, (const char *)&data + insn->k, sizeof(a));
			break;
		case BPF_LD | BPF_IMM:
			a = insn->k;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= insn->k;
			break;
		case BPF_ALU | BPF_OR | BPF_K:
			a |= insn->k;
			break;
		case BPF_JMP | BPF_JA:
			pc += insn->k; /* size_t is wider than k, so this cannot wrap */
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
		case BPF_JMP | BPF_JGT | BPF_K:
		case BPF_JMP | BPF_JGE | BPF_K:
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += jumps(insn->code, a, insn->k) ? insn->jt : insn->jf;
			break;
		case BPF_RET | BPF_K:
			return insn->k;
		case BPF_RET | BPF_A:
			return a;
		default:
			return SECCOMP_RET_KILL_PROCESS;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}
_Static_assert(sizeof(size_t) > sizeof(uint32_t), "jumps are added without a check");
