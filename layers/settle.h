/* Layers that were published without a sync. Not for other folders, but for store_settle(), which is in store.h. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "layers/store.h"

/* settle_mark - say in a layer's directory, before it is published, that it is not on disk for certain. Return: 0 or -errno. */
int settle_mark(int dir, struct err *err);
/* settle_survived - whether a layer is as it was published: it is durable, or the machine has not stopped since. */
bool settle_survived(struct store *store, const char *hex);
