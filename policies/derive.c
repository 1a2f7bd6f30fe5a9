/*
 * What a program can answer for one call whatever the arguments are. A walk over the instructions with the call's
 * number known and the arguments, or all but some of them, unknown: both ways of a branch on something unknown are
 * taken, so an answer that is possible is never missed. Trying sample arguments would miss some: the kernel takes
 * socket(0x100000002, ...) for AF_INET.
 */
#include "policies/profile.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/cleanup.h"

#define MAY_ALLOW 1U
#define MAY_REFUSE 2U

/* What is known of the accumulator before an instruction. */
struct knowledge {
	bool reached;
	bool known;
	uint32_t value;
};

/* Return: whether the target exists. */
static bool flow(struct knowledge *at, size_t len, size_t to, struct knowledge a)
{
	if (to >= len)
		return false;
	if (!at[to].reached)
		at[to] = a;
	else if (!a.known || a.value != at[to].value)
		at[to].known = false;
	return true;
}

/* A call of which the low halves of the first arguments may be known: all that the kernel takes of an int. */
struct call {
	int nr;
	bool known[2];
	uint32_t low[2];
};

/* Return: false for a load that the kernel would not take. */
static bool load(uint32_t offset, const struct call *call, struct knowledge *ret)
{
	const size_t first = offsetof(struct seccomp_data, args[0]), second = offsetof(struct seccomp_data, args[1]);
	*ret = (struct knowledge){.reached = true};
	if (offset == offsetof(struct seccomp_data, nr))
		*ret = (struct knowledge){true, true, (uint32_t)call->nr};
	else if (offset == offsetof(struct seccomp_data, arch))
		*ret = (struct knowledge){true, true, seccomp_arch_native()};
	else if (offset == first) /* the low half: both architectures are little-endian */
		*ret = (struct knowledge){true, call->known[0], call->low[0]};
	else if (offset == second)
		*ret = (struct knowledge){true, call->known[1], call->low[1]};
	return offset % sizeof(uint32_t) == 0 && offset < sizeof(struct seccomp_data);
}

static bool branch(struct knowledge *at, size_t len, size_t pc, const struct sock_filter *insn)
{
	struct knowledge a = at[pc];
	bool taken = false;
	if (a.known) {
		switch (BPF_OP(insn->code)) {
		case BPF_JEQ:
			taken = a.value == insn->k;
			break;
		case BPF_JGT:
			taken = a.value > insn->k;
			break;
		case BPF_JGE:
			taken = a.value >= insn->k;
			break;
		case BPF_JSET:
			taken = (a.value & insn->k) != 0;
			break;
		default:
			return false;
		}
	}
	bool ok = true;
	if (!a.known || taken)
		ok = flow(at, len, pc + 1 + insn->jt, a);
	if (!a.known || !taken)
		ok = flow(at, len, pc + 1 + insn->jf, a) && ok;
	return ok;
}

static unsigned answer(uint32_t ret)
{
	uint32_t action = ret & SECCOMP_RET_ACTION_FULL;
	return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG ? MAY_ALLOW : MAY_REFUSE;
}

/* at: room for program->len. Return: MAY_ bits; both for what is not understood. */
static unsigned answers(const struct policy_program *program, struct knowledge *at, const struct call *call)
{
	unsigned may = 0;
	size_t len = program->len;
	for (size_t i = 0; i < len; i++)
		at[i] = (struct knowledge){.reached = i == 0, .known = i == 0};
	for (size_t pc = 0; pc < len; pc++) {
		if (!at[pc].reached)
			continue;
		const struct sock_filter *insn = &program->insns[pc];
		struct knowledge a = at[pc];
		bool ok;
		switch (insn->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			ok = load(insn->k, call, &a) && flow(at, len, pc + 1, a);
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a.value &= insn->k;
			ok = flow(at, len, pc + 1, a);
			break;
		case BPF_JMP | BPF_JA:
			ok = flow(at, len, pc + 1 + insn->k, a);
			break;
		case BPF_RET | BPF_K:
			may |= answer(insn->k);
			ok = true;
			break;
		default:
			ok = BPF_CLASS(insn->code) == BPF_JMP && BPF_SRC(insn->code) == BPF_K && branch(at, len, pc, insn);
			break;
		}
		if (!ok)
			return MAY_ALLOW | MAY_REFUSE;
	}
	return may;
}

