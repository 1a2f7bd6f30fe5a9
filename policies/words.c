/* The fixed words of the profile format: actions, operators, architectures, errnos, flags. Tables only. */
#include "policies/profile.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/machine.h"

struct word {
	const char *name;
	int value;
};

static const struct word *find(const struct word *words, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(words[i].name, name) == 0)
			return &words[i];
	return NULL;
}

int policy_word_action(const char *word, enum policy_action *ret)
{
	static const struct word words[] = {
		{"SCMP_ACT_ALLOW", POLICY_ALLOW},
		{"SCMP_ACT_LOG", POLICY_LOG},
		{"SCMP_ACT_ERRNO", POLICY_ERRNO},
		{"SCMP_ACT_KILL", POLICY_VIOLATION},
		{"SCMP_ACT_KILL_PROCESS", POLICY_VIOLATION},
		{"SCMP_ACT_KILL_THREAD", POLICY_VIOLATION},
		{"SCMP_ACT_TRAP", POLICY_VIOLATION},
		{"SCMP_ACT_NOTIFY", POLICY_VIOLATION},
		{"SCMP_ACT_TRACE", POLICY_TRACE},
	};
	const struct word *w = find(words, ARRAY_SIZE(words), word);
	if (!w)
		return -EINVAL;
	*ret = (enum policy_action)w->value;
	return 0;
}

int policy_word_op(const char *word, enum scmp_compare *ret)
{
	static const struct word words[] = {
		{"SCMP_CMP_NE", SCMP_CMP_NE},
		{"SCMP_CMP_LT", SCMP_CMP_LT},
		{"SCMP_CMP_LE", SCMP_CMP_LE},
		{"SCMP_CMP_EQ", SCMP_CMP_EQ},
		{"SCMP_CMP_GE", SCMP_CMP_GE},
		{"SCMP_CMP_GT", SCMP_CMP_GT},
		{"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
	};
	const struct word *w = find(words, ARRAY_SIZE(words), word);
	if (!w)
		return -EINVAL;
	*ret = (enum scmp_compare)w->value;
	return 0;
}

int policy_word_scmp_arch(const char *word)
{
	static const char *const words[] = {"X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32",
		"MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64",
		"RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB"};
	static const char prefix[] = "SCMP_ARCH_";
	if (strncmp(word, prefix, sizeof(prefix) - 1) != 0)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(word + sizeof(prefix) - 1, words[i]) == 0)
			return 0;
	return -EINVAL;
}

int policy_word_arch(const char *word, bool *ret_native)
{
	/* mips3l64n32 is Docker's own spelling, in profiles up to 20.10. */
	static const char *const words[] = {"amd64", "arm64", "x86", "x32", "arm", "mips", "mips64", "mips64n32",
		"mipsel", "mipsel64", "mipsel64n32", "mips3l64n32", "ppc", "ppc64", "ppc64le", "s390", "s390x", "parisc",
		"parisc64", "riscv64", "loongarch64", "loong64", "m68k", "sh", "sheb"};
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(word, words[i]) == 0) {
			*ret_native = strcmp(word, MACHINE_OCI_NAME) == 0;
			return 0;
		}
	}
	return -EINVAL;
}

int policy_word_errno(const char *word, unsigned *ret)
{
	for (int e = 1; e < 256; e++) {
		const char *name = strerrorname_np(e);
		if (name && strcmp(name, word) == 0) {
			*ret = (unsigned)e;
			return 0;
		}
	}
	return -EINVAL;
}

int policy_word_flag(const char *word)
{
	static const char *const words[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
		"SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(word, words[i]) == 0)
			return 0;
	return -EINVAL;
}
