/*
 * Profiles in the OCI/Docker seccomp format (runtime-spec config-linux.md, "seccomp"; Docker adds archMap, includes
 * and excludes, podman errno and defaultErrno by name). Runs in the unprivileged worker on text that others wrote:
 * everything is counted, typed and named before it is used, and what is not known is refused.
 */
#include "policies/profile.h"

#include <errno.h>
#include <jansson.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static void cleanup_json(json_t **json)
{
	json_decref(*json);
}

static void cleanup_policy(struct policy **policy)
{
	policy_free(*policy);
}

static int parse_arg(const json_t *arg, const char *path, struct policy_condition *condition, struct err *err)
{
	static const char *const fields[] = {"index", "value", "valueTwo", "op", NULL};
	uint64_t index = 0, value = 0, value_two = 0;
	const char *word = NULL;
	char text[POLICY_WORD_MAX];
	enum scmp_compare op;
	if (!json_is_object(arg))
		return err_say(err, EINVAL, "%s: not an object", path);
	int r = policy_only_fields(arg, path, fields, err);
	if (r == 0)
		r = policy_field_number(arg, "index", path, POLICY_ARGS_MAX - 1, &index, err);
	if (r == 0)
		return err_say(err, EINVAL, "%s.index: missing", path);
	if (r > 0)
		r = policy_field_number(arg, "value", path, INT64_MAX, &value, err);
	if (r == 0)
		return err_say(err, EINVAL, "%s.value: missing", path);
	if (r > 0)
		r = policy_field_number(arg, "valueTwo", path, INT64_MAX, &value_two, err);
	if (r >= 0)
		r = policy_field_string(arg, "op", path, &word, err);
	if (r < 0)
		return r;
	if (!word)
		return err_say(err, EINVAL, "%s.op: missing", path);
	if (policy_word_op(word, &op) < 0)
		return err_say(err, EINVAL, "%s.op: unknown operator %s", path, policy_printable(word, text));
	if (op != SCMP_CMP_MASKED_EQ && value_two != 0)
		return err_say(err, EINVAL, "%s.valueTwo: only for SCMP_CMP_MASKED_EQ", path);
	if (op == SCMP_CMP_MASKED_EQ && (value_two & ~value) != 0)
		return err_say(err, EINVAL, "%s.valueTwo: has bits that the mask in value has not", path);
	for (unsigned i = 0; i < condition->nargs; i++)
		if (condition->args[i].arg == index)
			return err_say(err, EINVAL, "%s.index: argument %u is compared twice", path, (unsigned)index);
	condition->args[condition->nargs++] =
		(struct scmp_arg_cmp){.arg = (unsigned)index, .op = op, .datum_a = value, .datum_b = value_two};
	return 0;
}

/* Append the condition of an entry. Return: 0 with POLICY_ALWAYS when it has no args. */
static int parse_args(struct policy *policy, const json_t *entry, const char *path, uint32_t *ret, struct err *err)
{
	const json_t *args = json_object_get(entry, "args");
	*ret = POLICY_ALWAYS;
	if (!args || json_is_null(args))
		return 0;
	if (!json_is_array(args))
		return err_say(err, EINVAL, "%s.args: not a list", path);
	size_t n = json_array_size(args);
	if (n == 0)
		return 0;
	if (n > POLICY_ARGS_MAX)
		return err_say(err, EINVAL, "%s.args: more than %d entries", path, POLICY_ARGS_MAX);
	struct policy_condition *condition = &policy->conditions[policy->nconditions];
	for (size_t i = 0; i < n; i++) {
		char arg_path[POLICY_PATH_MAX + 32];
		(void)snprintf(arg_path, sizeof(arg_path), "%s.args[%zu]", path, i);
		int r = parse_arg(json_array_get(args, i), arg_path, condition, err);
		if (r < 0)
			return r;
	}
	*ret = (uint32_t)policy->nconditions++;
	return 0;
}

static int add_rule(struct policy *policy, const struct policy_rule *rule, const char *path, struct err *err)
{
	if (policy->nrules == POLICY_RULES_MAX)
		return err_say(err, EINVAL, "%s: more than %d names in all", path, POLICY_RULES_MAX);
	if ((policy->nrules & (policy->nrules - 1)) == 0) { /* at 0, 1, 2, 4, ...: double */
		size_t cap = policy->nrules ? policy->nrules * 2 : 1;
		struct policy_rule *more = reallocarray(policy->rules, cap, sizeof(*more));
		if (!more)
			return err_set(err, ENOMEM, "%s", path);
		policy->rules = more;
	}
	policy->rules[policy->nrules++] = *rule;
	return 0;
}

