/*
 * Tries: sockets of every family and type (AF_VSOCK, AF_ALG, AF_PACKET, AF_XDP, AF_RDS, AF_TIPC, AF_BLUETOOTH, AF_CAN, AF_KEY … ), with bits
 * above the 32 that the kernel takes; raw ones; netlink of every protocol (audit, kobject events, socket diagnosis, netfilter); pairs.
 * Must: give AF_UNIX, TCP, UDP and NETLINK_ROUTE, where the policy has sockets; all else is refused before the kernel looks for a module:
 * EAFNOSUPPORT, or the job ends by violation.
 * Stopped by: the policies' rules on family, type and protocol; raw ones by CAP_NET_RAW as well.
 * Without it: (policies and fixed filter that allow everything) "BROKEN: family 16, type 2, protocol 2" and on, "sockets of family
 * 40"; 72 in all; (all types and protocols of AF_INET allowed, as once) "BROKEN: 226 questions to the kernel about protocols of family
 * 2", for which a VM's kernel ran modprobe for 100 s.
 */
// expect judge: violation socket
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "reach.h"

static const unsigned long highs[] = {0, 0x100000000UL, 0xdead000000000000UL};

static bool allowed(int family, int type, int protocol)
{
	if (family == AF_NETLINK)
		return protocol == 0 && (type == SOCK_RAW || type == SOCK_DGRAM);
	if (family == AF_UNIX)
		return true;
	/* No others of these two: SCTP, DCCP, L2TP and what is not there are looked for by running modprobe, as root. */
	return (family == AF_INET || family == AF_INET6) &&
		((type == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) || (type == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP)));
}

static void family_of(int family, unsigned long high)
{
	int got = 0, asked = 0;
	/* What the high bits do to the family does not depend on the rest. */
	for (int type = 1; type <= (high ? 3 : 10); type++)
		for (int protocol = 0; protocol <= (high ? 1 : 22); protocol++) {
			int fd = (int)syscall(SYS_socket, high | (unsigned)family, type | SOCK_CLOEXEC, protocol);
			if (fd < 0 && family != AF_NETLINK && !allowed(family, type, protocol) && errno != EAFNOSUPPORT)
				asked++; /* the kernel, for a module, rather than the policy */
			if (fd < 0)
				continue;
			if (!allowed(family, type, protocol)) {
				broken("family %d, type %d, protocol %d", family, type, protocol);
				got++;
			}
			(void)close(fd);
		}
	must(got == 0, "sockets of family %d", family);
	must(asked == 0, "%d questions to the kernel about protocols of family %d", asked, family);
	int pair[2];
	if (family != AF_UNIX)
		must_fail_as("a pair", syscall(SYS_socketpair, high | (unsigned)family, SOCK_STREAM, 0, pair));
}

int main(void)
{
	/* The families that judge refuses mildly come first, so that under it more than one is tried. */
	must(socket(AF_UNIX, SOCK_STREAM, 0) < 64, "AF_UNIX");
	for (size_t i = 0; i < sizeof(highs) / sizeof(highs[0]); i++)
		for (int family = 0; family <= 46; family++)
			family_of(family, highs[i]);
	static const int far[] = {47, 255, 65535, 0x7fffffff, -1};
	for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++)
		family_of(far[i], 0);
	return finish();
}
