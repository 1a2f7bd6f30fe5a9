/*
 * The calls whose answer does not depend on arguments, nearly all: a search over runs of call numbers with the same
 * answer. libseccomp's own tree compares with each of a policy's three hundred numbers, and every zygote pays for the
 * length of its filter, which the kernel checks, translates and tries for each call: with that tree the judge's program
 * had 671 instructions and took about 250 us to install on the development machine, so it has 377 and takes 90.
 *
 * Instructions are placed from the end backwards, as jumps only go forward: what is jumped to is there already.
 */
#include "policies/profile.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define NOSYS (SECCOMP_RET_ERRNO | ENOSYS)
#define JUMP_MAX 255
#define ANSWERS_MAX 64

/* A run of numbers, up to the next one's first. */
struct run {
	uint32_t first;
	bool conditional; /* goes on behind the search */
	uint32_t answer;
};

struct builder {
	struct sock_filter insns[BPF_MAXINSNS];
	size_t at; /* where the next one before goes, plus one; 0 is full */
	bool full;
	const struct run *runs;
	struct {
		uint32_t answer;
		size_t at;
	} answers[ANSWERS_MAX]; /* returns that are there already */
	size_t nanswers;
};

static size_t place(struct builder *b, struct sock_filter insn)
{
	if (b->at == 0) {
		b->full = true;
		return 0;
	}
	b->insns[--b->at] = insn;
	return b->at;
}

static size_t place_jump(struct builder *b, size_t target)
{
	return place(b, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)(target - b->at)));
}

/* Where to go for a run's answer. */
static size_t leaf(struct builder *b, const struct run *run)
{
	if (run->conditional)
		return BPF_MAXINSNS; /* the first instruction behind */
	for (size_t i = 0; i < b->nanswers; i++)
		if (b->answers[i].answer == run->answer)
			return b->answers[i].at;
	size_t at = place(b, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, run->answer));
	if (b->nanswers < ANSWERS_MAX) {
		b->answers[b->nanswers].answer = run->answer;
		b->answers[b->nanswers++].at = at;
	}
	return at;
}

/* A search among runs[low..high]. Return: where it begins. */
static size_t search(struct builder *b, size_t low, size_t high)
{
	if (low == high)
		return leaf(b, &b->runs[low]);
	size_t middle = low + (high - low + 1) / 2;
	size_t right = search(b, middle, high);
	size_t left = search(b, low, middle - 1);
	/* Both jumps stand here, so one may be put between the other and its target: leave room for that. */
	if (left - b->at > JUMP_MAX - 1)
		left = place_jump(b, left);
	if (right - b->at > JUMP_MAX - 1)
		right = place_jump(b, right);
	unsigned char jt = (unsigned char)(right - b->at), jf = (unsigned char)(left - b->at);
	return place(b, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, b->runs[middle].first, jt, jf));
}

static void add_run(struct run *runs, size_t *n, struct run run)
{
	const struct run *last = &runs[*n - (*n > 0)];
	if (*n > 0 && last->conditional == run.conditional && last->answer == run.answer)
		return;
	runs[(*n)++] = run;
}

/* Return: how many; runs has room for three of each rule and two more. */
static size_t find_runs(const struct policy *policy, struct run *runs)
{
	size_t n = 0;
	uint32_t next = 0;
	for (size_t i = 0; i < policy->nrules; i++) {
		const struct policy_rule *rule = &policy->rules[i];
		if (i > 0 && rule->nr == policy->rules[i - 1].nr)
			continue;
		if ((uint32_t)rule->nr > next)
			add_run(runs, &n, (struct run){next, false, policy->default_action});
		bool conditional = rule->condition != POLICY_ALWAYS;
		add_run(runs, &n, (struct run){(uint32_t)rule->nr, conditional, conditional ? 0 : rule->action});
		next = (uint32_t)rule->nr + 1;
	}
	add_run(runs, &n, (struct run){next, false, policy->default_action});
#if defined(__x86_64__)
	add_run(runs, &n, (struct run){0x40000000, false, NOSYS}); /* x32 */
#endif
	return n;
}

int policy_ranges(const struct policy *policy, struct policy_program *program, struct err *err)
{
	_cleanup_free_ struct run *runs = calloc(policy->nrules * 3 + 2, sizeof(*runs));
	_cleanup_free_ struct builder *b = calloc(1, sizeof(*b));
	if (!runs || !b)
		return err_set(err, ENOMEM, "allocate");
	b->at = BPF_MAXINSNS;
	b->runs = runs;
	size_t first = search(b, 0, find_runs(policy, runs) - 1);
	if (first != b->at)
		(void)place_jump(b, first);
	(void)place(b, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	(void)place(b, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, NOSYS));
	(void)place(b, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, seccomp_arch_native(), 1, 0));
	(void)place(b, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
	if (b->full)
		return err_say(err, E2BIG, "the program has more than %d instructions", BPF_MAXINSNS);
	program->len = BPF_MAXINSNS - b->at;
	memcpy(program->insns, b->insns + b->at, program->len * sizeof(b->insns[0]));
	return 0;
}
