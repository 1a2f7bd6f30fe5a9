/*
 * Tries: to talk to what listens on the host: every port below 256 and those of databases on 127.0.0.1, ::1 and addresses of bridges
 * and clouds' metadata, by TCP and datagrams; socket files of daemons; abstract names of daemons and of petri.
 * Must: reach nothing.
 * Stopped by: a network namespace with nothing in it (which abstract names belong to as well) and a root without the host's /run;
 * judge has no sockets.
 * Without it: (no network namespaces) "BROKEN: 127.0.0.1: 564 ports".
 */
// expect judge: violation socket
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "reach.h"

#define COMMON 256

static void addresses(void)
{
	static const char *const hosts[] = {"127.0.0.1", "127.0.0.53", "10.0.2.2", "172.17.0.1", "169.254.169.254", "192.168.0.1",
		"8.8.8.8", "255.255.255.255", "224.0.0.1"};
	static const unsigned short more[] = {389, 443, 445, 514, 554, 631, 636, 873, 993, 1433, 1521, 2049, 2375, 2376, 3306, 5000, 5432, 6379, 6380, 8080, 8443, 9090, 9100, 9125, 10250, 11211, 27017};
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		int reached = 0;
		for (unsigned port = 1; port < COMMON + sizeof(more) / sizeof(more[0]); port++) {
			struct sockaddr_in to = {.sin_family = AF_INET,
				.sin_port = htons(port < COMMON ? (unsigned short)port : more[port - COMMON])};
			(void)inet_pton(AF_INET, hosts[i], &to.sin_addr);
			int tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
			reached += connect(tcp, (const struct sockaddr *)&to,
					   sizeof(to)) == 0 ||
				errno == EINPROGRESS || errno == ECONNREFUSED;
			reached += sendto(udp, "x", 1, 0, (const struct sockaddr *)&to, sizeof(to)) >= 0;
			(void)close(tcp);
			(void)close(udp);
		}
		must(reached == 0, "%s: %d ports", hosts[i], reached);
	}
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(6379), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	must_fail_as("::1", connect(socket(AF_INET6, SOCK_STREAM, 0), (const struct sockaddr *)&six, sizeof(six)));
}

static void names(void)
{
	static const char *const paths[] = {"/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock",
		"/run/systemd/private", "/run/systemd/notify",
		"/run/systemd/journal/socket", "/run/dbus/system_bus_socket", "/run/redis/redis.sock", "/var/run/redis/redis-server.sock",
		"/run/petri/redis.sock", "/dev/log",
		"/run/udev/control", "/tmp/.X11-unix/X0", "/run/nscd/socket", "@/tmp/.X11-unix/X0", "@/org/freedesktop/systemd1/notify",
		"@/containerd-shim", "@petri", "@ISCSIADM_ABSTRACT_NAMESPACE",
		"@/tmp/dbus", "@/com/ubuntu/upstart", "@00001"};
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		for (size_t j = 0; j < 3; j++) {
			struct sockaddr_un to = {.sun_family = AF_UNIX};
			size_t len = strlen(paths[i]);
			memcpy(to.sun_path, paths[i], len);
			if (to.sun_path[0] == '@')
				to.sun_path[0] = '\0';
			int fd = socket(AF_UNIX, types[j], 0);
			must_fail_as(paths[i], connect(fd, (const struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)), ENOENT, ECONNREFUSED, EACCES);
			(void)close(fd);
		}
}

int main(void)
{
	int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(probe < 64, "a first socket");
	(void)close(probe);
	addresses();
	names();
	return finish();
}
