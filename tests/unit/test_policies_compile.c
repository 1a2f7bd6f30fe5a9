#include "policies_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define START(action) "{'defaultAction':'SCMP_ACT_" action "','syscalls':["
#define ARG(i, op, a) "{'index':" #i ",'value':" #a ",'op':'SCMP_CMP_" op "'}"
#define MASK(i, m, v) "{'index':" #i ",'value':" #m ",'valueTwo':" #v ",'op':'SCMP_CMP_MASKED_EQ'}"
#define RULE(name, action, ...) "{'name':'" name "','action':'SCMP_ACT_" action "','args':[" __VA_ARGS__ "]}"

static const unsigned long long high = 1ULL << 32;

Test(policies_compile, operators)
{
	static const struct {
		const char *op;
		bool below, same, above;
	} rows[] = {
		{"NE", true, false, true},
		{"LT", true, false, false},
		{"LE", true, true, false},
		{"EQ", false, true, false},
		{"GE", false, true, true},
		{"GT", false, false, true},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[256];
		(void)snprintf(text, sizeof(text), START("ERRNO") RULE("read", "ALLOW", ARG(2, "%s", 4294967296)) "]}",
			rows[i].op);
		struct policy_program p = compile_text(text);
		cr_assert_eq(try3(&p, "read", 0, 0, high - 1) == ALLOW, rows[i].below, "%s", rows[i].op);
		cr_assert_eq(try3(&p, "read", 0, 0, high) == ALLOW, rows[i].same, "%s", rows[i].op);
		cr_assert_eq(try3(&p, "read", 0, 0, high + 1) == ALLOW, rows[i].above, "%s", rows[i].op);
		cr_assert_eq(try3(&p, "read", 0, 0, ~0ULL) == ALLOW, rows[i].above, "%s", rows[i].op);
		policy_program_free(&p);
	}
}

Test(policies_compile, masks_ignore_high_bits)
{
	struct policy_program p = compile_text(START("ALLOW") RULE("ioctl", "ERRNO", MASK(1, 4294967295, 21522)) "]}");
	cr_assert_eq(try3(&p, "ioctl", 0, 0x5412, 0), ERRNO(EPERM));
	cr_assert_eq(try3(&p, "ioctl", 0, 0x5412 | high, 0), ERRNO(EPERM));
	cr_assert_eq(try3(&p, "ioctl", 0, 0x5412 | ~0ULL << 32, 0), ERRNO(EPERM));
	cr_assert_eq(try3(&p, "ioctl", 0, 0x5413, 0), ALLOW);
	policy_program_free(&p);
	p = compile_text(START("ALLOW") RULE("ioctl", "ERRNO", ARG(1, "EQ", 21522)) "]}");
	cr_assert_eq(try3(&p, "ioctl", 0, 0x5412 | high, 0), ALLOW, "EQ compares all 64 bits, as everywhere");
	policy_program_free(&p);
}

Test(policies_compile, all_args_of_a_rule_must_match)
{
	struct policy_program p =
		compile_text(START("ERRNO") RULE("socket", "ALLOW", ARG(0, "EQ", 16) "," ARG(2, "EQ", 0)) "]}");
	cr_assert_eq(try3(&p, "socket", 16, 3, 0), ALLOW);
	cr_assert_eq(try3(&p, "socket", 16, 3, 1), ERRNO(EPERM));
	cr_assert_eq(try3(&p, "socket", 1, 3, 0), ERRNO(EPERM));
	policy_program_free(&p);
}

Test(policies_compile, exceptions_beat_the_default_of_a_call)
{
	/* libseccomp alone would drop the rule with args, in both of these. */
	struct policy_program p = compile_text(
		START("ERRNO") RULE("clone", "ALLOW", MASK(0, 2114060288, 0)) "," RULE("clone", "KILL", ) "]}");
	cr_assert_eq(try3(&p, "clone", 0x11, 0, 0), ALLOW);
	cr_assert_eq(try3(&p, "clone", 0x11 | high, 0, 0), ALLOW);
	cr_assert_eq(try3(&p, "clone", 0x10000011, 0, 0), VIOLATION);
	cr_assert_eq(try3(&p, "clone", 0x10000011 | high, 0, 0), VIOLATION);
	policy_program_free(&p);
	p = compile_text(START("ERRNO") RULE("ioctl", "ALLOW", ) "," RULE("ioctl", "ERRNO", ARG(1, "EQ", 5)) "]}");
	cr_assert_eq(try3(&p, "ioctl", 0, 5, 0), ERRNO(EPERM));
	cr_assert_eq(try3(&p, "ioctl", 0, 6, 0), ALLOW);
	policy_program_free(&p);
}

