/*
 * Tries: to answer its own refused calls: install a filter with a listener that says "continue" to io_uring_setup, clone3, bpf, keyctl and
 * add_key; the same with RET_TRACE, RET_TRAP and RET_ALLOW; filters with TSYNC and LOG; and PR_SET_SECCOMP.
 * Must: change nothing: the calls stay refused, by the errno of the filter beneath (a refusal of its own may come in front).
 * Stopped by: the kernel takes the strictest answer of all filters, and the fixed filter beneath a policy without a listener says
 * RET_ERRNO, which precedes USER_NOTIF; judge has no
 * seccomp(2) at all.
 * Without it: (policies that allow everything, above a fixed filter that always says USER_NOTIF) "BROKEN: call 425 came to the
 * job's own listener", "call 425 beneath a listener: went through".
 */
// expect judge: violation bpf
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "reach.h"

static const long calls[] = {SYS_io_uring_setup, SYS_clone3, SYS_bpf, SYS_keyctl, SYS_add_key};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

static int install(unsigned answer, unsigned flags)
{
	struct sock_filter insns[2 * CALLS + 2] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	size_t n = 1;
	for (size_t i = 0; i < CALLS; i++) {
		insns[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
		insns[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer);
	}
	insns[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {.len = (unsigned short)n, .filter = insns};
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

static atomic_int listener = -1;

/* Started before the filter, which it then is not under. */
static void *answer(void *arg)
{
	while (atomic_load(&listener) < 0)
		usleep(100);
	for (;;) {
		struct seccomp_notif notif = {0};
		if (ioctl(atomic_load(&listener), SECCOMP_IOCTL_NOTIF_RECV, &notif) < 0)
			return arg;
		broken("call %d came to the job's own listener", notif.data.nr);
		struct seccomp_notif_resp resp = {.id = notif.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
		(void)ioctl(atomic_load(&listener), SECCOMP_IOCTL_NOTIF_SEND, &resp);
	}
}

static void refused(const char *how)
{
	for (size_t i = 0; i < CALLS; i++) {
		char what[64], zeros[256] = {0};
		(void)snprintf(what, sizeof(what), "call %ld %s", calls[i], how);
		must_fail_as(what, syscall(calls[i], 1, zeros, 88, 0, 0), ENOSYS, EPERM);
	}
}

static void with(void *arg)
{
	unsigned action = *(unsigned *)arg;
	bool notify = action == SECCOMP_RET_USER_NOTIF;
	pthread_t thread;
	if (notify && pthread_create(&thread, NULL, answer, NULL) != 0)
		broken("no thread");
	int fd = install(action, notify ? SECCOMP_FILTER_FLAG_NEW_LISTENER : SECCOMP_FILTER_FLAG_LOG);
	if (fd < 0) {
		held("a filter of its own: %s", strerror(errno));
		return;
	}
	atomic_store(&listener, notify ? fd : -1);
	refused(notify ? "beneath a listener" : "beneath a filter");
}

int main(void)
{
	static unsigned actions[] = {SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ALLOW, SECCOMP_RET_TRACE, SECCOMP_RET_LOG};
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		(void)in_child(with, &actions[i]);
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {.len = 1, .filter = &allow};
	(void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	(void)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	refused("after all");
	char mode[16] = "";
	must(status_field(getpid(), "Seccomp", mode, sizeof(mode)) == 0 && strcmp(mode, "2") == 0, "the mode is %s", mode);
	return finish();
}
