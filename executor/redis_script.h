/* The queue's Lua scripts, and how one is sent. A script's text is constant: what varies are its KEYS and ARGV. */
#pragma once

#include "executor/redis_link.h"

enum redis_script {
	/* KEYS of the first four: high, normal, low, worker's stream, tenants */
	SCRIPT_SETUP, /* make the groups */
	/* consumer want tick cursor*3 max_bytes result_ cancelled_ state_ worker ttl_ms (stream's index, entry, id)...
	 * -> tick cursors dups entries last error START_*... */
	SCRIPT_FETCH,
	/* consumer lease_ms max_bytes result_ cancelled_ looked looked_ms -> entry|nil dups deleted */
	SCRIPT_CLAIM,
	SCRIPT_OWN,	/* consumer want max_bytes result_ cancelled_ (key id)... -> entries dups */
	SCRIPT_TIDY,	/* idle_ms workers worker_ own_stream_: forget idle consumers, empty tenants and workers that are gone */
	SCRIPT_RENEW,	/* KEYS: streams; consumer ttl_ms state_ cancelled_ (entry job)... -> 0 lost, 1 ours, 2 and cancel */
	SCRIPT_START,	/* KEYS: stream state result cancelled; consumer entry worker attempt ttl_ms */
	SCRIPT_FINISH,	/* KEYS: stream result done state cancelled reply dead */
	SCRIPT_RELEASE, /* KEYS: stream state looked; consumer entry count bell */
	SCRIPT_CANCEL,	/* KEYS: result state cancelled done; id result result_ttl cancelled_ttl channel */
	SCRIPT_MAX
};

/* SCRIPT_START's answers. */
enum {
	START_OK = 0,
	START_CANCEL = 1,   /* somebody asked to cancel it */
	START_FINISHED = 2, /* there is a result: acknowledged */
	START_LOST = 3
};

extern const char *const redis_script_text[SCRIPT_MAX];

/* redis_script_begin - EVALSHA (or EVAL while the digest is unknown) and the number of keys; keys and arguments
 * follow with redis_args_*(). */
struct redis_scripts {
	char sha[SCRIPT_MAX][41]; /* "" until SCRIPT LOAD told */
};
void redis_script_begin(const struct redis_scripts *scripts, enum redis_script script, unsigned nkeys,
	struct redis_args *args);
