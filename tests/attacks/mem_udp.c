/*
 * Tries: memory in the receive buffers of UDP sockets on the job's own loopback, which no process reads.
 * Must: no more than --memory and half of it be held: what arrives is charged after the fact, and the next to be refused.
 * Stopped by: memory.max of the job's cgroup (memory.limit_in_bytes on cgroup v1), with the OOM killer, after which the leaf is
 *   killed.
 * Without it: the limit on network buffers (cgroup v1) not written: "BROKEN: 900 sockets held 460800 KiB".
 */
// flags: --memory 24M --wall 20s --open-files 1024 --network loopback
// expect: memory_limit | exited 0
// expect judge: violation socket
// usage: memory_mib <= 36
#include <netinet/in.h>
#include <sys/socket.h>

#include "attack.h"

#define MOST 96 /* MiB: four times the limit */
#define MIB (1 << 20)

static int sockets[300];

static int open_all(struct sockaddr_in *a, int sender)
{
	static char chunk[32768];
	int n = 0;
	for (; n < 300; n++) {
		socklen_t len = sizeof(*a);
		int s = sockets[n] = socket(AF_INET, SOCK_DGRAM, 0), size = 64 * MIB;
		a->sin_port = 0;
		if (s < 0 || bind(s, (struct sockaddr *)a, sizeof(*a)) < 0 || getsockname(s, (struct sockaddr *)a, &len) < 0)
			break;
		setsockopt(s, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		for (int i = 0; i < 16; i++)
			(void)sendto(sender, chunk, sizeof(chunk), 0, (struct sockaddr *)a, sizeof(*a));
	}
	return n;
}

int main(void)
{
	static char chunk[65536];
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int n = open_all(&a, socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	long kept = 0;
	for (int i = 0; i < n; i++)
		for (ssize_t got; (got = recv(sockets[i], chunk, sizeof(chunk), MSG_DONTWAIT)) > 0;)
			kept += got;
	must(n > 0 && kept > 0 && kept <= 24 * MIB, "%d sockets held %ld KiB", n, kept / 1024);
	return finish();
}
