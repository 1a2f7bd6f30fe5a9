/* How large, how many and how deep: the bounds of job_parse(), and what it costs to find them. */
#include "tests/unit/executor_job.h"

Test(job_bounds, id_and_names_have_a_length)
{
	char *name = repeat("x", "", JOB_ID_MAX + 1);
	static const char *const fields[] = {"id", "image", "policy", "tenant", "worker", "reply"};
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		char *text = make("{\"%s\":\"%s\"}", fields[i], name);
		refuse(text, fields[i], i ? REJECT_TOO_LARGE : REJECT_INVALID);
		free(text);
		text = make("{\"%s\":\"%s\"}", fields[i], name + 1);
		accept(text);
		job_clear(&job);
		free(text);
	}
	free(name);
}

Test(job_bounds, meta_has_a_size)
{
	/* Two quotes, and the rest of 4096. */
	char *fill = repeat("x", "", JOB_META_MAX - 2), *text = make("{\"meta\":\"%s\"}", fill);
	accept(text);
	job_clear(&job);
	free(text);
	text = make("{\"id\":\"a\",\"meta\":\"%sx\"}", fill);
	cr_assert_eq(parse(text), 1);
	cr_assert_str_eq(reject.field, "meta");
	cr_assert_eq(reject.reason, REJECT_TOO_LARGE);
	cr_assert_str_eq(job.id, "a");
	cr_assert_null(job.meta);
	job_clear(&job);
	free(text);
	/* White space is not counted: what counts is what is echoed. */
	char *blanks = repeat(" ", "", 10000);
	text = make("{\"meta\":[%s1%s]}", blanks, blanks);
	accept(text);
	job_clear(&job);
	free(text);
	free(blanks);
	free(fill);
}

Test(job_bounds, arguments_have_a_size)
{
	char *most = repeat("x", "", 131071), *text = make("{\"argv\":[\"%s\"]}", most);
	accept(text);
	job_clear(&job);
	free(text);
	text = make("{\"argv\":[\"%sx\"]}", most);
	refuse(text, "argv", REJECT_TOO_LARGE);
	free(text);
	text = make("{\"env\":[\"A=%s\"]}", most);
	refuse(text, "env", REJECT_TOO_LARGE);
	free(text);
	free(most);
	/* Eight strings of 131072 bytes with their NULs are the whole MiB. */
	char *quoted = make("\"A=%0131069d\"", 0), *eight = repeat(quoted, ",", 8);
	text = make("{\"argv\":[%s]}", eight);
	accept(text);
	job_clear(&job);
	free(text);
	text = make("{\"argv\":[%s,\"\"]}", eight);
	refuse(text, "argv", REJECT_TOO_LARGE);
	free(text);
	text = make("{\"argv\":[\"a\"],\"env\":[%s]}", eight);
	refuse(text, "env", REJECT_TOO_LARGE);
	free(text);
	free(quoted);
	free(eight);
}

Test(job_bounds, paths_have_a_size)
{
	char *name = repeat("x", "", 255), *text = make("{\"cwd\":\"/%s\"}", name);
	accept(text);
	job_clear(&job);
	free(text);
	text = make("{\"cwd\":\"/%sx\"}", name);
	refuse(text, "cwd", REJECT_TOO_LARGE);
	free(text);
	char *path = repeat("/x", "", 2048); /* 4096 bytes */
	text = make("{\"commit\":\"%s\"}", path);
	refuse(text, "commit", REJECT_TOO_LARGE);
	free(text);
	text = make("{\"commit\":\"%s\"}", path + 2);
	accept(text);
	job_clear(&job);
	free(text);
	free(path);
	free(name);
}

Test(job_bounds, a_long_field_name_is_cut_between_characters)
{
	char *name = repeat("\xe2\x82\xac", "", 100), *text = make("{\"%s\":1}", name);
	cr_assert_eq(parse(text), 1);
	cr_assert_eq(strlen(reject.field) % 3, 0);
	cr_assert_gt(strlen(reject.field), 180);
	job_clear(&job);
	free(text);
	text = make("{\"x%s\":1}", name);
	cr_assert_eq(parse(text), 1);
	cr_assert_eq(strlen(reject.field) % 3, 1);
	job_clear(&job);
	free(text);
	free(name);
}

Test(job_bounds, counts_have_bounds)
{
	char ids[JOB_LAYERS_MAX + 1][48];
	char *list = calloc(1, sizeof(ids));
	for (unsigned i = 0; i <= JOB_LAYERS_MAX; i++) {
		(void)snprintf(ids[i], sizeof(ids[i]), "%s\"xxh128:%032x\"", i ? "," : "", i);
		strcat(list, ids[i]);
	}
	char *text = make("{\"layers\":[%s]}", list);
	refuse(text, "layers", REJECT_TOO_LARGE);
	free(text);
	list[strlen(list) - strlen(ids[JOB_LAYERS_MAX])] = '\0';
	text = make("{\"layers\":[%s]}", list);
	accept(text);
	cr_assert_eq(job.nlayers, JOB_LAYERS_MAX);
	job_clear(&job);
	free(text);
	free(list);

	list = repeat("\"/a\"", ",", JOB_COLLECT_MAX + 1);
	text = make("{\"collect\":[%s]}", list);
	refuse(text, "collect", REJECT_TOO_LARGE);
	free(text);
	free(list);
}

/* n files "/f0", "/f1", … with this object each. */
static char *make_files(unsigned n, const char *object, const char *rest)
{
	char *text = malloc(n * (strlen(object) + 16) + strlen(rest) + 64);
	cr_assert_not_null(text);
	size_t at = (size_t)sprintf(text, "{\"files\":{");
	for (unsigned i = 0; i < n; i++)
		at += (size_t)sprintf(text + at, "%s\"/f%u\":%s", i ? "," : "", i, object);
	(void)sprintf(text + at, "}%s}", rest);
	return text;
}

