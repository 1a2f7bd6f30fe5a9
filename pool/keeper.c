/* Keepers; see the header. petri-nursery; the keeper itself only waits on a futex and clones. */
#include "pool/keeper.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/sys.h"

#define PATIENCE_NS 1000000000ull

struct keeper_page {
	_Atomic uint32_t request, reply; /* counters: the n-th request is answered by the n-th reply */
	struct room_spec spec;		 /* fd numbers are good on both sides: the table is shared */
	pid_t pid, parent;
	int pidfd;
};

static void wait_while(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
	struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000), .tv_nsec = (long)(timeout_ns % 1000000000)};
	(void)syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns ? &ts : NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

_Noreturn static void keep(struct keeper_page *page, int net)
{
	uint32_t seen = 0;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != page->parent)
		_exit(1);
	if (setns(net, CLONE_NEWNET) < 0)
		_exit(1); /* the first request then times out, and says so */
	(void)prctl(PR_SET_NAME, "petri-keeper", 0, 0, 0);
	for (;;) {
		uint32_t now = atomic_load(&page->request);
		if (now == seen) {
			wait_while(&page->request, now, 0);
			continue;
		}
		seen = now;
		page->pidfd = -1;
		page->pid = room_clone(&page->spec, &page->pidfd);
		atomic_store(&page->reply, now);
		wake(&page->reply);
	}
}

int keeper_start(struct keeper *keeper, int net)
{
	*keeper = (struct keeper){0};
	struct keeper_page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return -errno;
	page->parent = getpid();
	/* exit_signal: what the zygotes' will be too, clone(2) on CLONE_PARENT. */
	struct clone_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
	pid_t pid = sys_clone3(&args);
	if (pid == 0)
		keep(page, net);
	if (pid < 0) {
		(void)munmap(page, sizeof(*page));
		return pid;
	}
	keeper->pid = pid;
	keeper->page = page;
	return 0;
}

pid_t keeper_clone(struct keeper *keeper, const struct room_spec *spec, int *ret_pidfd)
{
	struct keeper_page *page = keeper->page;
	if (keeper->pid <= 0)
		return -ESRCH;
	page->spec = *spec;
	page->spec.sibling = true;
	uint32_t mine = atomic_fetch_add(&page->request, 1) + 1;
	wake(&page->request);
	uint64_t until = now_ns() + PATIENCE_NS;
	for (;;) {
		uint32_t reply = atomic_load(&page->reply);
		uint64_t now = now_ns();
		if (reply == mine) {
			if (page->pid > 0)
				*ret_pidfd = page->pidfd;
			return page->pid;
		}
		if (now >= until)
			return -ETIMEDOUT; /* dead, or starved: the slot gets another keeper */
		wait_while(&page->reply, reply, until - now);
	}
}

void keeper_stop(struct keeper *keeper)
{
	if (keeper->pid > 0) {
		(void)kill(keeper->pid, SIGKILL);
		(void)waitpid(keeper->pid, NULL, 0);
	}
	if (keeper->page)
		(void)munmap(keeper->page, sizeof(*keeper->page));
	*keeper = (struct keeper){0};
}
