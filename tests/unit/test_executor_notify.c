/*
 * What systemd is told of the worker's beats. The test is systemd.
 *
 * Taken out once: the look for BEAT_READY in notify_beat(): "READY=1" for a worker without a nursery.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "executor/notify.h"

static struct notify notify;
static int manager;
static char said[256];

static void set_up(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char name[64];
	int len = snprintf(name, sizeof(name), "@petri-unit-%d", (int)getpid());
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	memcpy(address.sun_path + 1, name + 1, (size_t)len - 1);
	cr_assert_eq(bind(manager, (const struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len)), 0);
	cr_assert(setenv("NOTIFY_SOCKET", name, 1) == 0 && setenv("WATCHDOG_USEC", "1000000", 1) == 0 && unsetenv("WATCHDOG_PID") == 0);
	notify_open(&notify);
	cr_assert(notify.fd >= 0 && notify.watchdog_us == 1000000);
}

static void tear_down(void)
{
	notify_close(&notify);
	close(manager);
}

TestSuite(notify, .init = set_up, .fini = tear_down, .timeout = 60);

/* The datagrams so far, with a '|' after each. */
static const char *heard(void)
{
	size_t len = 0;
	ssize_t n;
	while ((n = recv(manager, said + len, sizeof(said) - len - 2, 0)) > 0) {
		len += (size_t)n;
		said[len++] = '|';
	}
	said[len] = '\0';
	return said;
}

static const char *beat(const char *bytes)
{
	notify_beat(&notify, bytes, strlen(bytes));
	return heard();
}

Test(notify, ready_is_told_once)
{
	cr_assert_str_eq(beat("b"), "READY=1\nSTATUS=Slots are ready.|WATCHDOG=1|");
	cr_assert_str_eq(beat("bb"), "WATCHDOG=1|");
}

Test(notify, without_a_nursery_the_watchdog_is_fed_and_no_more)
{
	cr_assert_str_eq(beat("r"), "WATCHDOG=1|");
	cr_assert_str_eq(beat("rb"), "READY=1\nSTATUS=Slots are ready.|WATCHDOG=1|");
	notify_trouble(&notify, "STATUS=It died.");
	cr_assert_str_eq(heard(), "STATUS=It died.|");
	cr_assert_str_eq(beat("rr"), "WATCHDOG=1|");
	cr_assert_str_eq(beat("b"), "STATUS=Slots are ready.|WATCHDOG=1|");
	cr_assert_str_eq(beat("b"), "WATCHDOG=1|");
}