Test(job_bounds, files_have_bounds)
{
	char *text = make_files(JOB_FILES_MAX, "{\"data\":\"\"}", "");
	accept(text);
	cr_assert_eq(job.nfiles, JOB_FILES_MAX);
	job_clear(&job);
	free(text);
	text = make_files(JOB_FILES_MAX + 1, "{\"data\":\"\"}", "");
	refuse(text, "files", REJECT_TOO_LARGE);
	free(text);
	text = make_files(JOB_BLOBS_MAX, "{\"blob\":\"" ID_A "\"}", "");
	accept(text);
	job_clear(&job);
	free(text);
	text = make_files(JOB_BLOBS_MAX, "{\"blob\":\"" ID_A "\"}", ",\"stdin\":{\"blob\":\"" ID_A "\"}");
	refuse(text, "files", REJECT_TOO_LARGE);
	free(text);
	char *data = repeat("x", "", 4097);
	text = make("{\"limits\":{\"disk_bytes\":4096},\"files\":{\"/work/f\":{\"data\":\"%s\"}}}", data);
	refuse(text, "files./work/f", REJECT_TOO_LARGE);
	free(text);
	text = make("{\"limits\":{\"disk_bytes\":4096},\"files\":{\"/work/f\":{\"data\":\"%s\"}}}", data + 1);
	accept(text);
	job_clear(&job);
	free(text);
	free(data);
}

Test(job_bounds, inline_collects_share_a_bound)
{
	accept("{\"collect\":[{\"path\":\"/a\",\"as\":\"inline\",\"max_bytes\":16777216}]}");
	job_clear(&job);
	refuse("{\"collect\":[{\"path\":\"/a\",\"as\":\"inline\",\"max_bytes\":16777217}]}", "collect[0].max_bytes",
		REJECT_TOO_LARGE);
	refuse("{\"collect\":[{\"path\":\"/a\",\"as\":\"inline\",\"max_bytes\":16777216},"
	       "{\"path\":\"/b\",\"as\":\"inline\",\"max_bytes\":1}]}",
		"collect[1].max_bytes", REJECT_TOO_LARGE);
	/* A blob is as large as the disk at most, whatever a sparse file says. */
	accept("{\"collect\":[{\"path\":\"/a\",\"max_bytes\":9223372036854775807}]}");
	cr_assert_eq(job.collect[0].max_bytes, job_limits_default.disk_bytes);
	job_clear(&job);
}

/* A document of JOB_JSON_MAX bytes: head, then unit over and over. */
static char *bomb(const char *head, const char *unit)
{
	char *text = malloc(JOB_JSON_MAX + 1);
	size_t at = strlen(head), n = strlen(unit);
	memcpy(text, head, at);
	for (; at + n <= JOB_JSON_MAX; at += n)
		memcpy(text + at, unit, n);
	memset(text + at, ' ', JOB_JSON_MAX - at);
	text[JOB_JSON_MAX] = '\0';
	return text;
}

Test(job_bounds, bombs_are_refused_quickly)
{
	static const char *const bombs[][2] = {{"", "["}, {"", "{\"a\":"}, {"[", "[],"}, {"[", "{},"}, {"[", "0,"},
		{"", "\""}, {"\"", "\\\""}, {"\"", "\\"}, {"{\"argv\":[", "\"\","}, {"{\"meta\":\"", "\\u0001"},
		{"", "{\"a\":[{\"b\":1},"}, {"", "]"}, {"{\"id\":\"", "\xff"}, {"{\"limits\":{\"pids\":", "9"}};
	for (size_t i = 0; i < ARRAY_SIZE(bombs); i++) {
		char *text = bomb(bombs[i][0], bombs[i][1]);
		uint64_t start = now_us();
		cr_assert_eq(parse_len(text, JOB_JSON_MAX, NULL), 1, "bomb %zu", i);
		uint64_t us = now_us() - start;
		/* Loose, for sanitizers and busy machines; most take a few ms. */
		cr_assert_lt(us, 2000000, "bomb %zu took %lu us", i, us);
		job_clear(&job);
		free(text);
	}
}

Test(job_bounds, size_of_the_document)
{
	char *text = bomb("{\"id\":\"a\"}", " ");
	cr_assert_eq(parse_len(text, JOB_JSON_MAX, NULL), 0);
	job_clear(&job);
	free(text);
	/* The length alone decides: nothing of it is read. */
	cr_assert_eq(parse_len("{}", JOB_JSON_MAX + 1, NULL), 1);
	cr_assert_str_eq(reject.field, "");
	cr_assert_eq(reject.reason, REJECT_TOO_LARGE);
	job_clear(&job);
}

Test(job_bounds, depth)
{
	/* meta lies one deep. */
	for (size_t depth = 60; depth < 70; depth++) {
		char *open = repeat("[", "", depth), *close = repeat("]", "", depth);
		char *text = make("{\"meta\":%s%s}", open, close);
		cr_assert_eq(parse(text), depth + 1 > 64, "depth %zu", depth);
		job_clear(&job);
		free(text);
		free(open);
		free(close);
	}
	/* Brackets and commas in strings do not count. */
	char *brackets = repeat("[{,\\\"", "", 80000), *text = make("{\"stdin\":{\"data\":\"%s\"}}", brackets);
	accept(text);
	cr_assert_eq(job.stdin_source.len, 320000);
	job_clear(&job);
	free(text);
	free(brackets);
}
