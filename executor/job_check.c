/* job_check(): what must hold of a job wherever it came from. Paths are normalised in place; the rest only
 * looks. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/job.h"
#include "executor/job_json.h"
#include "executor/limits.h"

/* MAX_ARG_STRLEN, linux/binfmts.h: 32 pages, the NUL included. */
#define ARG_STRLEN_MAX 131072u

/* Bytes of a string vector, NULs included. */
static int check_strings(char **strings, const char *field, size_t *ret_bytes, struct reject *reject)
{
	*ret_bytes = 0;
	for (size_t i = 0; strings && strings[i]; i++) {
		size_t bytes = strlen(strings[i]) + 1;
		if (bytes > ARG_STRLEN_MAX)
			return reject_set(reject, field, REJECT_TOO_LARGE,
				"%s[%zu] has %zu bytes: the kernel takes at most %u", field, i, bytes - 1,
				ARG_STRLEN_MAX - 1);
		*ret_bytes += bytes;
	}
	return 0;
}

static int check_command(const struct job *job, struct reject *reject)
{
	size_t argv_bytes, env_bytes;
	int r = check_strings(job->argv, "argv", &argv_bytes, reject);
	if (r == 0)
		r = check_strings(job->env, "env", &env_bytes, reject);
	if (r != 0)
		return r;
	if (argv_bytes + env_bytes > JOB_ARGS_MAX)
		return reject_set(reject, argv_bytes >= env_bytes ? "argv" : "env", REJECT_TOO_LARGE,
			"argv and env take %zu bytes together: the most is %u", argv_bytes + env_bytes, JOB_ARGS_MAX);
	if (job->argv && !job->argv[0])
		return reject_set(
			reject, "argv", REJECT_INVALID, "must not be empty; leave it out for the image's own command");
	if (job->argv && !job->argv[0][0])
		return reject_set(reject, "argv[0]", REJECT_INVALID, "must not be empty");
	for (size_t i = 0; job->env && job->env[i]; i++) {
		const char *equals = strchr(job->env[i], '=');
		if (equals && equals != job->env[i])
			continue;
		char field[JOB_FIELD_MAX];
		job_field_text(field, sizeof(field), "env[%zu]", i);
		return reject_set(reject, field, REJECT_INVALID, "must be KEY=VALUE");
	}
	return 0;
}

static int check_path(char *path, bool root_is_fine, const char *field, struct reject *reject)
{
	char out[JOB_PATH_MAX + 1];
	int r = job_path_normalise(path, strlen(path), out);
	if (r == -ENAMETOOLONG)
		return reject_set(reject, field, REJECT_TOO_LARGE,
			"a path has at most %d bytes, a name in it at most 255", JOB_PATH_MAX);
	if (r < 0)
		return reject_set(reject, field, REJECT_INVALID, "must be an absolute path without \"..\"");
	if (!root_is_fine && strcmp(out, "/") == 0)
		return reject_set(reject, field, REJECT_INVALID, "must not be the root directory");
	memcpy(path, out, strlen(out) + 1); /* never longer than it was */
	return 0;
}

struct path {
	const char *text;
};

/* By path, '/' before every other character: what lies beneath a path then follows it at once. */
static int by_path(const void *a, const void *b)
{
	const unsigned char *p = (const unsigned char *)((const struct path *)a)->text;
	const unsigned char *q = (const unsigned char *)((const struct path *)b)->text;
	while (*p && *p == *q)
		p++, q++;
	int x = *p == '/' ? 1 : *p + (*p != 0), y = *q == '/' ? 1 : *q + (*q != 0);
	return x - y;
}

/* No path twice, and none beneath another, which cannot be a file and a directory. */
static int check_distinct(const struct job *job, struct reject *reject)
{
	_cleanup_free_ struct path *sorted = calloc(MAX(job->nfiles, 1U), sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < job->nfiles; i++)
		sorted[i].text = job->files[i].path;
	qsort(sorted, job->nfiles, sizeof(*sorted), by_path);
	for (size_t i = 1; i < job->nfiles; i++) {
		const char *upper = sorted[i - 1].text, *path = sorted[i].text;
		size_t len = strlen(upper);
		if (strncmp(upper, path, len) != 0 || (path[len] != '\0' && path[len] != '/'))
			continue;
		char field[JOB_FIELD_MAX];
		job_field_join(field, "files", path);
		if (path[len] == '\0')
			return reject_set(reject, field, REJECT_INVALID, "given twice");
		return reject_set(reject, field, REJECT_INVALID, "lies beneath '%.100s', which is a file too", upper);
	}
	return 0;
}

