/*
 * petri top: all workers of a queue, and what waits, live. It asks Redis once a second, for the heartbeats and the streams; no worker
 * takes part. On a terminal it draws with plain ANSI sequences on the alternate screen; elsewhere it prints one snapshot.
 *
 * Whatever comes from Redis is printable ASCII by the time it is drawn (queue_admin.c), and lines are cut to the screen's width.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "executor/cli.h"
#include "executor/queue_admin.h"
#include "executor/queue_show.h"
#include "executor/redis_options.h"

#define REFRESH_MS 1000
#define ANSWER_MS 200 /* for a worker to write its heartbeat */

/* For the signal handler, which has no other way to know. */
static struct termios saved;
static volatile sig_atomic_t raw, keys; /* the screen is ours; the keyboard is, too */

static const char enter[] = "\033[?1049h\033[?25l", leave[] = "\033[?25h\033[?1049l";

static void restore(void)
{
	if (!raw)
		return;
	raw = 0;
	(void)!write(STDOUT_FILENO, leave, sizeof(leave) - 1);
	if (keys)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}

/* Async-signal-safe; at once, for the main program may be waiting for a Redis that does not answer. */
static void on_end(int sig)
{
	restore();
	_exit(128 + sig);
}

static void on_resize(int sig)
{
	(void)sig; /* poll(2) returns, and the screen is drawn anew */
}

static void take_terminal(void)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction end = {.sa_handler = on_end}, resize = {.sa_handler = on_resize};
	keys = tcgetattr(STDIN_FILENO, &saved) == 0;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		(void)sigaction(ends[i], &end, NULL);
	(void)sigaction(SIGWINCH, &resize, NULL);
	raw = 1;
	if (keys) {
		struct termios mine = saved;
		mine.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		mine.c_cc[VMIN] = 1;
		mine.c_cc[VTIME] = 0;
		mine.c_cc[VSUSP] = _POSIX_VDISABLE; /* a stopped program would leave the terminal like this */
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &mine);
	}
	(void)fd_write_all(STDOUT_FILENO, enter, sizeof(enter) - 1);
}

/* ---- one screen ---- */

static void print(FILE *f, json_t *look)
{
	char clock[32] = "";
	time_t now = (time_t)(json_integer_value(json_object_get(look, "now_ms")) / 1000);
	struct tm tm;
	if (gmtime_r(&now, &tm))
		(void)strftime(clock, sizeof(clock), "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)fprintf(f, "petri top   %s\n", clock);
	queue_show_total(f, look);
	(void)fputc('\n', f);
	queue_show_workers(f, look);
	(void)fputc('\n', f);
	queue_show_streams(f, look);
}

/* The text cut to the screen: every line to its width, and no more lines than it has, less one for `foot`. */
static char *fit(const char *text, const char *foot, const struct winsize *size, size_t *ret_len)
{
	char *out = NULL;
	FILE *f = open_memstream(&out, ret_len);
	unsigned row = 1;
	if (!f)
		return NULL;
	for (; *text && row < size->ws_row; row++) {
		size_t len = strcspn(text, "\n");
		(void)fprintf(f, "\033[%u;1H%.*s\033[K", row, (int)MIN(len, (size_t)size->ws_col), text);
		text += len + (text[len] == '\n');
	}
	(void)fprintf(f, "\033[%u;1H%.*s\033[K\033[J", row, (int)size->ws_col, *text ? "there is more than the screen holds" : foot);
	return fclose(f) == 0 ? out : NULL;
}

static void draw(const char *text, const char *foot)
{
	struct winsize size = {0};
	size_t len = 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
		size = (struct winsize){.ws_row = 24, .ws_col = 80};
	_cleanup_free_ char *screen = fit(text, foot, &size, &len);
	if (screen)
		(void)fd_write_all(STDOUT_FILENO, screen, len);
}

static char *snapshot(json_t *look)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	print(f, look);
	return fclose(f) == 0 ? text : NULL;
}

/* A message may quote what a server said. */
static void printable(char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}

