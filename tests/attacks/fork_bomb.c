/*
 * Tries: a fork bomb: every process forks until it cannot any more, and stays.
 * Must: never be more processes than --pids, and all of them be gone with the first.
 * Stopped by: pids.max of the job's cgroup; at the end cgroup.kill of its leaf.
 * Without it: (pids.max not written)
 */
// flags: --pids 16
#include <signal.h>
#include <stdatomic.h>

#include "attack.h"

#define MOST 16
#define ENOUGH 200 /* so that the machine survives the test of the test */

struct tally {
	atomic_int alive, peak, refused;
};

static void bomb(struct tally *tally)
{
	for (;;) {
		if (atomic_load(&tally->alive) >= ENOUGH)
			pause();
		pid_t pid = fork();
		if (pid < 0) {
			atomic_fetch_add(&tally->refused, 1);
			usleep(1000);
			continue;
		}
		if (pid == 0) {
			int alive = atomic_fetch_add(&tally->alive, 1) + 1, peak = atomic_load(&tally->peak);
			while (alive > peak && !atomic_compare_exchange_weak(&tally->peak, &peak, alive))
				;
		}
	}
}

int main(void)
{
	struct tally *tally = (struct tally *)mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED)
		return 98;
	tally->alive = tally->peak = 1;
	if (fork() == 0) {
		atomic_fetch_add(&tally->alive, 1);
		bomb(tally);
	}
	usleep(200000);
	must(tally->peak <= MOST, "%d processes at once, of %d", tally->peak, MOST);
	must(tally->refused > 0, "%d forks refused", tally->refused);
	return finish();
}
