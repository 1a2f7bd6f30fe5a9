/* Which jobs a runtime stands in for, and the JSON that it is given. */
#include "executor_job.h"

#include "executor/runtime.h"

static char *path_env[] = {(char *)"PATH=/bin", NULL};
static struct image image = {.name = "x", .env = path_env};
static struct runtime runtime;

static void use(const char *shipped)
{
	runtime_clear(&runtime);
	image.runtime = (struct image_runtime){.shipped = (char *)shipped};
	cr_assert_eq(runtime_make(&image, &runtime), 0);
}

static bool serves(const char *text)
{
	struct command command = {0};
	accept(text);
	cr_assert_eq(command_make(&command, &job, &image), 0);
	bool r = runtime_serves(&runtime, &job, &command, &job_limits_default);
	command_clear(&command);
	job_clear(&job);
	return r;
}

static char *json_of(const char *text)
{
	struct command command = {0};
	char *json = NULL;
	size_t len = 0;
	accept(text);
	cr_assert_eq(command_make(&command, &job, &image), 0);
	cr_assert_eq(runtime_job_json(&job, &command, &json, &len), 0);
	cr_assert_eq(strlen(json), len);
	command_clear(&command);
	job_clear(&job);
	return json;
}

Test(executor_runtime, is_made_of_what_the_image_says)
{
	char *argv[] = {(char *)"/x", (char *)"-y", NULL}, *names[] = {(char *)"x", NULL};
	struct runtime other;
	image.runtime = (struct image_runtime){0};
	cr_expect_eq(runtime_make(&image, &runtime), 1);
	image.runtime.shipped = (char *)"perl";
	cr_expect_eq(runtime_make(&image, &runtime), -ENOENT);
	use("python3");
	cr_expect_str_eq(runtime.command.text, "python3");
	cr_expect_eq(runtime.command.argc, 3);
	cr_expect_eq(runtime.command.envc, 2);
	image.runtime = (struct image_runtime){.argv = argv, .serves = names};
	cr_assert_eq(runtime_make(&image, &other), 0);
	cr_expect_str_eq(other.command.text, "/x");
	cr_expect(!runtime_equal(&runtime, &other));
	runtime_clear(&other);
	use("node");
	cr_assert_eq(runtime_make(&image, &other), 0);
	cr_expect(runtime_equal(&runtime, &other));
	runtime_clear(&other);
	runtime_clear(&runtime);
}