/* ---- live ---- */

/* Return: false when the user wants to go. */
static bool wait_for_key(uint64_t until_us)
{
	struct pollfd p = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
	uint64_t now = now_us();
	char typed[32];
	int r = poll(&p, 1, until_us > now ? (int)((until_us - now + 999) / 1000) : 0);
	if (r <= 0 || !(p.revents & (POLLIN | POLLHUP | POLLERR)))
		return true;
	ssize_t n = read(STDIN_FILENO, typed, sizeof(typed));
	if (n <= 0)
		return false; /* nobody is there any more */
	return !memchr(typed, 'q', (size_t)n) && !memchr(typed, 'Q', (size_t)n);
}

static void live(struct queue_admin *admin)
{
	_cleanup_free_ char *text = NULL;
	char foot[ERR_MSG_MAX + 32] = "";
	uint64_t next = 0;
	take_terminal();
	do {
		if (now_us() >= next) {
			struct err err = ERR_INIT;
			json_t *look = NULL;
			next = now_us() + REFRESH_MS * 1000;
			/* What this one shows was asked for by the last; an account that may not publish sees older figures. */
			if (queue_admin_look(admin, &look, &err) == 0) {
				(void)queue_admin_wake(admin, NULL);
				free(text);
				text = snapshot(look);
				json_decref(look);
				(void)snprintf(foot, sizeof(foot), "q quits");
			} else {
				(void)snprintf(foot, sizeof(foot), "no news: %s", err_msg(&err));
				printable(foot);
			}
		}
		draw(text ? text : "", foot);
	} while (wait_for_key(next));
	restore();
}

static int once(struct queue_admin *admin, bool json)
{
	struct err err = ERR_INIT;
	json_t *look = NULL;
	if (queue_admin_wake(admin, NULL) == 0)
		(void)poll(NULL, 0, ANSWER_MS);
	if (queue_admin_look(admin, &look, &err) < 0) {
		log_error("%s", err_msg(&err));
		return 1;
	}
	_cleanup_free_ char *text = json ? json_dumps(look, JSON_INDENT(2) | JSON_ENSURE_ASCII) : snapshot(look);
	(void)printf("%s%s", text ? text : "", json ? "\n" : "");
	json_decref(look);
	return text ? 0 : 1;
}

struct top_options {
	struct redis_options redis;
	bool once, json;
};

static const struct option options[] = {
	{.name = "once", .kind = OPTION_SWITCH, OPTION_AT(struct top_options, once), .help = "print one snapshot, as it does anyway where the output is no terminal"},
	{.name = "json", .kind = OPTION_SWITCH, OPTION_AT(struct top_options, json), .help = "print one snapshot as JSON"},
	REDIS_OPTIONS(struct top_options, redis),
	{0},
};

static const struct exit_code codes[] = {
	{"0", "done"},
	{"1", "Redis failed"},
	{"125", "the command line is wrong"},
	{0},
};

const struct verb top_verb = {
	.name = "top",
	.summary = "all workers of a queue, live",
	.fn = cmd_top,
	.forms = (const char *const[]){"[OPTIONS]", NULL},
	.about = "Shows all workers of a queue and what waits in it, every second; q quits.",
	.options = options,
	.codes = codes,
};

int cmd_top(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct top_options o = {0};
	struct redis_url url;
	struct queue_admin *admin = NULL;
	char **words;
	int code = 0;
	if (!verb_parse(&top_verb, &o, argc, argv, &words, &code))
		return code;
	int r = redis_options_ready(&o.redis, &url, &err);
	r = r < 0 ? r : queue_admin_open(&url, o.redis.prefix, &admin, &err);
	if (r < 0) {
		log_error("%s", err_msg(&err));
		return r == -EINVAL ? EXIT_USAGE : 1;
	}
	code = 0;
	if (o.once || o.json || !isatty(STDOUT_FILENO))
		code = once(admin, o.json);
	else
		live(admin);
	queue_admin_free(admin);
	return code;
}
