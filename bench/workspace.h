/* A temporary directory with a copy of the static true, and a store with an image to measure in it. */
#pragma once

#include <signal.h>

#include "base/err.h"
#include "bench/options.h"

struct workspace {
	char dir[256];	 /* in TMPDIR, else /var/tmp; "" when there is none. Anyone may pass through it */
	char state[272]; /* the store */
	char floor[272]; /* the static true, where the unprivileged worker can start it too */
};

/* bench_interrupted - SIGINT or SIGTERM came: finish, clean up. Set by bench_catch_signals()'s handler. */
extern volatile sig_atomic_t bench_interrupted;
void bench_catch_signals(void);
/* bench_default_signals - undo it, in a child that is to end by them. */
void bench_default_signals(void);

/* bench_file - the path of NAME relative to petri-bench's own directory. Return: 0 or -errno. */
int bench_file(const char *name, char *ret, size_t cap, struct err *err);

/* workspace_make - the directory and the floor. workspace_remove() is due in every case. */
int workspace_make(struct workspace *ws, struct err *err);
/* workspace_image - import the image that the options describe as BENCH_IMAGE. As root. */
int workspace_image(struct workspace *ws, const struct options *options, struct err *err);
/* workspace_file - what --file names: its path in the sandbox and its content, both to be freed. As root, for it may lie anywhere. */
int workspace_file(const struct options *options, char **ret_path, char **ret_data, size_t *ret_len, struct err *err);
void workspace_remove(const struct workspace *ws);