Test(executor_runtime, python_serves)
{
	use("python3");
	static const char *const good[] = {"{\"argv\":[\"python3\",\"a.py\"]}", "{\"argv\":[\"/usr/bin/python3\",\"/a.py\",\"-x\"]}",
		"{\"argv\":[\"python3\",\"-c\",\"\"]}", "{\"argv\":[\"python3\",\"-m\",\"m\",\"-x\"]}",
		"{\"argv\":[\"python3\",\"a\"],\"env\":[\"A=b\",\"LAN=1\"]}", "{\"argv\":[\"python3\",\"a\"],\"limits\":{\"pids\":1,\"wall_ms\":5}}",
		"{\"argv\":[\"python3\",\"a\"],\"files\":{\"/work/a\":{\"data\":\"\"}}}"};
	static const char *const bad[] = {"{\"argv\":[\"python3\"]}", "{\"argv\":[\"python3\",\"-\"]}", "{\"argv\":[\"python3\",\"\"]}",
		"{\"argv\":[\"python3\",\"-c\"]}", "{\"argv\":[\"python3\",\"-u\",\"a\"]}", "{\"argv\":[\"python3\",\"-cpass\"]}",
		"{\"argv\":[\"python3.11\",\"a\"]}", "{\"argv\":[\"/usr/bin/true\",\"a\"]}", "{\"argv\":[\"python3\",\"a\"],\"env\":[\"PYTHONPATH=/\"]}",
		"{\"argv\":[\"python3\",\"a\"],\"env\":[\"LC_ALL=C\"]}", "{\"argv\":[\"python3\",\"a\"],\"env\":[\"PATH=/\"]}",
		"{\"argv\":[\"python3\",\"a\"],\"env\":[\"LD_PRELOAD=x\"]}", "{\"argv\":[\"python3\",\"a\"],\"limits\":{\"open_files\":255}}",
		"{\"argv\":[\"python3\",\"a\"],\"limits\":{\"stack_bytes\":8388608}}", "{\"argv\":[\"python3\",\"a\"],\"layers\":[\"" ID_A "\"]}",
		"{\"argv\":[\"python3\",\"a\"],\"files\":{\"/work/a\":{\"blob\":\"" ID_A "\"}}}"};
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		cr_expect(serves(good[i]), "%s", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect(!serves(bad[i]), "%s", bad[i]);
	runtime_clear(&runtime);
}

Test(executor_runtime, node_serves)
{
	use("node");
	cr_expect(serves("{\"argv\":[\"node\",\"a.js\",\"-x\"]}"));
	cr_expect(serves("{\"argv\":[\"node\",\"-e\",\"0\",\"x\"]}"));
	cr_expect(!serves("{\"argv\":[\"node\",\"-e\",\"0\",\"-x\"]}"));
	cr_expect(!serves("{\"argv\":[\"node\",\"inspect\",\"a\"]}"));
	cr_expect(!serves("{\"argv\":[\"node\",\"a.js\"],\"limits\":{\"pids\":8}}"), "its threads would not fit");
	cr_expect(!serves("{\"argv\":[\"node\",\"a.js\"],\"env\":[\"NODE_OPTIONS=x\"]}"));
	runtime_clear(&runtime);
}

Test(executor_runtime, files_beyond_a_mebibyte_are_not_served)
{
	use("python3");
	for (size_t len = RUNTIME_FILES_MAX - 1; len <= RUNTIME_FILES_MAX; len++) {
		_cleanup_free_ char *text = NULL;
		_cleanup_free_ char *data = malloc(len + 1);
		cr_assert(data);
		memset(data, 'x', len);
		data[len] = '\0';
		cr_assert(asprintf(&text, "{\"argv\":[\"python3\",\"a\"],\"files\":{\"/work/a\":{\"data\":\"%s\"},\"/work/b\":{\"data\":\"y\"}}}", data) > 0);
		cr_expect_eq(serves(text), len < RUNTIME_FILES_MAX);
	}
	runtime_clear(&runtime);
}

Test(executor_runtime, job_as_json)
{
	_cleanup_free_ char *json = json_of("{\"argv\":[\"a\",\"\\\"\\n\\u00e4\"],\"env\":[\"K=v=w\",\"E=\"],\"cwd\":\"/x\","
					    "\"files\":{\"/work/f\":{\"base64\":\"AAE=\",\"mode\":\"755\"},\"/work/g\":{\"data\":\"\"}}}");
	cr_expect_str_eq(json, "{\"argv\":[\"a\",\"\\\"\\n\u00e4\"],\"env\":{\"K\":\"v=w\",\"E\":\"\",\"PATH\":\"/bin\",\"HOME\":\"/work\"},\"cwd\":\"/x\","
			       "\"files\":[{\"path\":\"/work/f\",\"mode\":493,\"data\":\"AAE=\"},{\"path\":\"/work/g\",\"mode\":420,\"data\":\"\"}]}");
	_cleanup_free_ char *bare = json_of("{\"argv\":[\"a\"]}");
	cr_expect_str_eq(bare, "{\"argv\":[\"a\"],\"env\":{\"PATH\":\"/bin\",\"HOME\":\"/work\"},\"cwd\":\"/work\",\"files\":[]}");
}

Test(executor_runtime, what_json_cannot_say_is_refused)
{
	char *odd[] = {(char *)"a\xff", NULL}, *no_equals[] = {(char *)"NOVALUE", NULL};
	struct command command = {0};
	char *json = NULL;
	size_t len;
	struct job plain = {.argv = odd};
	cr_assert_eq(command_make(&command, &plain, &image), 0);
	cr_expect_eq(runtime_job_json(&plain, &command, &json, &len), -EILSEQ);
	command_clear(&command);
	plain = (struct job){.argv = path_env, .env = no_equals};
	cr_assert_eq(command_make(&command, &plain, &image), 0);
	cr_expect_eq(runtime_job_json(&plain, &command, &json, &len), -EINVAL);
	cr_expect_null(json);
	command_clear(&command);
}