static int add_call(struct policy *policy, const char *name, struct policy_rule rule, const char *path, struct err *err)
{
	if (!name[0])
		return err_say(err, EINVAL, "%s: an empty system call name", path);
	rule.nr = policy_syscall_number(name);
	return rule.nr < 0 ? 0 : add_rule(policy, &rule, path, err);
}

/* "names", or "name" as profiles had it before Docker 17. */
static int add_calls(struct policy *policy, const json_t *entry, struct policy_rule rule, const char *path,
	struct err *err)
{
	const json_t *names = NULL;
	const char *name = NULL;
	int r = policy_field_strings(entry, "names", path, &names, err);
	if (r == 0)
		r = policy_field_string(entry, "name", path, &name, err);
	if (r < 0)
		return r;
	if (names && name)
		return err_say(err, EINVAL, "%s.name: beside names", path);
	if (name)
		return add_call(policy, name, rule, path, err);
	if (!names || json_array_size(names) == 0)
		return err_say(err, EINVAL, "%s.names: missing or empty", path);
	for (size_t i = 0; i < json_array_size(names) && r == 0; i++)
		r = add_call(policy, json_string_value(json_array_get(names, i)), rule, path, err);
	return r;
}

static int parse_entry(struct policy *policy, const json_t *entry, size_t index, struct err *err)
{
	static const char *const fields[] = {"names", "name", "action", "errnoRet", "errno", "args", "comment", "includes",
		"excludes", NULL};
	static const char *const action[3] = {"action", "errnoRet", "errno"};
	char path[POLICY_PATH_MAX];
	(void)snprintf(path, sizeof(path), "syscalls[%zu]", index);
	if (!json_is_object(entry))
		return err_say(err, EINVAL, "%s: not an object", path);
	struct policy_rule rule = {.order = (uint32_t)index};
	const char *comment = NULL;
	bool applies = false;
	size_t nrules = policy->nrules, nconditions = policy->nconditions;
	int r = policy_only_fields(entry, path, fields, err);
	if (r == 0)
		r = policy_field_string(entry, "comment", path, &comment, err);
	if (r == 0)
		r = policy_filter(entry, path, &applies, err);
	if (r == 0)
		r = policy_field_action(entry, action, path, &rule.action, err);
	if (r == 0)
		r = parse_args(policy, entry, path, &rule.condition, err);
	if (r == 0)
		r = add_calls(policy, entry, rule, path, err);
	/* What does not apply was read all the same: a profile is right or wrong on every machine alike. */
	if (r == 0 && !applies) {
		policy->nrules = nrules;
		memset(policy->conditions + nconditions, 0, (policy->nconditions - nconditions) * sizeof(*policy->conditions));
		policy->nconditions = nconditions;
	}
	return r;
}

static int parse_entries(struct policy *policy, const json_t *root, struct err *err)
{
	const json_t *entries = json_object_get(root, "syscalls");
	if (!entries || json_is_null(entries))
		return 0;
	if (!json_is_array(entries))
		return err_say(err, EINVAL, "syscalls: not a list");
	size_t n = json_array_size(entries);
	if (n > POLICY_ENTRIES_MAX)
		return err_say(err, EINVAL, "syscalls: more than %d entries", POLICY_ENTRIES_MAX);
	policy->conditions = calloc(n + 1, sizeof(*policy->conditions));
	if (!policy->conditions)
		return err_set(err, ENOMEM, "syscalls");
	int r = 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = parse_entry(policy, json_array_get(entries, i), i, err);
	size_t conditional = 0;
	for (size_t i = 0; i < policy->nrules; i++)
		conditional += policy->rules[i].condition != POLICY_ALWAYS;
	if (r == 0 && conditional > POLICY_CONDITIONAL_MAX)
		return err_say(err, EINVAL, "syscalls: more than %d calls with args", POLICY_CONDITIONAL_MAX);
	return r;
}

static int check_arch(const json_t *name, const char *path, struct err *err)
{
	char word[POLICY_WORD_MAX];
	if (!json_is_string(name))
		return err_say(err, EINVAL, "%s: not a string", path);
	if (policy_word_scmp_arch(json_string_value(name)) < 0)
		return err_say(err, EINVAL, "%s: unknown architecture %s", path,
			policy_printable(json_string_value(name), word));
	return 0;
}

static int check_archs(const json_t *object, const char *field, const char *path, struct err *err)
{
	const json_t *list = NULL;
	int r = policy_field_strings(object, field, path, &list, err);
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		char item[POLICY_PATH_MAX + 48];
		(void)snprintf(item, sizeof(item), "%s%s%s[%zu]", path, path[0] ? "." : "", field, i);
		r = check_arch(json_array_get(list, i), item, err);
	}
	return r;
}