Test(policies_compile, the_strictest_wins_whatever_the_order)
{
	static const char *const actions[] = {"KILL", "ERRNO", "LOG", "ALLOW"};
	static const unsigned answers[] = {VIOLATION, ERRNO(EPERM), LOG, ALLOW};
	for (size_t a = 0; a < 4; a++) {
		for (size_t b = 0; b < 4; b++) {
			char text[512];
			(void)snprintf(text, sizeof(text),
				START("TRAP") RULE("read", "%s", ARG(0, "GE", 5)) "," RULE("read", "%s", ARG(0, "LE", 5)) "," RULE("write", "%s", ) "," RULE("write", "%s", ) "]}",
				actions[a], actions[b], actions[a], actions[b]);
			struct policy_program p = compile_text(text);
			cr_assert_eq(try3(&p, "read", 5, 0, 0), answers[MIN(a, b)]);
			cr_assert_eq(try3(&p, "read", 6, 0, 0), answers[a]);
			cr_assert_eq(try3(&p, "read", 4, 0, 0), answers[b]);
			cr_assert_eq(try0(&p, "write"), answers[MIN(a, b)]);
			policy_program_free(&p);
		}
	}
}

Test(policies_compile, overlapping_rules_are_not_merged)
{
	/* libseccomp 2.5.4 allows (1, 0xfffffffe, 0) when both rules are in one filter. */
	struct policy_program p = compile_text(START("ERRNO")
			RULE("read", "ALLOW", ARG(0, "NE", 1) "," ARG(1, "NE", 4294967295) "," ARG(2, "EQ", 0)) "," RULE("read", "ALLOW", ARG(0, "NE", 0) "," ARG(1, "NE", 0) "," ARG(2, "NE", 0)) "]}");
	cr_assert_eq(try3(&p, "read", 1, 0xfffffffe, 0), ERRNO(EPERM));
	cr_assert_eq(try3(&p, "read", 0, 0xfffffffe, 0), ALLOW);
	cr_assert_eq(try3(&p, "read", 1, 1, 1), ALLOW);
	policy_program_free(&p);
}

Test(policies_compile, many_runs_and_answers)
{
	/* More answers than are shared, and jumps longer than a conditional one reaches. */
	struct policy_condition condition = {.nargs = 1, .args = {{0, SCMP_CMP_EQ, 3, 0}}};
	struct policy_rule rules[600];
	struct policy policy = {.name = "test", .default_action = ALLOW, .rules = rules, .conditions = &condition};
	for (int step = 1; step <= 3; step++) {
		for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
			rules[i] = (struct policy_rule){
				.nr = (int)i * step,
				.action = ERRNO(i % 150),
				.condition = i % 50 == 49 ? 0 : POLICY_ALWAYS,
			};
		policy.nrules = ARRAY_SIZE(rules);
		policy_sort(&policy);
		struct policy_program p = {0};
		struct err err = ERR_INIT;
		cr_assert_eq(policy_compile(&policy, &p, &err), 0, "%s", err_msg(&err));
		const unsigned long long args[6] = {3};
		for (int nr = 0; nr < 2000; nr++)
			cr_assert_eq(policy_evaluate(&p, nr, seccomp_arch_native(), args), policy_decide(&policy, nr, args));
		policy_program_free(&p);
	}
}

