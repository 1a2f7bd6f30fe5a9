/* The gate; see the header. petri-nursery's rooms and zygotes. */
#include "pool/gate.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/machine.h"

static uint64_t key;

uint64_t gate_key(void)
{
	return key;
}

int gate_make_key(void)
{
	while (key == 0)
		if (getrandom(&key, sizeof(key), 0) != (ssize_t)sizeof(key))
			return errno == EINTR ? -EAGAIN : -errno;
	return 0;
}

unsigned gate_calls(const unsigned **ret)
{
	/* None of them has a sixth argument, and none is one that a job makes often: the kernel cannot remember the answer to a
	 * call whose arguments are looked at. */
	static const unsigned calls[] = {SYS_clone3, SYS_unshare, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_move_mount,
		SYS_open_tree, SYS_umount2, SYS_setresuid, SYS_setresgid, SYS_capset, SYS_prctl, SYS_seccomp, SYS_setsid, SYS_wait4,
		SYS_kill, SYS_sendmsg, SYS_pidfd_open, SYS_socket, SYS_ioctl, SYS_pipe2, SYS_fchownat, SYS_getdents64};
	*ret = calls;
	return ARRAY_SIZE(calls);
}

/*
 *   ld arch; jne native → out      ld nr; jeq call_0 → check; … jeq call_n → check; ja out
 *   check: ld args[5].low; jne → out; ld args[5].high; jne → out; ret ALLOW
 *   out: what follows
 */
unsigned gate_build(struct sock_filter *insns, unsigned cap, uint64_t with)
{
	const unsigned *calls, ncalls = gate_calls(&calls);
	const unsigned low = offsetof(struct seccomp_data, args[5]), high = low + 4; /* base/machine.h: little endian */
	const unsigned total = 2 + 1 + ncalls + 1 + 5;
	unsigned n = 0;
	if (cap < total)
		return 0;
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	insns[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE_AUDIT_ARCH, 0, (unsigned char)(total - 2));
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < ncalls; i++)
		insns[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], (unsigned char)(ncalls - i), 0);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 5);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low);
	insns[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)with, 0, 3);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, high);
	insns[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(with >> 32), 0, 1);
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	return n;
}

#if defined(__x86_64__)

long gate_raw(long nr, long a, long b, long c, long d, long e)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = (long)key;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

long gate_clone(struct clone_args *args, void (*fn)(void *arg), void *arg)
{
	long ret;
	register long r9 __asm__("r9") = (long)key;
	register void (*r12)(void *) __asm__("r12") = fn;
	register void *r13 __asm__("r13") = arg;
	/* The new process wakes on its own stack, aligned as the ABI wants it before a call, and must never return here. */
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r13, %%rdi\n\t"
			 "call *%%r12\n\t"
			 "mov %[exit_nr], %%eax\n\t"
			 "xor %%edi, %%edi\n\t"
			 "syscall\n\t"
			 "ud2\n"
			 "1:"
			 : "=a"(ret)
			 : "a"(SYS_clone3), "D"(args), "S"(sizeof(*args)), "r"(r9), "r"(r12), "r"(r13), [exit_nr] "i"(SYS_exit_group)
			 : "rcx", "rdx", "r8", "r10", "r11", "memory");
	return ret;
}

#else

long gate_raw(long nr, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = (long)key;
	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}

long gate_clone(struct clone_args *args, void (*fn)(void *arg), void *arg)
{
	register long x8 __asm__("x8") = SYS_clone3;
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = sizeof(*args);
	register long x5 __asm__("x5") = (long)key;
	register void (*x19)(void *) __asm__("x19") = fn;
	register void *x20 __asm__("x20") = arg;
	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "mov x29, xzr\n\t"
			 "mov x30, xzr\n\t"
			 "mov x0, x20\n\t"
			 "blr x19\n\t"
			 "mov x8, %[exit_nr]\n\t"
			 "mov x0, xzr\n\t"
			 "svc #0\n\t"
			 "brk #1\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x5), "r"(x19), "r"(x20), [exit_nr] "i"(SYS_exit_group)
			 : "memory", "x2", "x3", "x4", "x30");
	return x0;
}

#endif
