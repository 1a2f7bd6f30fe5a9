/*
 * The operator's side of the queue, for `petri queue` and `petri top`: blocking, one connection. What it shows is JSON with keys in
 * a fixed order. Text from Redis is a stranger's: it becomes printable ASCII here, so that it can go to a terminal.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "executor/queue.h"

struct queue_admin;
int queue_admin_open(const struct redis_url *url, const char *prefix, struct queue_admin **ret, struct err *err);
void queue_admin_free(struct queue_admin *admin);

/* queue_admin_wake - ask the workers for a heartbeat now, rather than every 5 s. */
int queue_admin_wake(struct queue_admin *admin, struct err *err);

/*
 * queue_admin_look - {"now_ms", "depth", "pending", "oldest_ms", "dead", "streams": [{"stream", "priority", "tenant" or "worker",
 * "depth", "pending", "oldest_ms"}], "consumers": [{"consumer", "pending"}], "entries": [{"stream", "entry", "consumer", "idle_ms",
 * "deliveries"}], "workers": [{"name", "age_ms", …}]}: streams that hold something, and the base streams always; of what is pending
 * in a stream the first 20 entries.
 */
int queue_admin_look(struct queue_admin *admin, json_t **ret, struct err *err);

/* queue_admin_requeue - a pending entry: whoever has it loses it, and any worker takes it next. @stream: NULL to find it by itself.
 * Return: 0; -ENOENT when it is not pending; -EEXIST when several streams have one of that name. */
int queue_admin_requeue(struct queue_admin *admin, const char *entry, const char *stream, struct err *err);

/* queue_admin_purge - each job that nobody has taken yet gets a `cancelled` result and leaves. @stream: NULL for all.
 * *ret: how many. */
int queue_admin_purge(struct queue_admin *admin, const char *stream, uint64_t *ret, struct err *err);

/* queue_admin_dead - [{"entry", "id", "attempts", "consumer", "stream", "error", "job_bytes"}], oldest first. */
int queue_admin_dead(struct queue_admin *admin, json_t **ret, struct err *err);
/* queue_admin_dead_show - the same of one, by its entry, or by its job's id (the latest then); with "job", the document's text. */
int queue_admin_dead_show(struct queue_admin *admin, const char *name, json_t **ret, struct err *err);
/* queue_admin_dead_requeue - back into its stream, without the result that said it was given up. Return: 0, or -errno with why. */
int queue_admin_dead_requeue(struct queue_admin *admin, const char *name, struct err *err);
int queue_admin_dead_purge(struct queue_admin *admin, uint64_t *ret, struct err *err);