Test(policies_compile, too_large)
{
	_cleanup_free_ char *text = malloc(1 << 20);
	int n = sprintf(text, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[");
	for (int i = 0; i < 1000; i++)
		n += sprintf(text + n, "%s{\"name\":\"%s\",\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":%d,"
				       "\"op\":\"SCMP_CMP_NE\"},{\"index\":1,\"value\":%d,\"op\":\"SCMP_CMP_NE\"}]}",
			i ? "," : "", i % 2 ? "read" : i % 4 ? "write"
				: i % 8			     ? "close"
							     : "dup",
			i, i);
	(void)sprintf(text + n, "]}");
	struct policy *policy = NULL;
	struct policy_program p = {.len = 77};
	struct err err = ERR_INIT;
	cr_assert_eq(parse_text(text, &policy, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(policy_compile(policy, &p, &err), -E2BIG, "%s", err_msg(&err));
	cr_assert_eq(p.len, 77);
	policy_free(policy);
}

Test(policies_compile, foreign_architectures_get_enosys)
{
	static const char *const texts[] = {START("ALLOW") "]}", START("ALLOW") RULE("read", "ERRNO", ) "]}"};
	const unsigned long long args[6] = {0};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct policy_program p = compile_text(texts[i]);
		cr_assert_eq(policy_evaluate(&p, 39, seccomp_arch_native(), args), ALLOW);
		cr_assert_eq(policy_evaluate(&p, 39, AUDIT_ARCH_I386, args), ERRNO(ENOSYS));
		cr_assert_eq(policy_evaluate(&p, 39, AUDIT_ARCH_ARM, args), ERRNO(ENOSYS));
#if defined(__x86_64__)
		cr_assert_eq(policy_evaluate(&p, 39 | 0x40000000, AUDIT_ARCH_X86_64, args), ERRNO(ENOSYS), "x32");
		cr_assert_eq(policy_evaluate(&p, 39, AUDIT_ARCH_AARCH64, args), ERRNO(ENOSYS));
#else
		cr_assert_eq(policy_evaluate(&p, 39, AUDIT_ARCH_X86_64, args), ERRNO(ENOSYS));
#endif
		policy_program_free(&p);
	}
}

Test(policies_compile, verification_finds_a_looser_program)
{
	struct policy *policy = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(parse_text(START("ERRNO") RULE("read", "ALLOW", ARG(0, "EQ", 5)) "]}", &policy, &err), 0);
	struct policy_program p = {0};
	cr_assert_eq(policy_compile(policy, &p, &err), 0);
	cr_assert_eq(policy_verify(policy, &p, &err), 0);
	for (size_t i = 0; i < p.len; i++) {
		struct sock_filter saved = p.insns[i];
		if (saved.code != (BPF_RET | BPF_K) || saved.k != ERRNO(EPERM))
			continue;
		p.insns[i].k = ALLOW;
		cr_assert_eq(policy_verify(policy, &p, &err), -ENOTRECOVERABLE);
		p.insns[i] = saved;
	}
	policy_program_free(&p);
	policy_free(policy);
}

Test(policies_compile, evaluation_survives_any_program)
{
	const unsigned long long args[6] = {~0ULL, 1, 2, 3, 4, 5};
	struct sock_filter bad[][2] = {
		{BPF_STMT(BPF_JMP | BPF_JA, 0xffffffff), BPF_STMT(BPF_RET | BPF_K, ALLOW)},
		{BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 255, 255), BPF_STMT(BPF_RET | BPF_K, ALLOW)},
		{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), BPF_STMT(BPF_RET | BPF_K, ALLOW)},
		{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0xfffffffc), BPF_STMT(BPF_RET | BPF_K, ALLOW)},
		{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 3), BPF_STMT(BPF_RET | BPF_K, ALLOW)},
		{BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0), BPF_STMT(BPF_RET | BPF_K, ALLOW)},
		{BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), BPF_STMT(BPF_RET | BPF_K, ALLOW)},
		{BPF_STMT(0xffff, 0), BPF_STMT(BPF_RET | BPF_K, ALLOW)},
		{BPF_STMT(BPF_LD | BPF_IMM, 0), BPF_STMT(BPF_LD | BPF_IMM, 0)},
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct policy_program p = {.insns = bad[i], .len = 2};
		cr_assert_eq(policy_evaluate(&p, 1, seccomp_arch_native(), args), SECCOMP_RET_KILL_PROCESS, "%zu", i);
		cr_assert_eq(policy_derive(&p, NULL), 0);
		cr_assert(p.allows_sockets && !p.allows_launch, "%zu: what is not understood may do anything", i);
	}
	struct policy_program empty = {0};
	cr_assert_eq(policy_evaluate(&empty, 1, seccomp_arch_native(), args), SECCOMP_RET_KILL_PROCESS);
	policy_program_free(&empty);
	policy_program_free(NULL);
}