/* What a waiting zygote's child calls between its filter and its exec: policy.h, allows_launch. */
static const char *const launch_calls[] = {"read", "write", "pread64", "recvmsg", "openat", "openat2", "mkdirat",
	"fchmod", "fchmodat", "close", "close_range", "dup2", "dup3", "fcntl", "prlimit64", "chdir", "fchdir", "execve",
	"execveat", "lseek", "fstat", "newfstatat", "exit_group", "mmap", "munmap", "clock_gettime", "umask", "setrlimit",
	"unlinkat", "mkdir", "chmod", "unlink", "rmdir", "sendfile", "copy_file_range", "rt_sigaction", "rt_sigprocmask"};

static unsigned answers_any(const struct policy_program *program, struct knowledge *at, const char *name)
{
	return answers(program, at, &(struct call){.nr = policy_syscall_number(name)});
}

/*
 * Whether socketpair() can make anything but a connected pair of AF_UNIX stream sockets. Such a pair stays connected
 * for good and has no address, so it reaches no other job; a datagram one can still be told where to send, and other
 * families have rules of their own. The kernel knows 16 types and two flags, and fewer than 64 families.
 */
static bool makes_other_pairs(const struct policy_program *program, struct knowledge *at)
{
	struct call call = {.nr = policy_syscall_number("socketpair"), .known = {false, true}};
	for (uint32_t type = 0; type <= 0xf; type++) {
		for (unsigned flags = 0; flags < 4; flags++) {
			call.low[1] = type | (flags & 1 ? SOCK_CLOEXEC : 0) | (flags & 2 ? SOCK_NONBLOCK : 0);
			call.known[0] = type == SOCK_STREAM;
			for (call.low[0] = 0; call.low[0] < (call.known[0] ? 256 : 1); call.low[0]++)
				if (!(call.known[0] && call.low[0] == AF_UNIX) &&
					(answers(program, at, &call) & MAY_ALLOW))
					return true;
		}
	}
	return false;
}

static bool allows_sockets(const struct policy_program *program, struct knowledge *at)
{
	if (answers_any(program, at, "socket") & MAY_ALLOW)
		return true;
	if (!(answers_any(program, at, "socketpair") & MAY_ALLOW))
		return false;
	/* A pair that is given a name would be seen by whoever tries the same name. */
	return (answers_any(program, at, "bind") & MAY_ALLOW) || makes_other_pairs(program, at);
}

static bool allows_launch(const struct policy_program *program, struct knowledge *at)
{
	for (size_t i = 0; i < ARRAY_SIZE(launch_calls); i++)
		if (policy_syscall_number(launch_calls[i]) >= 0 && /* aarch64 has no dup2, mkdir … */
			answers_any(program, at, launch_calls[i]) != MAY_ALLOW)
			return false;
	return true;
}

int policy_derive(struct policy_program *program, struct err *err)
{
	_cleanup_free_ struct knowledge *at = calloc(program->len ? program->len : 1, sizeof(*at));
	if (!at)
		return err_set(err, ENOMEM, "derive flags");
	program->allows_launch = allows_launch(program, at);
	program->allows_sockets = allows_sockets(program, at);
	program->notifies = false;
	for (size_t i = 0; i < program->len; i++)
		if (program->insns[i].code == (BPF_RET | BPF_K) &&
			(program->insns[i].k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF)
			program->notifies = true;
	return 0;
}
