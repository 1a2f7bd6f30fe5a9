/*
 * Tries: to change the network of its namespace, or to learn of others': links, addresses, routes, rules and namespaces by NETLINK_ROUTE,
 * the loopback's flags, netfilter's tables, privileged socket options, a socket bound to a device, IP options; and which other
 * namespaces and sockets can be seen.
 * Must: be refused with EPERM; only lo is seen, and no socket but its own.
 * Stopped by: the network namespace belongs to the slot's user namespace, in which the job has no capability; judge has no sockets.
 * Without it: (no network namespaces) "BROKEN: interfaces: 4", "/proc/net/tcp has 54 lines"; (capabilities kept) "BROKEN:
 * RTM_SETLINK: Success".
 */
// expect judge: violation socket
#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "reach.h"

#ifndef SO_RCVBUFFORCE
#define SO_RCVBUFFORCE 33
#endif

/* Return: the error of the acknowledgement. */
static int ask(int fd, unsigned short type, const void *body, size_t len)
{
	struct {
		struct nlmsghdr header;
		char body[128];
	} request = {{.nlmsg_len = (unsigned)(NLMSG_HDRLEN + len), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL}, {0}};
	memcpy(request.body, body, len);
	char reply[8192];
	if (send(fd, &request, request.header.nlmsg_len, 0) < 0)
		return errno;
	long n = recv(fd, reply, sizeof(reply), 0);
	const struct nlmsghdr *header = (const struct nlmsghdr *)(const void *)reply;
	if (n < (long)sizeof(*header) || header->nlmsg_type != NLMSG_ERROR)
		return 0;
	return -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
}

static void changes(int fd)
{
	static const struct {
		const char *name;
		unsigned short type;
	} requests[] = {{"RTM_NEWLINK", RTM_NEWLINK}, {"RTM_DELLINK", RTM_DELLINK}, {"RTM_SETLINK", RTM_SETLINK}, {"RTM_NEWADDR", RTM_NEWADDR}, {"RTM_DELADDR", RTM_DELADDR},
		{"RTM_NEWROUTE", RTM_NEWROUTE}, {"RTM_DELROUTE", RTM_DELROUTE}, {"RTM_NEWNEIGH", RTM_NEWNEIGH}, {"RTM_NEWRULE", RTM_NEWRULE}, {"RTM_NEWQDISC", RTM_NEWQDISC},
		{"RTM_NEWTFILTER", RTM_NEWTFILTER}, {"RTM_NEWNSID", RTM_NEWNSID}, {"RTM_SETDCB", RTM_SETDCB}, {"RTM_NEWNETCONF", RTM_NEWNETCONF}, {"RTM_NEWNEXTHOP", RTM_NEWNEXTHOP}};
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		struct ifinfomsg body = {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
		int error = ask(fd, requests[i].type, &body, sizeof(body));
		must(error == EPERM || error == EOPNOTSUPP, "%s: %s", requests[i].name, strerror(error));
	}
}

static void options(void)
{
	int udp = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
	if (udp < 0)
		broken("no datagram socket");
	static const int forced[] = {SO_DEBUG, SO_MARK, SO_RCVBUFFORCE, SO_RCVBUFFORCE - 1};
	for (size_t i = 0; i < sizeof(forced) / sizeof(forced[0]); i++)
		must_fail_as("a privileged option", setsockopt(udp, SOL_SOCKET, forced[i], &on, sizeof(on)), EPERM, EACCES);
	must_fail(setsockopt(udp, IPPROTO_IP, 19 /* IP_TRANSPARENT */, &on, sizeof(on)), EPERM);
	for (int option = 64; option <= 67; option++) { /* IPT_SO_* and their like of IPv4 */
		char buffer[256] = {0};
		socklen_t len = sizeof(buffer);
		must_fail_as("netfilter's tables", setsockopt(udp, IPPROTO_IP, option, buffer, len), EPERM, ENOPROTOOPT);
		must_fail_as("netfilter's tables", getsockopt(udp, IPPROTO_IP, option, buffer, &len), EPERM, ENOPROTOOPT);
	}
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	must_fail(ioctl(udp, SIOCSIFFLAGS, &lo), EPERM);
	must_fail(ioctl(udp, SIOCSIFMTU, &lo), EPERM);
	must_fail(ioctl(udp, SIOCSIFNAME, &lo), EPERM);
	must_fail(ioctl(udp, SIOCADDRT, &lo), EPERM);
	must_fail(ioctl(udp, SIOCSARP, &lo), EPERM);
	must_fail(ioctl(udp, 0x8946 /* SIOCETHTOOL */, &lo));
	(void)close(udp);
}

static void seen(void)
{
	char text[8192];
	int lines = 0;
	(void)read_text("/proc/net/dev", text, sizeof(text));
	for (char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	must(lines == 3 && strstr(text, "lo:"), "interfaces: %d", lines - 2);
	static const char *const names[] = {"/proc/net/tcp", "/proc/net/udp", "/proc/net/unix", "/proc/net/packet", "/proc/net/raw",
		"/proc/net/route", "/proc/net/netlink"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (read_text(names[i], text, sizeof(text)) < 0)
			continue;
		lines = 0;
		for (char *p = text; (p = strchr(p, '\n')); p++)
			lines++;
		/* The kernel has a netlink socket of its own for each protocol. */
		must(lines <= (strstr(names[i], "netlink") ? 40 : 1), "%s has %d lines", names[i], lines);
		must(!strstr(text, "petri") && !strstr(text, "redis") && !strstr(text, "systemd"), "%s names nobody", names[i]);
	}
}

/* A pair is all that judge has: its ioctls reach the namespace's interfaces too. */
static void by_pair(void)
{
	static const struct {
		const char *name;
		unsigned long request;
	} requests[] = {{"SIOCSIFFLAGS", SIOCSIFFLAGS}, {"SIOCSIFNAME", SIOCSIFNAME}, {"SIOCSIFMTU", SIOCSIFMTU}, {"SIOCSIFTXQLEN", SIOCSIFTXQLEN},
		{"SIOCSIFHWADDR", SIOCSIFHWADDR}, {"SIOCBRADDBR", 0x89a0}, {"SIOCGSKNS", 0x894c}, {"SIOCUNIXFILE", 0x89e0}, {"SIOCADDRT", SIOCADDRT}};
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		broken("no pair: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
		must_fail_as(requests[i].name, ioctl(pair[0], requests[i].request, &lo));
	}
	struct ifreq flags = {.ifr_name = "lo"};
	must(ioctl(pair[0], SIOCGIFFLAGS, &flags) < 0 || !(flags.ifr_flags & IFF_UP), "lo is still down");
}

int main(void)
{
	seen();
	by_pair();
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		(void)socket(AF_PACKET, SOCK_RAW, 0);
	changes(fd);
	int all = 1;
	must_fail_as("listening to all namespaces", setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &all, sizeof(all)), EPERM);
	(void)close(fd);
	options();
	return finish();
}
