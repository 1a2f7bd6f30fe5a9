/*
 * What systemd is told of the service, sd_notify(3), spoken without its library: one datagram to the socket that NOTIFY_SOCKET names.
 * Of the supervisor; children must not speak for it, so the variables go out of the environment.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
	int fd; /* -1: nobody wants to know */
	struct sockaddr_un address;
	socklen_t address_len;
	uint64_t watchdog_us; /* 0: no watchdog, or another process's */
};

/* notify_open - from NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which are unset. Nothing there, or nothing sensible: fd is -1. */
void notify_open(struct notify *ret);
/* notify_send - "READY=1", several lines in one. Never waits; a failure is logged. */
void notify_send(const struct notify *notify, const char *text);
void notify_close(struct notify *notify);
