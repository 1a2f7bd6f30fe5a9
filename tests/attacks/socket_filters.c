/*
 * Tries: to fill the kernel with compiled BPF filters, which are in no group's memory, up to bpf_jit_limit, after which nobody on the machine
 * without privileges gets another: one for each of many sockets, and seccomp filters that live on in their listeners.
 * Must: be refused: EPERM, EINVAL, or what a policy without such calls says.
 * Stopped by: the policies: default's rules on SO_ATTACH_* and on SECCOMP_FILTER_FLAG_NEW_LISTENER; judge has neither call.
 * Without it: (default's rules taken out) "BROKEN: 120 filters on sockets", "BROKEN: a listener". 960 filters of 4000 instructions once took some
 * 49 MB of the machine's, of which 30 were the job's.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "reach.h"

#define LEN 1000

static struct sock_filter insns[LEN];
static struct sock_fprog program = {.len = LEN, .filter = insns};

int main(void)
{
	for (unsigned i = 0; i < LEN - 1; i++)
		insns[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, i);
	insns[LEN - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	static const int options[] = {SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_BPF, 52 /* SO_ATTACH_REUSEPORT_EBPF */};
	int attached = 0, pair[2];
	for (int i = 0; i < 60; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
			break;
		for (int j = 0; j < 2; j++)
			attached += setsockopt(pair[j], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0;
	}
	must(attached == 0, "%d filters on sockets", attached);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		for (unsigned long high = 0; high <= 0x100000000UL; high += 0x100000000UL)
			must_fail(syscall(SYS_setsockopt, pair[0], high | SOL_SOCKET, high | (unsigned)options[i], &program, sizeof(program)), EPERM, EACCES, ENOSYS);
	must_fail_as("a listener", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program), EINVAL, ENOSYS);
	must_fail_as("a listener", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_LOG, &program), EINVAL, ENOSYS);
	return finish();
}
