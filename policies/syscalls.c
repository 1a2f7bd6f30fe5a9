/*
 * Names and numbers of native system calls. libseccomp's tables end with the kernel it was released beside
 * (2.5.4: Linux 5.17); the calls that came since have the same number on every architecture.
 */
#include "policies/profile.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

static const struct {
	const char *name;
	int nr;
} newer[] = {
	{"set_mempolicy_home_node", 450},
	{"cachestat", 451},
	{"fchmodat2", 452},
	{"map_shadow_stack", 453},
	{"futex_wake", 454},
	{"futex_wait", 455},
	{"futex_requeue", 456},
	{"statmount", 457},
	{"listmount", 458},
	{"lsm_get_self_attr", 459},
	{"lsm_set_self_attr", 460},
	{"lsm_list_modules", 461},
	{"mseal", 462},
	{"setxattrat", 463},
	{"getxattrat", 464},
	{"listxattrat", 465},
	{"removexattrat", 466},
	{"open_tree_attr", 467},
	{"file_getattr", 468},
	{"file_setattr", 469},
};

int policy_syscall_number(const char *name)
{
	/* Negative beside -1 are libseccomp's stand-ins for calls that only other architectures have. */
	int nr = seccomp_syscall_resolve_name_arch(seccomp_arch_native(), name);
	if (nr >= 0)
		return nr;
	for (size_t i = 0; i < ARRAY_SIZE(newer); i++)
		if (strcmp(newer[i].name, name) == 0)
			return newer[i].nr;
	return -1;
}

const char *policy_syscall_name(int nr, char *buf, size_t cap)
{
	for (size_t i = 0; i < ARRAY_SIZE(newer); i++) {
		if (newer[i].nr == nr) {
			(void)snprintf(buf, cap, "%s", newer[i].name);
			return buf;
		}
	}
	_cleanup_free_ char *name = nr < 0 ? NULL : seccomp_syscall_resolve_num_arch(seccomp_arch_native(), nr);
	if (name)
		(void)snprintf(buf, cap, "%s", name);
	else
		(void)snprintf(buf, cap, "syscall_%d", nr);
	return buf;
}
