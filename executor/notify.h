/*
 * What systemd is told of the service, sd_notify(3), spoken without its library: one datagram to the socket that NOTIFY_SOCKET names.
 * Of the supervisor; children must not speak for it, so the variables go out of the environment.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
	int fd; /* -1: nobody wants to know */
	struct sockaddr_un address;
	socklen_t address_len;
	uint64_t watchdog_us; /* 0: no watchdog, or another process's */
	bool told_ready, told_trouble;
};

/* What the worker says now and then, a byte each. */
enum beat {
	BEAT_READY = 'b',    /* worker and nursery are alive, and slots were made */
	BEAT_REVIVING = 'r', /* the worker is alive; its nursery has died, and another is to come */
};

/* notify_open - from NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which are unset. Nothing there, or nothing sensible: fd is -1. */
void notify_open(struct notify *ret);
/* notify_send - "READY=1", several lines in one. Never waits; a failure is logged. */
void notify_send(const struct notify *notify, const char *text);
/* notify_beat - what the worker said last, @n bytes of enum beat, more than 0: the watchdog is fed, and that slots are ready is told the first time, and
 * again after trouble. */
void notify_beat(struct notify *notify, const char *beats, size_t n);
/* notify_trouble - @text: "STATUS=…", which holds until a worker says that it is ready. */
void notify_trouble(struct notify *notify, const char *text);
void notify_close(struct notify *notify);
