/* Tables of `petri queue` and `petri top`; see the header. */
#include "executor/queue_show.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long long get(json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

static const char *word(json_t *o, const char *name)
{
	const char *text = json_string_value(json_object_get(o, name));
	return text ? text : "";
}

static const char *duration(long long ms, char buf[32])
{
	if (ms <= 0)
		(void)snprintf(buf, 32, "-");
	else if (ms < 10000)
		(void)snprintf(buf, 32, "%lld.%lld s", ms / 1000, ms / 100 % 10);
	else if (ms < 600000)
		(void)snprintf(buf, 32, "%lld s", ms / 1000);
	else if (ms < 36000000)
		(void)snprintf(buf, 32, "%lld min", ms / 60000);
	else
		(void)snprintf(buf, 32, "%lld h", ms / 3600000);
	return buf;
}

static void percent(long long part, long long whole, char buf[32])
{
	if (whole <= 0)
		(void)snprintf(buf, 32, "-");
	else
		(void)snprintf(buf, 32, "%lld %%", part * 100 / whole);
}

void queue_show_total(FILE *f, json_t *look)
{
	static const char *const names[] = {"slots", "busy", "ready", "stamping", "retired", "done_per_min", "done", "placed", "warm", "held"};
	enum {
		SLOTS,
		BUSY,
		READY,
		STAMPING,
		RETIRED,
		RATE,
		DONE,
		PLACED,
		WARM,
		HELD,
		ALL
	};
	long long sum[ALL] = {0};
	json_t *workers = json_object_get(look, "workers"), *w;
	char warm[32], oldest[32];
	size_t i;
	json_array_foreach(workers, i, w)
	{
		for (size_t k = 0; k < ALL; k++)
			sum[k] += get(w, names[k]);
	}
	percent(sum[WARM], sum[PLACED], warm);
	(void)fprintf(f, "workers %zu   jobs/s %lld.%lld   done %lld   warm %s   held back %lld\n", json_array_size(workers), sum[RATE] / 60,
		sum[RATE] * 10 / 60 % 10, sum[DONE], warm, sum[HELD]);
	(void)fprintf(f, "slots %lld: %lld busy, %lld ready, %lld stamping, %lld retired\n", sum[SLOTS], sum[BUSY], sum[READY], sum[STAMPING],
		sum[RETIRED]);
	(void)fprintf(f, "waiting %lld   oldest %s   pending %lld   dead %lld\n", get(look, "depth"), duration(get(look, "oldest_ms"), oldest),
		get(look, "pending"), get(look, "dead"));
}

void queue_show_workers(FILE *f, json_t *look)
{
	json_t *w;
	size_t i;
	char warm[32], age[32];
	(void)fprintf(f, "%-20s %-8s %5s %5s %5s %5s %5s %7s %9s %6s %5s %6s\n", "WORKER", "STATE", "SLOTS", "BUSY", "READY", "STAMP", "GONE",
		"JOBS/S", "DONE", "WARM", "HELD", "BEAT");
	json_array_foreach(json_object_get(look, "workers"), i, w)
	{
		long long rate = get(w, "done_per_min");
		percent(get(w, "warm"), get(w, "placed"), warm);
		(void)fprintf(f, "%-20.20s %-8.8s %5lld %5lld %5lld %5lld %5lld %5lld.%lld %9lld %6s %5lld %6s\n", word(w, "name"), word(w, "state"),
			get(w, "slots"), get(w, "busy"), get(w, "ready"), get(w, "stamping"), get(w, "retired"), rate / 60, rate * 10 / 60 % 10,
			get(w, "done"), warm, get(w, "held"), duration(get(w, "age_ms"), age));
	}
}

void queue_show_streams(FILE *f, json_t *look)
{
	json_t *s;
	size_t i;
	char oldest[32];
	(void)fprintf(f, "%-50s %8s %8s %9s\n", "STREAM", "WAITING", "PENDING", "OLDEST");
	json_array_foreach(json_object_get(look, "streams"), i, s)(void) fprintf(f, "%-50.50s %8lld %8lld %9s\n", word(s, "stream"), get(s, "depth"), get(s, "pending"),
		duration(get(s, "oldest_ms"), oldest));
}

void queue_show_pending(FILE *f, json_t *look)
{
	json_t *o;
	size_t i;
	char idle[32];
	if (json_array_size(json_object_get(look, "consumers")) == 0)
		return;
	(void)fprintf(f, "\n%-72s %9s\n", "CONSUMER", "PENDING");
	json_array_foreach(json_object_get(look, "consumers"), i, o)(void) fprintf(f, "%-72.72s %9lld\n", word(o, "consumer"), get(o, "pending"));
	(void)fprintf(f, "\n%-24s %-32s %-48s %9s %5s\n", "ENTRY", "STREAM", "CONSUMER", "IDLE", "TRIES");
	json_array_foreach(json_object_get(look, "entries"), i, o)
	{
		long long ms = get(o, "idle_ms");
		/* What was handed back is marked as idle for a year, so that anybody may take it. */
		(void)fprintf(f, "%-24.24s %-32.32s %-48.48s %9s %5lld\n", word(o, "entry"), word(o, "stream"), word(o, "consumer"),
			strcmp(word(o, "consumer"), "released") == 0 ? "-" : duration(ms, idle), get(o, "deliveries"));
	}
}

void queue_show_dead(FILE *f, json_t *dead)
{
	json_t *o;
	size_t i;
	(void)fprintf(f, "%-24s %-20s %-32s %5s %s\n", "ENTRY", "SINCE", "ID", "TRIES", "LAST CONSUMER");
	json_array_foreach(dead, i, o)
	{
		char since[32] = "?";
		time_t at = (time_t)(strtoll(word(o, "entry"), NULL, 10) / 1000);
		struct tm tm;
		if (gmtime_r(&at, &tm))
			(void)strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", &tm);
		(void)fprintf(f, "%-24.24s %-20s %-32.128s %5lld %.72s\n", word(o, "entry"), since, word(o, "id"), get(o, "attempts"),
			word(o, "consumer"));
	}
}
