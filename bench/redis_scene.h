/* A redis-server and a petri worker of the bench's own, and a connection to the first. */
#pragma once

#include <hiredis/hiredis.h>
#include <jansson.h>

#include "bench/child.h"
#include "bench/options.h"
#include "bench/workspace.h"

#define SCENE_PREFIX "petri"
#define SCENE_REPLY "bench" /* jobs of scene_add() answer on this stream too, when asked */

struct redis_scene {
	struct child server, worker;
	redisContext *redis;
	char *job, *job_reply; /* the job's JSON, without and with `reply` */
	char last[64];	       /* of the reply stream: what was read */
};

/* scene_open - start both and connect. scene_close() is due in every case. @argv: the job's. */
int scene_open(struct redis_scene *scene, const struct workspace *ws, const struct options *options, char *const *argv, struct err *err);
void scene_close(struct redis_scene *scene);

/* scene_ping, scene_add, scene_wait - one round trip, one XADD, one BLPOP until the job is done. Return: 0 or -errno. */
int scene_ping(struct redis_scene *scene, struct err *err);
int scene_add(struct redis_scene *scene, const char *id, struct err *err);
int scene_wait(struct redis_scene *scene, const char *id, struct err *err);
/* scene_result - a job's result, which must be "exited" with code 0. A new reference, or NULL. */
json_t *scene_result(struct redis_scene *scene, const char *id, struct err *err);

/* scene_add_many - XADD `n` jobs with ids b-FIRST… in one go, which answer on the reply stream. */
int scene_add_many(struct redis_scene *scene, unsigned first, unsigned n, struct err *err);
/* scene_read - wait for answers on the reply stream; seen(ctx, number of b-NUMBER). Return: how many came, or -errno. */
int scene_read(struct redis_scene *scene, void (*seen)(void *ctx, unsigned number), void *ctx, struct err *err);