static int check_files(const struct job *job, struct reject *reject)
{
	size_t blobs = job->stdin_source.kind == JOB_SOURCE_BLOB;
	if (job->nfiles > JOB_FILES_MAX)
		return reject_set(reject, "files", REJECT_TOO_LARGE, "%zu files are too many: the most is %d",
			job->nfiles, JOB_FILES_MAX);
	for (size_t i = 0; i < job->nfiles; i++) {
		const struct job_file *file = &job->files[i];
		char field[JOB_FIELD_MAX];
		job_field_join(field, "files", file->path);
		int r = check_path(file->path, false, field, reject);
		if (r != 0)
			return r;
		if (file->source.kind == JOB_SOURCE_DATA && file->source.len > job->limits.disk_bytes)
			return reject_set(reject, field, REJECT_TOO_LARGE,
				"%zu bytes are too many: limits.disk_bytes is %" PRIu64, file->source.len,
				job->limits.disk_bytes);
		if (file->mode > 0777)
			return reject_set(reject, field, REJECT_INVALID, "its mode is at most 0777");
		blobs += file->source.kind == JOB_SOURCE_BLOB;
	}
	if (blobs > JOB_BLOBS_MAX)
		return reject_set(reject, "files", REJECT_TOO_LARGE,
			"%zu blobs (stdin's counted) are too many: the most is %d", blobs, JOB_BLOBS_MAX);
	return check_distinct(job, reject);
}

static int check_collect(struct job *job, struct reject *reject)
{
	char field[JOB_FIELD_MAX];
	uint64_t inline_bytes = 0;
	if (job->ncollect > JOB_COLLECT_MAX)
		return reject_set(reject, "collect", REJECT_TOO_LARGE, "%zu paths are too many: the most is %d",
			job->ncollect, JOB_COLLECT_MAX);
	for (size_t i = 0; i < job->ncollect; i++) {
		struct job_collect *collect = &job->collect[i];
		job_field_text(field, sizeof(field), "collect[%zu]", i);
		int r = check_path(collect->path, false, field, reject);
		if (r != 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (strcmp(job->collect[k].path, collect->path) == 0)
				return reject_set(reject, field, REJECT_INVALID, "the same path as collect[%zu]", k);
		uint64_t fallback = collect->as_inline ? JOB_INLINE_DEFAULT : job->limits.disk_bytes;
		uint64_t wish = collect->max_bytes ? collect->max_bytes : fallback;
		if (collect->as_inline && wish > JOB_INLINE_MAX - inline_bytes) {
			job_field_text(field, sizeof(field), "collect[%zu].max_bytes", i);
			return reject_set(reject, field, REJECT_TOO_LARGE,
				"inline files together are at most %u bytes: collect more as blobs", JOB_INLINE_MAX);
		}
		inline_bytes += collect->as_inline ? wish : 0;
		/* A sparse file can be larger than the disk that it lies on, a copy of it in the store
		 * cannot. */
		collect->max_bytes = MIN(wish, job->limits.disk_bytes);
	}
	return 0;
}

/* The kernel refuses the same directory twice in an overlay (ELOOP), and no one can mean it. */
static int check_layers(const struct job *job, struct reject *reject)
{
	for (size_t i = 0; i < job->nlayers; i++) {
		for (size_t k = 0; k < i; k++) {
			if (memcmp(job->layers[i], job->layers[k], sizeof(job->layers[i])) != 0)
				continue;
			char field[JOB_FIELD_MAX];
			job_field_text(field, sizeof(field), "layers[%zu]", i);
			return reject_set(reject, field, REJECT_INVALID, "the same layer as layers[%zu]", k);
		}
	}
	return 0;
}

int job_check(struct job *job, const struct job_limits *max, struct reject *reject)
{
	if (!job->image || !job->policy)
		return -ENOMEM; /* job_init() */
	int r = limits_check(&job->limits, max, reject);
	if (r == 0)
		r = check_layers(job, reject);
	if (r == 0)
		r = check_command(job, reject);
	if (r == 0 && job->cwd)
		r = check_path(job->cwd, true, "cwd", reject);
	if (r == 0)
		r = check_files(job, reject);
	if (r == 0)
		r = check_collect(job, reject);
	if (r == 0 && job->commit)
		r = check_path(job->commit, false, "commit", reject);
	return r;
}
