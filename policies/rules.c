/*
 * What a parsed profile means: the order of its rules, and the decision for one call straight from them. Slow and
 * plain on purpose; compiled programs are checked against it.
 */
#include "policies/profile.h"

#include <linux/seccomp.h>
#include <stdlib.h>

/* Strictest first. An errno is milder than a violation here: a violation ends the job. */
static int rank(uint32_t action)
{
	switch (action & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
		return 3;
	case SECCOMP_RET_LOG:
		return 2;
	case SECCOMP_RET_ERRNO:
		return 1;
	default:
		return 0;
	}
}

#define COMPARE(a, b) (((a) > (b)) - ((a) < (b)))

static int compare(const void *left, const void *right)
{
	const struct policy_rule *a = left, *b = right;
	int c = COMPARE(a->nr, b->nr);
	if (c == 0)
		c = COMPARE(a->condition == POLICY_ALWAYS, b->condition == POLICY_ALWAYS);
	if (c == 0)
		c = COMPARE(rank(a->action), rank(b->action));
	if (c == 0)
		c = COMPARE(a->order, b->order);
	return c;
}

void policy_sort(struct policy *policy)
{
	if (policy->nrules > 0)
		qsort(policy->rules, policy->nrules, sizeof(policy->rules[0]), compare);
}

static bool arg_matches(const struct scmp_arg_cmp *cmp, uint64_t value)
{
	switch (cmp->op) {
	case SCMP_CMP_NE:
		return value != cmp->datum_a;
	case SCMP_CMP_LT:
		return value < cmp->datum_a;
	case SCMP_CMP_LE:
		return value <= cmp->datum_a;
	case SCMP_CMP_EQ:
		return value == cmp->datum_a;
	case SCMP_CMP_GE:
		return value >= cmp->datum_a;
	case SCMP_CMP_GT:
		return value > cmp->datum_a;
	case SCMP_CMP_MASKED_EQ:
		return (value & cmp->datum_a) == cmp->datum_b;
	default:
		return false;
	}
}

static bool rule_matches(const struct policy *policy, const struct policy_rule *rule, const unsigned long long *args)
{
	if (rule->condition == POLICY_ALWAYS)
		return true;
	const struct policy_condition *c = &policy->conditions[rule->condition];
	for (unsigned i = 0; i < c->nargs; i++)
		if (!arg_matches(&c->args[i], args[c->args[i].arg]))
			return false;
	return true;
}

uint32_t policy_decide(const struct policy *policy, int nr, const unsigned long long args[6])
{
	size_t low = 0, high = policy->nrules;
	while (low < high) { /* the first rule of nr */
		size_t middle = low + (high - low) / 2;
		if (policy->rules[middle].nr < nr)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < policy->nrules && policy->rules[low].nr == nr; low++)
		if (rule_matches(policy, &policy->rules[low], args))
			return policy->rules[low].action;
	return policy->default_action;
}
