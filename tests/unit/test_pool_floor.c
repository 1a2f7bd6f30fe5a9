/* The fixed filter, evaluated as the kernel would and then for real. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool/zygote.h"

/* The few instructions that floor_build() uses. */
static unsigned evaluate(const struct sock_filter *p, unsigned len, const struct seccomp_data *data)
{
	unsigned a = 0;
	for (unsigned pc = 0; pc < len; pc++) {
		switch (p[pc].code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const char *)data + p[pc].k, 4);
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == p[pc].k ? p[pc].jt : p[pc].jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += a & p[pc].k ? p[pc].jt : p[pc].jf;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= p[pc].k;
			break;
		case BPF_RET | BPF_K:
			return p[pc].k;
		default:
			cr_assert_fail("unexpected instruction %x", p[pc].code);
		}
	}
	cr_assert_fail("the program has no end");
	return 0;
}

static unsigned verdict_of4(int nr, unsigned long long a0, unsigned long long a1, unsigned long long a2, unsigned long long a3)
{
	struct sock_filter insns[100];
	unsigned n = floor_build(insns, 100, false, true);
#if defined(__x86_64__)
	struct seccomp_data data = {.nr = nr, .arch = AUDIT_ARCH_X86_64, .args = {a0, a1, a2, a3}};
#else
	struct seccomp_data data = {.nr = nr, .arch = AUDIT_ARCH_AARCH64, .args = {a0, a1, a2, a3}};
#endif
	return evaluate(insns, n, &data);
}

static unsigned verdict_of(int nr, unsigned long long a0, unsigned long long a1)
{
	return verdict_of4(nr, a0, a1, 0, 0);
}

Test(floor, only_nameless_stream_pairs)
{
	cr_assert_eq(verdict_of(SYS_socketpair, AF_UNIX, SOCK_STREAM), SECCOMP_RET_ALLOW);
	cr_assert_eq(verdict_of(SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK), SECCOMP_RET_ALLOW);
	cr_assert_eq(verdict_of(SYS_socketpair, AF_UNIX, SOCK_DGRAM), SECCOMP_RET_USER_NOTIF);
	cr_assert_eq(verdict_of(SYS_socketpair, AF_INET, SOCK_STREAM), SECCOMP_RET_USER_NOTIF);
	cr_assert_eq(verdict_of(SYS_socketpair, AF_TIPC, SOCK_STREAM), SECCOMP_RET_USER_NOTIF);
	cr_assert_eq(verdict_of(SYS_socketpair, 0x100000000ULL | AF_INET, SOCK_STREAM), SECCOMP_RET_USER_NOTIF, "high bits");
	cr_assert_eq(verdict_of(SYS_socketpair, 0x100000000ULL | AF_UNIX, 0x100000000ULL | SOCK_STREAM), SECCOMP_RET_ALLOW,
		"the kernel reads ints");
	cr_assert_eq(verdict_of(SYS_bind, 3, 0), SECCOMP_RET_USER_NOTIF);
}

Test(floor, no_huge_pages)
{
	const unsigned none = SECCOMP_RET_ERRNO | ENOMEM;
	cr_assert_eq(verdict_of4(SYS_mmap, 0, 1 << 21, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB), none);
	cr_assert_eq(verdict_of4(SYS_mmap, 0, 1 << 21, PROT_READ, MAP_PRIVATE | MAP_HUGETLB | (30u << MAP_HUGE_SHIFT)), none, "1 GiB");
	cr_assert_eq(verdict_of4(SYS_mmap, 0, 1 << 21, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS), SECCOMP_RET_ALLOW);
	cr_assert_eq(verdict_of(SYS_memfd_create, 0, MFD_HUGETLB | MFD_CLOEXEC), none);
	cr_assert_eq(verdict_of(SYS_memfd_create, 0, MFD_CLOEXEC), SECCOMP_RET_ALLOW);
	cr_assert_eq(verdict_of4(SYS_shmget, 0, 1 << 21, SHM_HUGETLB | 0600, 0), none);
	cr_assert_eq(verdict_of4(SYS_shmget, 0, 1 << 21, 0600, 0), SECCOMP_RET_ALLOW);
}

static unsigned verdict(int nr, unsigned arch, bool sockets)
{
	struct sock_filter insns[100];
	unsigned n = floor_build(insns, 100, sockets, true);
	cr_assert_lt(n, 100, "the program was cut off");
	struct seccomp_data data = {.nr = nr, .arch = arch};
	return evaluate(insns, n, &data);
}

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#else
#define NATIVE AUDIT_ARCH_AARCH64
#endif

Test(floor, refuses_what_no_policy_may_give)
{
	static const int calls[] = {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_keyctl, SYS_add_key,
		SYS_request_key, SYS_bpf, SYS_clone3};
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		cr_assert_eq(verdict(calls[i], NATIVE, true), SECCOMP_RET_USER_NOTIF, "call %d", calls[i]);
	cr_assert_eq(verdict(SYS_read, NATIVE, true), SECCOMP_RET_ALLOW);
	cr_assert_eq(verdict(SYS_execve, NATIVE, false), SECCOMP_RET_ALLOW);
}

Test(floor, sockets_only_in_a_network_namespace_of_ones_own)
{
	cr_assert_eq(verdict(SYS_socket, NATIVE, false), SECCOMP_RET_USER_NOTIF);
	cr_assert_eq(verdict(SYS_socket, NATIVE, true), SECCOMP_RET_ALLOW);
}

Test(floor, foreign_abis_are_refused)
{
	cr_assert_eq(verdict(SYS_read, AUDIT_ARCH_I386, true), (unsigned)(SECCOMP_RET_ERRNO | ENOSYS));
	cr_assert_eq(verdict(SYS_read, AUDIT_ARCH_ARM, true), (unsigned)(SECCOMP_RET_ERRNO | ENOSYS));
#if defined(__x86_64__)
	cr_assert_eq(verdict(SYS_read | 0x40000000, NATIVE, true), (unsigned)(SECCOMP_RET_ERRNO | ENOSYS), "x32");
#endif
}

/* What the comment in floor.c says of the kernel: without a listener the call fails with ENOSYS, and does not block. */
Test(floor, the_kernel_answers_enosys)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || floor_install(false, true) < 0)
			_exit(2);
		if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || errno != ENOSYS)
			_exit(3);
		if (syscall(SYS_keyctl, 0, 0, 0, 0, 0) >= 0 || errno != ENOSYS)
			_exit(4);
		_exit(getppid() > 0 ? 0 : 5);
	}
	int status = -1;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0, "wait status %x", (unsigned)status);
}

/* A job whose policy has no listener and allows seccomp(2) could bring one of its own and answer "continue". */
Test(floor, without_a_listener_nothing_is_left_to_a_tie)
{
	struct sock_filter insns[100];
	unsigned n = floor_build(insns, 100, false, false);
	static const int calls[] = {SYS_io_uring_setup, SYS_keyctl, SYS_bpf, SYS_clone3, SYS_socket, SYS_bind, SYS_socketpair};
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct seccomp_data data = {.nr = calls[i], .arch = NATIVE};
		cr_assert_eq(evaluate(insns, n, &data), (unsigned)(SECCOMP_RET_ERRNO | ENOSYS), "call %d", calls[i]);
	}
}
