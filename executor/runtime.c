/* Runtimes, and the job as one is told it. See the header. What the job's words mean to an interpreter is decided by what is known to be
 * the same, never by what is known to differ: whatever else a job asks for runs it cold. */
#include "executor/runtime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "executor/base64.h"
#include "executor/result_text.h"
#include "executor/utf8.h"

struct runtime_shipped {
	const char *name;
	const char *program, *flag; /* program flag SOURCE */
	const char *serves[3];
	bool one_task; /* has no threads of its own, so that it fits into any pids limit */
	/* Beginnings of the variables that are read before any program runs, or have an effect on what was set up by then. */
	const char *start_env[16];
	bool (*takes)(const struct command *command, const char *first);
};

/* A script, -c CODE or -m MODULE; anything after that is the program's. */
static bool python_takes(const struct command *command, const char *first)
{
	if (strcmp(first, "-c") == 0 || strcmp(first, "-m") == 0)
		return command->argc >= 3;
	return first[0] && first[0] != '-';
}

/* A script, or -e CODE with words after it that are no options, for node looks for its own there. */
static bool node_takes(const struct command *command, const char *first)
{
	if (strcmp(first, "-e") != 0)
		return first[0] && first[0] != '-' && strcmp(first, "inspect") != 0;
	const char *word = command_next(command, first);
	for (uint32_t i = 3; i < command->argc; i++) {
		word = command_next(command, word);
		if (word[0] == '-')
			return false;
	}
	return command->argc >= 3;
}

static const struct runtime_shipped shipped[] = {
	{"python3", "python3", "-c", {"python3", "/usr/bin/python3"}, true, {"PYTHON", "LD_", "LC_", "LANG", "GLIBC_", "MALLOC_", "TZ", "HOME=", "PATH="}, python_takes},
	{"node", "node", "-e", {"node", "/usr/bin/node"}, false, {"NODE_", "LD_", "LC_", "LANG", "GLIBC_", "MALLOC_", "TZ", "HOME=", "PATH=", "UV_", "ICU_", "SSL_", "OPENSSL_"}, node_takes},
};

static const struct runtime_shipped *find_shipped(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(shipped); i++)
		if (strcmp(shipped[i].name, name) == 0)
			return &shipped[i];
	return NULL;
}

bool runtime_is_shipped(const char *name)
{
	return find_shipped(name) != NULL;
}

static const char *source_of(const struct runtime_shipped *s)
{
	const struct runtime_source *source = runtime_sources;
	while (strcmp(source->name, s->name) != 0)
		source++;
	return source->text;
}

int runtime_make(const struct image *image, struct runtime *ret)
{
	const struct image_runtime *said = &image->runtime;
	struct runtime runtime = {0};
	char *argv[4] = {NULL};
	if (!said->shipped && !said->argv)
		return 1;
	if (said->shipped) {
		runtime.shipped = find_shipped(said->shipped);
		if (!runtime.shipped)
			return -ENOENT;
		argv[0] = (char *)runtime.shipped->program;
		argv[1] = (char *)runtime.shipped->flag;
		argv[2] = (char *)source_of(runtime.shipped);
	}
	const struct job job = {.argv = said->shipped ? argv : said->argv};
	int r = command_make(&runtime.command, &job, image);
	if (r == 0)
		r = command_add_argv(&runtime.serves, said->shipped ? (char *const *)runtime.shipped->serves : said->serves);
	if (r < 0)
		runtime_clear(&runtime);
	else
		*ret = runtime;
	return r;
}

void runtime_clear(struct runtime *runtime)
{
	command_clear(&runtime->command);
	command_clear(&runtime->serves);
}