static bool sockets(const char *rules)
{
	char text[1024];
	(void)snprintf(text, sizeof(text), START("ERRNO") "%s]}", rules);
	struct policy_program p = compile_text(text);
	bool r = p.allows_sockets;
	policy_program_free(&p);
	return r;
}

Test(policies_compile, flag_allows_sockets)
{
	cr_assert(!sockets(RULE("bind", "ALLOW", )));
	cr_assert(!sockets(RULE("socket", "KILL", ) "," RULE("socketpair", "ERRNO", )));
	cr_assert(sockets(RULE("socket", "ALLOW", )));
	cr_assert(sockets(RULE("socket", "LOG", )));
	cr_assert(sockets(RULE("socket", "ALLOW", ARG(0, "EQ", 45))));
	cr_assert(sockets(RULE("socket", "ALLOW", ARG(0, "EQ", 4294967298))), "the kernel reads 0x100000002 as AF_INET");
	cr_assert(sockets(RULE("socketpair", "ALLOW", )));
	cr_assert(sockets(RULE("socketpair", "ALLOW", MASK(0, 4294967295, 1))), "datagram pairs");
	cr_assert(sockets(RULE("socketpair", "ALLOW", ARG(1, "EQ", 1))), "other families");
	cr_assert(sockets(RULE("socketpair", "ALLOW", MASK(0, 4294967295, 1) "," MASK(1, 11, 1))), "SEQPACKET passes");
	static const char stream[] = RULE("socketpair", "ALLOW", MASK(0, 4294967295, 1) "," MASK(1, 4294440959, 1));
	cr_assert(!sockets(stream), "a connected pair reaches nobody");
	char both[512];
	(void)snprintf(both, sizeof(both), "%s," RULE("bind", "ALLOW", ), stream);
	cr_assert(sockets(both), "a pair with a name is seen by others");
}

Test(policies_compile, flag_allows_launch)
{
	struct policy_program p = compile_text(START("ALLOW") "]}");
	cr_assert(p.allows_launch && p.allows_sockets && !p.notifies);
	policy_program_free(&p);
	p = compile_text(START("LOG") RULE("sendmsg", "ERRNO", ) "]}");
	cr_assert(p.allows_launch);
	policy_program_free(&p);
	static const char *const needed[] = {"execve", "recvmsg", "openat2", "fchmod", "close_range", "prlimit64"};
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		char text[256];
		(void)snprintf(text, sizeof(text), START("ALLOW") RULE("%s", "ERRNO", ) "]}", needed[i]);
		p = compile_text(text);
		cr_assert(!p.allows_launch, "%s", needed[i]);
		policy_program_free(&p);
		(void)snprintf(text, sizeof(text), START("ALLOW") RULE("%s", "KILL", ARG(2, "EQ", 12345678901)) "]}", needed[i]);
		p = compile_text(text);
		cr_assert(!p.allows_launch, "%s with one argument", needed[i]);
		cr_assert(p.notifies);
		policy_program_free(&p);
	}
}

Test(policies_compile, names_of_calls)
{
	char buf[64];
	cr_assert_str_eq(policy_syscall_name(number("mount"), buf, sizeof(buf)), "mount");
	cr_assert_str_eq(policy_syscall_name(462, buf, sizeof(buf)), "mseal");
	cr_assert_str_eq(policy_syscall_name(9999, buf, sizeof(buf)), "syscall_9999");
	cr_assert_str_eq(policy_syscall_name(-1, buf, sizeof(buf)), "syscall_-1");
	cr_assert_str_eq(policy_syscall_name(number("mount"), buf, 4), "mou");
	cr_assert_eq(policy_syscall_number("mseal"), 462);
	cr_assert_eq(policy_syscall_number("mmap2"), -1, "a call of other architectures");
	cr_assert_eq(policy_syscall_number("no such call"), -1);
}
