/* A job: what a client asked for, parsed and checked from JSON (design: "Job (JSON)") or from `petri run`'s
 * command line. Runs unprivileged; every byte is hostile. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define JOB_JSON_MAX (8u << 20)
#define JOB_ID_MAX 128
#define JOB_PATH_MAX 4095
#define JOB_FILES_MAX 4096	/* files of a job */
#define JOB_BLOBS_MAX 23	/* of them (and stdin) given as blobs: each is a passed fd */
#define JOB_ARGS_MAX (1u << 20) /* argv and env together, NULs included */
#define JOB_META_MAX 4096
#define JOB_CPUSET_MAX 256
#define JOB_LAYERS_MAX 32
#define JOB_COLLECT_MAX 256
#define JOB_INLINE_DEFAULT (64u << 10) /* of a file collected inline, when the job does not say */
#define JOB_INLINE_MAX (16u << 20)     /* of all of them together: they travel in the result */

struct job_io {
	uint64_t rbps, wbps, riops, wiops; /* 0: not limited */
};

struct job_limits {
	uint64_t wall_ms, cpu_ms;
	uint64_t memory_bytes, swap_bytes;
	uint64_t pids;
	uint64_t cpus_milli; /* thousandths of a CPU */
	uint64_t disk_bytes, disk_inodes;
	uint64_t output_bytes; /* per stream */
	uint64_t open_files;
	uint64_t stack_bytes;
	struct job_io io;
	char cpuset[JOB_CPUSET_MAX]; /* "" when not asked for */
};

/* The documented defaults, and the greatest values that make sense anywhere (a worker's max_limits may be lower).
 * Names, flags and least values are in executor/limits.h. */
extern const struct job_limits job_limits_default;
extern const struct job_limits job_limits_ceiling;

enum job_source_kind {
	JOB_SOURCE_NONE, /* not given */
	JOB_SOURCE_DATA,
	JOB_SOURCE_BLOB,
	JOB_SOURCE_STREAM, /* stdin of `petri run`: relayed from the caller */
};

struct job_source {
	enum job_source_kind kind;
	char *data; /* JOB_SOURCE_DATA, owned; may hold NULs */
	size_t len;
	uint8_t blob[16];
};

struct job_file {
	char *path;    /* absolute, normalised */
	uint32_t mode; /* permission bits; default 0644 */
	struct job_source source;
};

struct job_collect {
	char *path;
	bool optional;
	bool as_inline;
	uint64_t max_bytes; /* 0, until job_check() puts the disk limit (blob) or JOB_INLINE_DEFAULT in its place */
};

enum job_network {
	JOB_NETWORK_NONE,
	JOB_NETWORK_LOOPBACK,
	JOB_NETWORK_MAX
};
const char *job_network_name(enum job_network network);
/* job_network_from_name - JOB_NETWORK_MAX when there is none of that name. */
enum job_network job_network_from_name(const char *name);

enum job_priority {
	JOB_PRIORITY_HIGH,
	JOB_PRIORITY_NORMAL,
	JOB_PRIORITY_LOW,
	JOB_PRIORITY_MAX
};
const char *job_priority_name(enum job_priority priority);

struct job {
	char id[JOB_ID_MAX + 1]; /* "" when the client gave none */
	char *image;		 /* default "host" */
	uint8_t layers[JOB_LAYERS_MAX][16];
	size_t nlayers;
	char **argv;  /* NULL-terminated; NULL when absent: the image's own command */
	char **env;   /* NULL-terminated, or NULL */
	char *cwd;    /* default "/work" (NULL: the image's, else /work) */
	char *policy; /* default "judge" */
	enum job_network network;
	struct job_source stdin_source;
	struct job_file *files;
	size_t nfiles;
	struct job_collect *collect;
	size_t ncollect;
	char *commit; /* or NULL */
	enum job_priority priority;
	char *tenant, *worker, *reply; /* or NULL */
	uint64_t not_after_ms;	       /* 0: never */
	json_t *meta;		       /* or NULL */
	struct job_limits limits;
};

enum reject_reason {
	REJECT_INVALID,
	REJECT_MISSING,
	REJECT_UNSUPPORTED,
	REJECT_TOO_LARGE,
	REJECT_REASON_MAX
};
const char *reject_reason_name(enum reject_reason reason);

/* Why a job is refused: the field by its JSON path ("limits.io.wbps", "files./work/a", "" for the whole document). */
struct reject {
	char field[192];
	enum reject_reason reason;
	char message[256];
};

int reject_set(struct reject *reject, const char *field, enum reject_reason reason, const char *fmt, ...)
	__attribute__((format(printf, 4, 5))); /* returns 1, job_parse()'s condition */

/*
 * job_parse - parse and check a job document.
 * @max: the worker's max_limits (a greater wish is REJECT_TOO_LARGE); NULL for job_limits_ceiling. Limits that the
 *       job leaves out take the documented defaults, or @max where that is lower.
 * @ret: initialised here; job_clear() is due in every case, and id, meta and reply are filled as far as they could
 *       be read, so that a rejected result can carry them. An unusable id is left "".
 * Return: 0, or 1 with *reject filled: the job is refused. Never < 0 but -ENOMEM.
 */
int job_parse(const char *json, size_t len, const struct job_limits *max, struct job *ret, struct reject *reject);
/* job_init - an empty job with every default. */
void job_init(struct job *job);
/*
 * job_check - the checks that do not depend on the source being JSON (argv size, paths, limits against max);
 * job_parse() ends with it and `petri run` calls it for a job built from flags. Paths are normalised in place and
 * collect's max_bytes are resolved. commit may name any directory but "/". Return: as job_parse().
 */
int job_check(struct job *job, const struct job_limits *max, struct reject *reject);
void job_clear(struct job *job);

/* job_id_valid - [A-Za-z0-9._-]{1,128} */
bool job_id_valid(const char *id);
/* job_path_normalise - absolute, no "..", no NUL, no empty name; "/a//b/./c/" becomes "/a/b/c". @out has
 * JOB_PATH_MAX + 1 bytes and is only touched on success. Return: 0 or -EINVAL / -ENAMETOOLONG (a name of more
 * than NAME_MAX bytes too). */
int job_path_normalise(const char *path, size_t len, char *out);