static bool command_equal(const struct command *a, const struct command *b)
{
	return a->argc == b->argc && a->envc == b->envc && a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

bool runtime_equal(const struct runtime *a, const struct runtime *b)
{
	return a->shipped == b->shipped && command_equal(&a->command, &b->command) && command_equal(&a->serves, &b->serves);
}

static bool in_serves(const struct runtime *runtime, const char *program)
{
	for (const char *s = runtime->serves.text; s; s = command_next(&runtime->serves, s))
		if (strcmp(s, program) == 0)
			return true;
	return false;
}

static bool sets_start_env(const struct runtime_shipped *s, char *const *env)
{
	for (; env && *env; env++)
		for (const char *const *p = s->start_env; *p; p++)
			if (strncmp(*env, *p, strlen(*p)) == 0)
				return true;
	return false;
}

static bool files_fit(const struct job *job)
{
	size_t bytes = 0;
	for (size_t i = 0; i < job->nfiles; i++) {
		const struct job_source *source = &job->files[i].source;
		if (source->kind == JOB_SOURCE_BLOB || source->kind == JOB_SOURCE_STREAM || source->len > RUNTIME_FILES_MAX - bytes)
			return false;
		bytes += source->len;
	}
	return true;
}

bool runtime_serves(const struct runtime *runtime, const struct job *job, const struct command *command,
	const struct job_limits *usual)
{
	const struct runtime_shipped *s = runtime->shipped;
	const struct job_limits *l = &job->limits;
	if (job->nlayers > 0 || job->stdin_source.kind == JOB_SOURCE_STREAM || l->open_files != usual->open_files ||
		l->stack_bytes != usual->stack_bytes || command->len > RUNTIME_WORDS_MAX || !files_fit(job) ||
		!in_serves(runtime, command->text))
		return false;
	if (l->pids < usual->pids && !(s && s->one_task))
		return false;
	if (!s)
		return true;
	return command->argc >= 2 && s->takes(command, command_next(command, command->text)) && !sets_start_env(s, job->env);
}

/* ---- the job as JSON ---- */
static void put_files(FILE *f, const struct job *job, int *error)
{
	(void)fputs(",\"files\":[", f);
	for (size_t i = 0; i < job->nfiles && *error == 0; i++) {
		const struct job_file *file = &job->files[i];
		size_t len = base64_encoded_len(file->source.len);
		_cleanup_free_ char *text = malloc(len + 1);
		if (!text) {
			*error = -ENOMEM;
			return;
		}
		base64_encode(file->source.data, file->source.len, text);
		(void)fputs(i ? ",{\"path\":" : "{\"path\":", f);
		text_string(f, file->path, strlen(file->path));
		(void)fprintf(f, ",\"mode\":%u,\"data\":\"", file->mode & 0777);
		(void)fwrite(text, 1, len, f);
		(void)fputs("\"}", f);
	}
	(void)fputs("]}", f);
}

/* Return: the cwd, which follows the environment; NULL for an entry without a "=". */
static const char *put_env(FILE *f, const struct command *command, const char *word)
{
	(void)fputs("],\"env\":{", f);
	for (uint32_t i = 0; i < command->envc; i++, word = command_next(command, word)) {
		const char *equals = strchr(word, '=');
		if (!equals)
			return NULL;
		if (i)
			(void)fputc(',', f);
		text_string(f, word, (size_t)(equals - word));
		(void)fputc(':', f);
		text_string(f, equals + 1, strlen(equals + 1));
	}
	return word;
}

static int put_job(FILE *f, const struct job *job, const struct command *command)
{
	const char *word = command->text;
	int r = 0;
	if (!word)
		return -EINVAL;
	(void)fputs("{\"argv\":[", f);
	for (uint32_t i = 0; i < command->argc; i++, word = command_next(command, word)) {
		if (i)
			(void)fputc(',', f);
		text_string(f, word, strlen(word));
	}
	word = put_env(f, command, word);
	if (!word)
		return -EINVAL;
	(void)fputs("},\"cwd\":", f);
	text_string(f, word, strlen(word));
	put_files(f, job, &r);
	return r;
}

int runtime_job_json(const struct job *job, const struct command *command, char **ret, size_t *ret_len)
{
	char *text = NULL;
	size_t len = 0;
	for (const char *word = command->text; word; word = command_next(command, word))
		if (!utf8_is_text(word, strlen(word)))
			return -EILSEQ; /* JSON has no way to say it */
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return -errno;
	int r = put_job(f, job, command);
	if (ferror(f) && r == 0)
		r = -ENOMEM;
	if (fclose(f) != 0 && r == 0)
		r = -errno;
	if (r < 0) {
		free(text);
		return r;
	}
	*ret = text;
	*ret_len = len;
	return 0;
}
