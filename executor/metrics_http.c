/*
 * Metrics and health over HTTP. Process: the worker, in a thread of its own; the loop knows of it only a copy of its figures that
 * it leaves under a mutex, which it never waits for.
 *
 * A thread rather than a file descriptor in the loop: parsing and answering what strangers send takes time that the deadlines of
 * running jobs must not lose, and only from outside of the loop can be told that it does not turn. The thread is started after the
 * privileges are gone, has every signal blocked, gives way to the loop (nice), and touches nothing of the worker's but the copy.
 *
 * libmicrohttpd only speaks HTTP here. The thread waits itself, so that it can also end connections by their age: the library's own
 * time limit begins anew with each byte that comes. Everything is bounded: connections, their age, their memory; a body is
 * refused, and after an answer the connection ends. The text is made once for each copy, however many ask for it.
 */
#include "executor/metrics_http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/sys.h"
#include "executor/metrics_host.h"

#define CONNECTIONS_MAX 32
#define CONNECTION_AGE_US 3000000u
#define CONNECTION_MEMORY 8192 /* for one request's line and headers */
#define NICE 10
#define TICK_MS 1000

struct connection {
	int fd; /* -1: free */
	uint64_t since_us;
};

struct metrics_server {
	struct MHD_Daemon *daemon;
	int listener, stop, epoll;
	pthread_t thread;
	/* The loop writes it, the thread reads it. */
	pthread_mutex_t lock;
	struct metrics published;
	atomic_bool asked;
	/* The thread's own. */
	struct metrics shown;
	struct MHD_Response *text;
	uint64_t text_at_us;
	struct connection connections[CONNECTIONS_MAX];
};

/* ---- where to listen ---- */

struct place {
	struct sockaddr_storage addr;
	socklen_t len;
};

static int bad_place(const char *where, struct err *err)
{
	return err_say(err, EINVAL, "metrics: '%.80s' is no place to listen at: off, on (" METRICS_DEFAULT "), PORT, ADDRESS:PORT or [ADDRESS]:PORT", where);
}

static int parse_place(const char *where, struct place *ret, struct err *err)
{
	char host[64] = "127.0.0.1";
	uint64_t port;
	if (strcmp(where, "off") == 0)
		return 1;
	if (strcmp(where, "on") == 0)
		where = METRICS_DEFAULT;
	const char *colon = strrchr(where, ':'), *digits = colon ? colon + 1 : where;
	if (colon) {
		bool brackets = where[0] == '[' && colon > where + 1 && colon[-1] == ']';
		size_t n = brackets ? (size_t)(colon - where) - 2 : (size_t)(colon - where);
		if (n == 0 || n >= sizeof(host) || (!brackets && memchr(where, ':', n)))
			return bad_place(where, err);
		memcpy(host, where + (brackets ? 1 : 0), n);
		host[n] = '\0';
	}
	if (parse_u64(digits, &port, NULL) < 0 || port < 1 || port > 65535)
		return bad_place(where, err);
	struct sockaddr_in *v4 = (struct sockaddr_in *)&ret->addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret->addr;
	memset(&ret->addr, 0, sizeof(ret->addr));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		ret->len = sizeof(*v4);
	} else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		ret->len = sizeof(*v6);
	} else {
		return bad_place(where, err);
	}
	return 0;
}

int metrics_server_check(const char *where, struct err *err)
{
	struct place place;
	return parse_place(where, &place, err);
}