/* architectures and archMap are only checked: the native architecture is the only one that jobs get. */
static int check_arch_map(const json_t *root, struct err *err)
{
	static const char *const fields[] = {"architecture", "subArchitectures", NULL};
	const json_t *map = json_object_get(root, "archMap");
	int r = check_archs(root, "architectures", "", err);
	if (r < 0 || !map || json_is_null(map))
		return r;
	if (!json_is_array(map) || json_array_size(map) > POLICY_NAMES_MAX)
		return err_say(err, EINVAL, "archMap: not a list, or too long");
	for (size_t i = 0; r == 0 && i < json_array_size(map); i++) {
		const json_t *item = json_array_get(map, i);
		char path[POLICY_PATH_MAX], arch_path[POLICY_PATH_MAX + 16];
		(void)snprintf(path, sizeof(path), "archMap[%zu]", i);
		(void)snprintf(arch_path, sizeof(arch_path), "%s.architecture", path);
		if (!json_is_object(item))
			return err_say(err, EINVAL, "%s: not an object", path);
		r = policy_only_fields(item, path, fields, err);
		if (r == 0)
			r = check_arch(json_object_get(item, "architecture"), arch_path, err);
		if (r == 0)
			r = check_archs(item, "subArchitectures", path, err);
	}
	return r;
}

/* The flags of seccomp(2) are petri's to choose; a profile's are checked and not used. */
static int check_flags(const json_t *root, struct err *err)
{
	const json_t *flags = NULL;
	int r = policy_field_strings(root, "flags", "", &flags, err);
	for (size_t i = 0; r == 0 && i < json_array_size(flags); i++) {
		const char *flag = json_string_value(json_array_get(flags, i));
		char word[POLICY_WORD_MAX];
		if (policy_word_flag(flag) < 0)
			r = err_say(err, EINVAL, "flags[%zu]: unknown flag %s", i, policy_printable(flag, word));
	}
	return r;
}

static int parse_root(struct policy *policy, const json_t *root, struct err *err)
{
	static const char *const fields[] = {"defaultAction", "defaultErrnoRet", "defaultErrno", "architectures",
		"archMap", "syscalls", "flags", "comment", NULL};
	static const char *const listener[] = {"listenerPath", "listenerMetadata"};
	static const char *const action[3] = {"defaultAction", "defaultErrnoRet", "defaultErrno"};
	if (!json_is_object(root))
		return err_say(err, EINVAL, "not a JSON object");
	for (size_t i = 0; i < ARRAY_SIZE(listener); i++)
		if (json_object_get(root, listener[i]))
			return err_say(err, EINVAL, "%s: petri itself listens for violations", listener[i]);
	const char *comment = NULL;
	int r = policy_only_fields(root, "", fields, err);
	if (r == 0)
		r = policy_field_string(root, "comment", "", &comment, err);
	if (r == 0)
		r = check_arch_map(root, err);
	if (r == 0)
		r = check_flags(root, err);
	if (r == 0)
		r = policy_field_action(root, action, "", &policy->default_action, err);
	if (r == 0)
		r = parse_entries(policy, root, err);
	return r;
}

static int parse_text(struct policy *policy, const char *json, size_t len, struct err *err)
{
	if (len > POLICY_JSON_MAX)
		return err_say(err, EINVAL, "larger than %u bytes", POLICY_JSON_MAX);
	json_error_t fault;
	_cleanup_(cleanup_json) json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &fault);
	if (!root) {
		char word[POLICY_WORD_MAX];
		return err_say(err, EINVAL, "line %d: %s", fault.line, policy_printable(fault.text, word));
	}
	return parse_root(policy, root, err);
}

int policy_parse(const char *name, const char *json, size_t len, struct policy **ret, struct err *err)
{
	_cleanup_(cleanup_policy) struct policy *policy = calloc(1, sizeof(*policy));
	if (!policy)
		return err_set(err, ENOMEM, "policy");
	(void)policy_printable(name, policy->name);
	int r = parse_text(policy, json, len, err);
	if (r < 0)
		return (void)err_wrap(err, "policy %s", policy->name), r;
	policy_sort(policy);
	*ret = TAKE_PTR(policy);
	return 0;
}

void policy_free(struct policy *policy)
{
	if (!policy)
		return;
	free(policy->rules);
	free(policy->conditions);
	free(policy);
}

const char *const *policy_builtin(void)
{
	return policy_shipped_names;
}
