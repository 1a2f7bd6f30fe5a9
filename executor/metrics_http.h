/* The HTTP server for a worker's metrics and health. */
#pragma once

#include "base/err.h"
#include "executor/metrics.h"

#define METRICS_DEFAULT "127.0.0.1:9464"

struct metrics_server;

/*
 * metrics_server_check - is this a place to listen at? "off", "on" (METRICS_DEFAULT), "PORT" (on 127.0.0.1), "ADDRESS:PORT" or
 * "[ADDRESS]:PORT"; addresses only, no names. Return: 0, 1 for "off", or -EINVAL.
 */
int metrics_server_check(const char *where, struct err *err);

/*
 * metrics_server_start - listen, and answer in a thread of its own: GET and HEAD of /metrics and /healthz. To be called by the
 * unprivileged worker, after it blocked the signals that it reads. Return: 0 (*ret NULL for "off"), or -errno.
 */
int metrics_server_start(const char *where, struct metrics_server **ret, struct err *err);
/* metrics_server_stop - end the thread and close everything. */
void metrics_server_stop(struct metrics_server *server);

/* metrics_server_publish - what is shown from now on; copied. Never waits: when it would have to, nothing happens, and the next call
 * does it. */
void metrics_server_publish(struct metrics_server *server, const struct metrics *metrics);
/* metrics_server_asked - has anybody asked for /metrics since the last call? Then the next who asks wants to see the queue. */
bool metrics_server_asked(struct metrics_server *server);
