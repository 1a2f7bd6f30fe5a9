/*
 * The fixed filter that lies beneath every policy, whatever BPF the policy brings: no foreign system call ABIs, no
 * io_uring, no AIO, no keyrings, no bpf, no clone3 (whose flags no filter can see), no huge pages, and without a network namespace of the job's
 * own no way to a socket but nameless connected pairs, which runtimes need for themselves. Installed in the room, before the policy's; what the
 * room and its zygotes need beyond it passes by the gate (pool/gate.h). Async-signal-safe.
 *
 * Beneath a policy with a listener a refused call answers SECCOMP_RET_USER_NOTIF although this filter has no listener: the
 * kernel then fails it with ENOSYS (seccomp_do_user_notification(), kernel/seccomp.c). RET_ERRNO would do the same, but takes
 * precedence over a policy's own USER_NOTIF, and a policy that calls bpf(2) a violation would never get to report it. On a tie
 * the filter installed last, the policy's, is the one that notifies. petri never answers a notification with "continue", and
 * no second listener can be installed (EBUSY), so the job cannot answer its own.
 * Beneath a policy without a listener it is RET_ERRNO: there the job could bring a listener itself and win the tie.
 */
#include "pool/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/machine.h"
#include "base/sys.h"
#include "pool/gate.h"

#define X32_BIT 0x40000000u
#define RET_NOSYS (SECCOMP_RET_ERRNO | ENOSYS)

static void add(struct sock_filter *insns, unsigned cap, unsigned *n, struct sock_filter insn)
{
	if (*n < cap)
		insns[(*n)++] = insn;
}

unsigned floor_build(struct sock_filter *insns, unsigned cap, bool sockets, bool listener)
{
	const unsigned refuse = listener ? SECCOMP_RET_USER_NOTIF : RET_NOSYS;
	static const unsigned always[] = {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_keyctl,
		SYS_add_key, SYS_request_key, SYS_bpf, SYS_clone3,
		SYS_io_setup}; /* one count for the whole machine (fs.aio-nr): a job could take all, or tell a number to another */
	/* A socketpair's end can be bound to an abstract name, which the slot's next job could find taken. */
	static const unsigned without_sockets[] = {SYS_socket, SYS_bind, SYS_connect, SYS_listen, SYS_accept, SYS_accept4};
	unsigned n = 0;
	add(insns, cap, &n, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
	add(insns, cap, &n, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE_AUDIT_ARCH, 1, 0));
	add(insns, cap, &n, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, RET_NOSYS));
	add(insns, cap, &n, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
#if defined(__x86_64__)
	add(insns, cap, &n, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, X32_BIT, 0, 1));
	add(insns, cap, &n, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, RET_NOSYS));
#endif
	for (size_t i = 0; i < ARRAY_SIZE(always); i++) {
		add(insns, cap, &n, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, always[i], 0, 1));
		add(insns, cap, &n, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, refuse));
	}
	for (size_t i = 0; !sockets && i < ARRAY_SIZE(without_sockets); i++) {
		add(insns, cap, &n, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, without_sockets[i], 0, 1));
		add(insns, cap, &n, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, refuse));
	}
	if (!sockets) { /* socketpair(AF_UNIX, SOCK_STREAM and flags); the kernel reads both as int: the low words */
		const struct sock_filter pair[] = {
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socketpair, 0, 6),
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 3),
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
			BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~(unsigned)(SOCK_CLOEXEC | SOCK_NONBLOCK)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 1, 0),
			BPF_STMT(BPF_RET | BPF_K, refuse),
		};
		for (size_t i = 0; i < ARRAY_SIZE(pair); i++)
			add(insns, cap, &n, pair[i]);
	}
	/* fcntl(F_SET_RW_HINT, F_SET_FILE_RW_HINT): kept in the inode, even one that was opened for reading, where the next job finds it. */
	const struct sock_filter hints[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SET_RW_HINT, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SET_FILE_RW_HINT, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, refuse),
	};
	for (size_t i = 0; i < ARRAY_SIZE(hints); i++)
		add(insns, cap, &n, hints[i]);
	/* Huge pages come from the host's own pool, and no memory limit counts them. Programs that would like some do without. */
	static const struct {
		unsigned call, argument, flag;
	} huge[] = {{SYS_mmap, 3, MAP_HUGETLB}, {SYS_memfd_create, 1, MFD_HUGETLB}, {SYS_shmget, 2, SHM_HUGETLB}};
	for (size_t i = 0; i < ARRAY_SIZE(huge); i++) {
		const struct sock_filter one[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, huge[i].call, 0, 3),
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, args) + huge[i].argument * 8),
			BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, huge[i].flag, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
		};
		for (size_t j = 0; j < ARRAY_SIZE(one); j++)
			add(insns, cap, &n, one[j]);
	}
	add(insns, cap, &n, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	return n;
}

int floor_install(bool sockets, bool listener)
{
	struct sock_filter insns[128];
	struct sock_fprog program = {.filter = insns};
	unsigned n = gate_build(insns, ARRAY_SIZE(insns), gate_key());
	program.len = (unsigned short)(n + floor_build(insns + n, ARRAY_SIZE(insns) - n, sockets, listener));
	return sys_seccomp(SECCOMP_SET_MODE_FILTER, 0, &program);
}
