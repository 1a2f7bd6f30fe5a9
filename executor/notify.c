/* Speaking to systemd; see the header. */
#include "executor/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"

static uint64_t watchdog(void)
{
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t value = 0, owner = 0;
	if (pid && (parse_u64(pid, &owner, NULL) < 0 || owner != (uint64_t)getpid()))
		return 0;
	return us && parse_u64(us, &value, NULL) == 0 ? value : 0;
}

static void forget(void)
{
	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
}

void notify_open(struct notify *ret)
{
	const char *path = getenv("NOTIFY_SOCKET");
	*ret = (struct notify){.fd = -1, .address.sun_family = AF_UNIX};
	size_t len = path ? strlen(path) : 0;
	/* A path, or '@' and an abstract name; vsock is for virtual machines. */
	if (len > 1 && (path[0] == '/' || path[0] == '@') && len < sizeof(ret->address.sun_path)) {
		memcpy(ret->address.sun_path, path, len);
		if (path[0] == '@')
			ret->address.sun_path[0] = '\0';
		ret->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
		ret->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		ret->watchdog_us = watchdog();
	} else if (len > 0) {
		log_warn("NOTIFY_SOCKET is neither a path nor an abstract socket, ignoring");
	}
	forget();
}

void notify_send(const struct notify *notify, const char *text)
{
	if (notify->fd >= 0 && sendto(notify->fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&notify->address, notify->address_len) < 0)
		log_warn("cannot tell systemd '%s': %s, ignoring", text, strerror(errno));
}

void notify_beat(struct notify *notify, const char *beats, size_t n)
{
	bool ready = memchr(beats, BEAT_READY, n);
	if (ready && !notify->told_ready)
		notify_send(notify, "READY=1\nSTATUS=Slots are ready.");
	else if (ready && notify->told_trouble)
		notify_send(notify, "STATUS=Slots are ready.");
	notify->told_ready |= ready;
	notify->told_trouble &= !ready;
	if (notify->watchdog_us)
		notify_send(notify, "WATCHDOG=1");
}

void notify_trouble(struct notify *notify, const char *text)
{
	notify_send(notify, text);
	notify->told_trouble = true;
}

void notify_close(struct notify *notify)
{
	cleanup_close(&notify->fd);
}
