/*
 * Tries: kernel memory: System V messages, as many queues as there may be.
 * Must: memory_limit, and no more than --memory ever used.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: memory limit not written: "BROKEN: 24576 messages of 4 KiB in 6144 queues".
 */
// flags: --memory 24M --wall 20s
// expect: memory_limit
// usage: memory_mib <= 24.5
#include <sys/ipc.h>
#include <sys/msg.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

int main(void)
{
	struct {
		long type;
		char text[4096];
	} message = {.type = 1};
	int queues = 0, messages = 0;
	for (; queues < 16000 && messages < MOST * 256; queues++) {
		int id = msgget(IPC_PRIVATE, 0600);
		if (id < 0)
			break;
		while (msgsnd(id, &message, sizeof(message.text), IPC_NOWAIT) == 0)
			messages++;
	}
	broken("%d messages of 4 KiB in %d queues", messages, queues);
	return finish();
}
