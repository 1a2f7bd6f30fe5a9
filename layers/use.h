/*
 * Uses of layers: what keeps gc away from one, and when it was last used.
 *
 * layers/<hex>/used is an empty file of the worker's uid, beside diff/ and never in it: nothing that a job can open is
 * locked. Its mtime is the last use; a shared flock(2) on it says that a process uses the layer now (a worker for its slots
 * and jobs, an import until an image names the layer). gc takes the exclusive lock before it removes anything.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "layers/store.h"

#define LAYER_USED "used"
#define LAYER_TOUCH_S 60 /* the last use is noted no more often than this */

/*
 * layer_hold - keep gc away from a layer for as long as the returned fd is open. Worker-safe.
 * While gc looks at the layer this waits up to a tenth of a second. The last use is not changed.
 * Return: the fd (caller owns), -ENOENT when there is no such layer (any more), -EBUSY when gc would not let go, or -errno.
 */
int layer_hold(struct store *store, const uint8_t id[16], struct err *err);

/*
 * layer_hold_new - make the file of a layer in the making, in its directory, and hold it already. As root.
 * Return: the fd (caller owns), or -errno.
 */
int layer_hold_new(int dirfd, struct err *err);

/* layer_touch - note a use now, unless one was noted within LAYER_TOUCH_S. @fd: from layer_hold(), or a blob's; by its owner or
 * root. */
void layer_touch(int fd);

/* ---- of a process with many uses: one fd a layer, counted ---- */
struct layer_uses;
struct layer_use;

int layer_uses_new(struct store *store, struct layer_uses **ret, struct err *err);
void layer_uses_free(struct layer_uses *uses);

/*
 * layer_uses_hold - layer_hold(), or one count more where this process holds it already; notes the use.
 * Return: 0 with *ret to be given back by layer_uses_drop(), or as layer_hold().
 */
int layer_uses_hold(struct layer_uses *uses, const uint8_t id[16], struct layer_use **ret, struct err *err);
/* layer_uses_drop - give it back; with the last one the lock goes. */
void layer_uses_drop(struct layer_uses *uses, struct layer_use *use);