static int listen_at(const char *where, const struct place *place, struct err *err)
{
	const int yes = 1;
	_cleanup_close_ int fd = socket(place->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "metrics: socket");
	/* Its predecessor's connections must not keep a restarted worker from its port. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (place->addr.ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes));
	if (bind(fd, (const struct sockaddr *)&place->addr, place->len) < 0 || listen(fd, CONNECTIONS_MAX) < 0)
		return err_set(err, errno, "metrics: cannot listen at %.80s (each worker of a host needs a port of its own, of 1024 or more)", where);
	return TAKE_FD(fd);
}

/* ---- requests, in the thread ---- */

static void take_picture(struct metrics_server *s)
{
	(void)pthread_mutex_lock(&s->lock);
	s->shown = s->published;
	(void)pthread_mutex_unlock(&s->lock);
}

static struct MHD_Response *make_response(char *text, enum MHD_ResponseMemoryMode mode, const char *type)
{
	struct MHD_Response *response = text ? MHD_create_response_from_buffer(strlen(text), text, mode) : NULL;
	if (!response) {
		if (mode == MHD_RESPMEM_MUST_FREE)
			free(text);
		return NULL;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	(void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	return response;
}

static enum MHD_Result say(struct MHD_Connection *connection, unsigned code, const char *fmt, const char *what)
{
	char text[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void)snprintf(text, sizeof(text), fmt, what);
#pragma GCC diagnostic pop
	struct MHD_Response *response = make_response(text, MHD_RESPMEM_MUST_COPY, "text/plain; charset=utf-8");
	if (!response)
		return MHD_NO;
	if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	enum MHD_Result r = MHD_queue_response(connection, code, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result show_metrics(struct metrics_server *s, struct MHD_Connection *connection)
{
	atomic_store(&s->asked, true);
	take_picture(s);
	if (!s->text || s->text_at_us != s->shown.at_us) {
		if (s->text)
			MHD_destroy_response(s->text); /* connections that still send it hold it as well */
		s->text = make_response(metrics_text(&s->shown, metrics_host_dying(s->shown.cgroup), metrics_host_memory_cgroups()),
			MHD_RESPMEM_MUST_FREE, "text/plain; version=0.0.4; charset=utf-8");
		s->text_at_us = s->shown.at_us;
	}
	return s->text ? MHD_queue_response(connection, MHD_HTTP_OK, s->text) : MHD_NO;
}

static enum MHD_Result show_health(struct metrics_server *s, struct MHD_Connection *connection)
{
	take_picture(s);
	const char *why = metrics_health(&s->shown, now_us());
	if (why)
		return say(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "%s\n", why);
	return say(connection, MHD_HTTP_OK, "ok%s\n", s->shown.stopping ? ", and stopping" : "");
}

static bool has_body(struct MHD_Connection *connection)
{
	const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING) ||
		(length && strcmp(length, "0") != 0);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url, const char *method,
	const char *version, const char *upload, size_t *upload_len, void **state)
{
	struct metrics_server *s = ctx;
	(void)version;
	(void)upload;
	(void)upload_len;
	(void)state;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "%s\n", "only GET and HEAD");
	if (has_body(connection))
		return say(connection, MHD_HTTP_CONTENT_TOO_LARGE, "%s\n", "no body is wanted");
	if (strcmp(url, "/metrics") == 0)
		return show_metrics(s, connection);
	if (strcmp(url, "/healthz") == 0)
		return show_health(s, connection);
	return say(connection, MHD_HTTP_NOT_FOUND, "%s\n", "there are /metrics and /healthz");
}

/* ---- connections, in the thread ---- */

static void on_connection(void *ctx, struct MHD_Connection *connection, void **state, enum MHD_ConnectionNotificationCode code)
{
	struct metrics_server *s = ctx;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) { /* before the fd is closed */
		if (*state)
			((struct connection *)*state)->fd = -1;
		return;
	}
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	for (size_t i = 0; info && i < CONNECTIONS_MAX; i++) {
		if (s->connections[i].fd >= 0)
			continue;
		s->connections[i] = (struct connection){info->connect_fd, now_us()};
		*state = &s->connections[i];
		return;
	}
}

/* The library sees the end of it and cleans up. */
static void end_old_connections(struct metrics_server *s)
{
	uint64_t now = now_us();
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (s->connections[i].fd >= 0 && now - s->connections[i].since_us > CONNECTION_AGE_US)
			(void)shutdown(s->connections[i].fd, SHUT_RDWR);
}

static void on_complaint(void *ctx, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_complaint(void *ctx, const char *fmt, va_list ap)
{
	char text[256];
	(void)ctx;
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	log_debug("metrics: %s", text);
}

static void *serve(void *ctx)
{
	struct metrics_server *s = ctx;
	(void)pthread_setname_np(pthread_self(), "petri-metrics");
	(void)setpriority(PRIO_PROCESS, 0, NICE); /* this thread's, which has its own: setpriority(2) */
	for (;;) {
		struct pollfd p[2] = {{.fd = s->epoll, .events = POLLIN}, {.fd = s->stop, .events = POLLIN}};
		MHD_UNSIGNED_LONG_LONG due = TICK_MS;
		if (MHD_get_timeout(s->daemon, &due) != MHD_YES || due > TICK_MS)
			due = TICK_MS;
		if (poll(p, 2, (int)due) < 0 && errno != EINTR)
			return NULL;
		if (p[1].revents)
			return NULL;
		end_old_connections(s);
		(void)MHD_run(s->daemon);
	}
}

/* ---- life ---- */

static int start_daemon(struct metrics_server *s, struct err *err)
{
	/* External: no thread of the library's. The connections that wait for an accept(2) cost nothing here. */
	s->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, s,
		MHD_OPTION_EXTERNAL_LOGGER, on_complaint, NULL,
		MHD_OPTION_LISTEN_SOCKET, s->listener,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(CONNECTION_AGE_US / 1000000),
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
		MHD_OPTION_END);
	if (!s->daemon)
		return err_say(err, EIO, "metrics: libmicrohttpd does not start; PETRI_LOG=debug says more");
	s->listener = -1; /* the daemon's now */
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	s->epoll = info ? info->epoll_fd : -1;
	s->stop = eventfd(0, EFD_CLOEXEC);
	if (s->epoll < 0 || s->stop < 0)
		return err_set(err, errno, "metrics: eventfd");
	/* Signals are the loop's, which reads them from a signalfd. */
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGSYS); /* of the worker's filter, in place of a call */
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&s->thread, NULL, serve, s);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r ? err_set(err, r, "metrics: start a thread") : 0;
}

static void release(struct metrics_server *s)
{
	if (s->daemon)
		MHD_stop_daemon(s->daemon);
	if (s->text)
		MHD_destroy_response(s->text);
	cleanup_close(&s->listener);
	cleanup_close(&s->stop);
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}

int metrics_server_start(const char *where, struct metrics_server **ret, struct err *err)
{
	struct place place;
	*ret = NULL;
	int r = parse_place(where, &place, err);
	if (r != 0)
		return r > 0 ? 0 : r;
	struct metrics_server *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, ENOMEM, "metrics");
	s->stop = s->epoll = -1;
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		s->connections[i].fd = -1;
	(void)pthread_mutex_init(&s->lock, NULL);
	s->listener = listen_at(where, &place, err);
	r = s->listener < 0 ? s->listener : start_daemon(s, err);
	if (r < 0) {
		release(s);
		return r;
	}
	*ret = s;
	return 0;
}

void metrics_server_stop(struct metrics_server *s)
{
	if (!s)
		return;
	(void)eventfd_write(s->stop, 1);
	(void)pthread_join(s->thread, NULL);
	release(s);
}

void metrics_server_publish(struct metrics_server *s, const struct metrics *metrics)
{
	if (pthread_mutex_trylock(&s->lock) != 0)
		return;
	s->published = *metrics;
	(void)pthread_mutex_unlock(&s->lock);
}

bool metrics_server_asked(struct metrics_server *s)
{
	return atomic_exchange(&s->asked, false);
}
