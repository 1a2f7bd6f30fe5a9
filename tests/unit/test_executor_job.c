#include "tests/unit/executor_job.h"

Test(job, every_field)
{
	accept("{\"id\":\"sub-42\",\"image\":\"gcc:13\",\"layers\":[\"" ID_A "\",\"" ID_B "\"],"
	       "\"argv\":[\"/usr/bin/python3\",\"\",\"main.py\"],\"env\":[\"LANG=C.UTF-8\",\"EMPTY=\",\"A=b=c\"],"
	       "\"cwd\":\"/work//x/\",\"policy\":\"judge\",\"network\":\"loopback\",\"stdin\":{\"data\":\"1 2\\n\"},"
	       "\"files\":{\"/work//./main.py\":{\"data\":\"a\\u0000b\",\"mode\":\"0755\"},"
	       "\"/work/b\":{\"base64\":\"AP8B\"},\"/work/c\":{\"blob\":\"" ID_A "\",\"mode\":\"400\"}},"
	       "\"collect\":[\"/work/out.txt\",{\"path\":\"/work/log/\",\"optional\":true,\"as\":\"inline\","
	       "\"max_bytes\":4096},{\"path\":\"/x\",\"as\":\"blob\"},{\"path\":\"/y\",\"as\":\"inline\"}],"
	       "\"commit\":\"/work\",\"priority\":\"high\",\"tenant\":\"school-7\",\"not_after_ms\":1790000000000,"
	       "\"worker\":null,\"reply\":\"my-frontend\",\"meta\":{\"anything\":[1,2.5]},"
	       "\"limits\":{\"wall_ms\":1000,\"cpus\":0.5,\"cpuset\":\"0-1\",\"io\":{\"riops\":100}}}");
	cr_assert_str_eq(job.id, "sub-42");
	cr_assert_str_eq(job.image, "gcc:13");
	cr_assert_eq(job.nlayers, 2);
	cr_assert_eq(job.layers[0][15], 0x0f);
	cr_assert_eq(job.layers[1][0], 0xff);
	cr_assert_str_eq(job.argv[0], "/usr/bin/python3");
	cr_assert_str_eq(job.argv[1], "");
	cr_assert_str_eq(job.argv[2], "main.py");
	cr_assert_null(job.argv[3]);
	cr_assert_str_eq(job.env[2], "A=b=c");
	cr_assert_null(job.env[3]);
	cr_assert_str_eq(job.cwd, "/work/x");
	cr_assert_eq(job.network, JOB_NETWORK_LOOPBACK);
	cr_assert_eq(job.stdin_source.kind, JOB_SOURCE_DATA);
	cr_assert_eq(job.stdin_source.len, 4);
	cr_assert_eq(job.nfiles, 3);
	cr_assert_str_eq(job.files[0].path, "/work/main.py");
	cr_assert_eq(job.files[0].mode, 0755);
	cr_assert_eq(job.files[0].source.len, 3);
	cr_assert_eq(memcmp(job.files[0].source.data, "a\0b", 3), 0);
	cr_assert_eq(job.files[1].mode, 0644);
	cr_assert_eq(job.files[1].source.len, 3);
	cr_assert_eq(memcmp(job.files[1].source.data, "\0\xff\x01", 3), 0);
	cr_assert_eq(job.files[2].source.kind, JOB_SOURCE_BLOB);
	cr_assert_eq(job.files[2].source.blob[1], 1);
	cr_assert_eq(job.files[2].mode, 0400);
	cr_assert_eq(job.ncollect, 4);
	cr_assert_str_eq(job.collect[0].path, "/work/out.txt");
	cr_assert_not(job.collect[0].optional);
	cr_assert_not(job.collect[0].as_inline);
	cr_assert_eq(job.collect[0].max_bytes, job.limits.disk_bytes);
	cr_assert_str_eq(job.collect[1].path, "/work/log");
	cr_assert(job.collect[1].optional);
	cr_assert(job.collect[1].as_inline);
	cr_assert_eq(job.collect[1].max_bytes, 4096);
	cr_assert_not(job.collect[2].as_inline);
	cr_assert_eq(job.collect[3].max_bytes, JOB_INLINE_DEFAULT);
	cr_assert_str_eq(job.commit, "/work");
	cr_assert_eq(job.priority, JOB_PRIORITY_HIGH);
	cr_assert_str_eq(job.tenant, "school-7");
	cr_assert_eq(job.not_after_ms, 1790000000000);
	cr_assert_null(job.worker);
	cr_assert_str_eq(job.reply, "my-frontend");
	cr_assert_eq(json_array_size(json_object_get(job.meta, "anything")), 2);
	cr_assert_eq(job.limits.wall_ms, 1000);
	cr_assert_eq(job.limits.cpu_ms, 2000);
	cr_assert_eq(job.limits.cpus_milli, 500);
	cr_assert_str_eq(job.limits.cpuset, "0-1");
	cr_assert_eq(job.limits.io.riops, 100);
	/* Checked twice, nothing changes. */
	cr_assert_eq(job_check(&job, NULL, &reject), 0);
	cr_assert_eq(job.collect[1].max_bytes, 4096);
	job_clear(&job);
	job_clear(&job);
}

Test(job, defaults)
{
	accept("{}");
	cr_assert_str_empty(job.id);
	cr_assert_str_eq(job.image, "host");
	cr_assert_str_eq(job.policy, "judge");
	cr_assert_null(job.argv);
	cr_assert_null(job.env);
	cr_assert_null(job.cwd);
	cr_assert_eq(job.network, JOB_NETWORK_NONE);
	cr_assert_eq(job.priority, JOB_PRIORITY_NORMAL);
	cr_assert_eq(job.stdin_source.kind, JOB_SOURCE_NONE);
	cr_assert_null(job.meta);
	cr_assert_eq(memcmp(&job.limits, &job_limits_default, sizeof(job.limits)), 0);
	job_clear(&job);
}

Test(job, null_is_absent)
{
	accept("{\"id\":null,\"image\":null,\"layers\":null,\"argv\":null,\"env\":null,\"cwd\":null,\"policy\":null,"
	       "\"network\":null,\"stdin\":null,\"files\":null,\"collect\":null,\"commit\":null,\"priority\":null,"
	       "\"tenant\":null,\"not_after_ms\":null,\"worker\":null,\"reply\":null,\"meta\":null,\"limits\":null}");
	cr_assert_str_eq(job.image, "host");
	cr_assert_null(job.argv);
	cr_assert_null(job.meta);
	cr_assert_eq(job.not_after_ms, 0);
	job_clear(&job);
	accept("{\"stdin\":{\"data\":null,\"blob\":\"" ID_A "\"},\"files\":{\"/a\":{\"data\":\"\",\"mode\":null}},"
	       "\"collect\":[{\"path\":\"/a\",\"optional\":null,\"as\":null,\"max_bytes\":null}]}");
	cr_assert_eq(job.stdin_source.kind, JOB_SOURCE_BLOB);
	job_clear(&job);
}

Test(job, empty_collections)
{
	accept("{\"layers\":[],\"env\":[],\"files\":{},\"collect\":[],\"limits\":{\"io\":{}}}");
	cr_assert_eq(job.nfiles + job.ncollect + job.nlayers, 0);
	cr_assert_null(job.env[0]);
	job_clear(&job);
}

Test(job, not_a_document)
{
	static const char *const texts[] = {"", " ", "null", "7", "\"x\"", "[]", "{", "{}x", "{}{}", "{\"id\":}",
		"{'id':1}", "{\"id\":\"a\",}", "{\"id\":\"a\",\"id\":\"b\"}", "{\"limits\":{\"pids\":1,\"pids\":2}}",
		"{\"id\":\"\xff\"}", "{\"meta\":\"\xc0\xaf\"}", "{\"meta\":\"\xed\xa0\x80\"}", "{\"meta\":\"\\ud800\"}",
		"{\"meta\":NaN}", "{\"a\\u0000\":1}", "\xef\xbb\xbf{}"};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		refuse(texts[i], "", REJECT_INVALID);
	cr_assert_eq(parse_len("{}\0", 3, NULL), 1);
	job_clear(&job);
}

Test(job, unknown_fields_by_path)
{
	static const char *const cases[][2] = {{"{\"wal_ms\":1}", "wal_ms"}, {"{\"\":1}", ""}, {"{\"Id\":\"a\"}", "Id"},
		{"{\"limit\":null}", "limit"}, {"{\"limits\":{\"wal_ms\":1}}", "limits.wal_ms"},
		{"{\"limits\":{\"io\":{\"bps\":1}}}", "limits.io.bps"},
		{"{\"stdin\":{\"data\":\"\",\"mode\":\"0644\"}}", "stdin.mode"},
		{"{\"files\":{\"/a\":{\"data\":\"\",\"owner\":0}}}", "files./a.owner"},
		{"{\"collect\":[\"/a\",{\"path\":\"/b\",\"max\":1}]}", "collect[1].max"}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		refuse(cases[i][0], cases[i][1], REJECT_INVALID);
}

Test(job, wrong_values_by_field)
{
	static const char *const cases[][2] = {{"{\"id\":7}", "id"}, {"{\"id\":\"\"}", "id"},
		{"{\"id\":\"a b\"}", "id"}, {"{\"id\":\"a/b\"}", "id"}, {"{\"id\":\"a\\u0000\"}", "id"},
		{"{\"id\":\"\xc3\xa9\"}", "id"}, {"{\"image\":7}", "image"}, {"{\"image\":\"\"}", "image"},
		{"{\"image\":\"a b\"}", "image"}, {"{\"image\":\"a\\u0000b\"}", "image"},
		{"{\"policy\":\"../p\"}", "policy"}, {"{\"policy\":[]}", "policy"}, {"{\"layers\":{}}", "layers"},
		{"{\"layers\":[7]}", "layers[0]"}, {"{\"layers\":[null]}", "layers[0]"},
		{"{\"layers\":[\"" ID_A "\",\"xxh128:0\"]}", "layers[1]"},
		{"{\"layers\":[\"" ID_A "\",\"" ID_B "\",\"" ID_A "\"]}", "layers[2]"},
		{"{\"layers\":[\"" ID_A "\\u0000\"]}", "layers[0]"}, {"{\"argv\":\"ls\"}", "argv"},
		{"{\"argv\":[]}", "argv"}, {"{\"argv\":[\"\"]}", "argv[0]"}, {"{\"argv\":[\"a\",7]}", "argv[1]"},
		{"{\"argv\":[\"a\",null]}", "argv[1]"}, {"{\"argv\":[\"a\",\"b\\u0000c\"]}", "argv[1]"},
		{"{\"env\":{}}", "env"}, {"{\"env\":[\"A\"]}", "env[0]"}, {"{\"env\":[\"A=1\",\"=x\"]}", "env[1]"},
		{"{\"env\":[\"\"]}", "env[0]"}, {"{\"env\":[\"A=\\u0000\"]}", "env[0]"}, {"{\"cwd\":\"\"}", "cwd"},
		{"{\"cwd\":\"work\"}", "cwd"}, {"{\"cwd\":\"/work/../etc\"}", "cwd"},
		{"{\"cwd\":\"/a\\u0000\"}", "cwd"}, {"{\"cwd\":1}", "cwd"}, {"{\"network\":\"host\"}", "network"},
		{"{\"network\":true}", "network"}, {"{\"network\":\"none\\u0000\"}", "network"},
		{"{\"stdin\":\"x\"}", "stdin"}, {"{\"stdin\":{}}", "stdin"},
		{"{\"stdin\":{\"data\":\"\",\"base64\":\"\"}}", "stdin"}, {"{\"stdin\":{\"data\":7}}", "stdin.data"},
		{"{\"stdin\":{\"base64\":\"Zg\"}}", "stdin.base64"},
		{"{\"stdin\":{\"base64\":\"Zg=\\u0000\"}}", "stdin.base64"},
		{"{\"stdin\":{\"base64\":[]}}", "stdin.base64"}, {"{\"stdin\":{\"blob\":\"x\"}}", "stdin.blob"},
		{"{\"files\":[]}", "files"}, {"{\"files\":{\"/a\":\"x\"}}", "files./a"},
		{"{\"files\":{\"/a\":{}}}", "files./a"}, {"{\"files\":{\"/a\":null}}", "files./a"},
		{"{\"files\":{\"/a\":{\"mode\":\"0644\"}}}", "files./a"},
		{"{\"files\":{\"a\":{\"data\":\"\"}}}", "files.a"}, {"{\"files\":{\"\":{\"data\":\"\"}}}", "files."},
		{"{\"files\":{\"/\":{\"data\":\"\"}}}", "files./"},
		{"{\"files\":{\"//.\":{\"data\":\"\"}}}", "files.//."},
		{"{\"files\":{\"/a/../b\":{\"data\":\"\"}}}", "files./a/../b"},
		{"{\"files\":{\"/a\":{\"data\":\"\",\"mode\":420}}}", "files./a.mode"},
		{"{\"files\":{\"/a\":{\"data\":\"\",\"mode\":\"4755\"}}}", "files./a.mode"},
		{"{\"files\":{\"/a\":{\"data\":\"\",\"mode\":\"2755\"}}}", "files./a.mode"},
		{"{\"files\":{\"/a\":{\"data\":\"\",\"mode\":\"1777\"}}}", "files./a.mode"},
		{"{\"files\":{\"/a\":{\"data\":\"\",\"mode\":\"0o644\"}}}", "files./a.mode"},
		{"{\"files\":{\"/a\":{\"data\":\"\",\"mode\":\"0648\"}}}", "files./a.mode"},
		{"{\"files\":{\"/a\":{\"data\":\"\",\"mode\":\"064\\u0000\"}}}", "files./a.mode"},
		{"{\"files\":{\"/a\":{\"data\":\"\",\"mode\":\"\"}}}", "files./a.mode"},
		{"{\"files\":{\"/a/b\":{\"data\":\"\"},\"/a//b\":{\"data\":\"\"}}}", "files./a/b"},
		{"{\"files\":{\"/a/b\":{\"data\":\"\"},\"/a-c\":{\"data\":\"\"},\"/a\":{\"data\":\"\"}}}",
			"files./a/b"},
		{"{\"collect\":\"/a\"}", "collect"}, {"{\"collect\":[7]}", "collect[0]"},
		{"{\"collect\":[{}]}", "collect[0]"}, {"{\"collect\":[\"a\"]}", "collect[0]"},
		{"{\"collect\":[\"/\"]}", "collect[0]"}, {"{\"collect\":[\"/a\\u0000\"]}", "collect[0]"},
		{"{\"collect\":[\"/a\",\"/b\",\"/a/\"]}", "collect[2]"},
		{"{\"collect\":[{\"path\":7}]}", "collect[0].path"},
		{"{\"collect\":[{\"path\":\"/a\",\"as\":\"file\"}]}", "collect[0].as"},
		{"{\"collect\":[{\"path\":\"/a\",\"optional\":1}]}", "collect[0].optional"},
		{"{\"collect\":[{\"path\":\"/a\",\"max_bytes\":0}]}", "collect[0].max_bytes"},
		{"{\"collect\":[{\"path\":\"/a\",\"max_bytes\":-1}]}", "collect[0].max_bytes"},
		{"{\"collect\":[{\"path\":\"/a\",\"max_bytes\":1.5}]}", "collect[0].max_bytes"},
		{"{\"commit\":\"/\"}", "commit"}, {"{\"commit\":\"work\"}", "commit"},
		{"{\"commit\":\"/work/..\"}", "commit"}, {"{\"priority\":\"urgent\"}", "priority"},
		{"{\"priority\":1}", "priority"}, {"{\"tenant\":\"a:b\"}", "tenant"}, {"{\"tenant\":\"\"}", "tenant"},
		{"{\"worker\":\"a b\"}", "worker"}, {"{\"reply\":\"a}b\"}", "reply"}, {"{\"reply\":7}", "reply"},
		{"{\"not_after_ms\":-1}", "not_after_ms"}, {"{\"not_after_ms\":0}", "not_after_ms"},
		{"{\"not_after_ms\":1.5}", "not_after_ms"}, {"{\"not_after_ms\":\"soon\"}", "not_after_ms"},
		{"{\"limits\":[]}", "limits"}, {"{\"limits\":{\"pids\":0}}", "limits.pids"}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		refuse(cases[i][0], cases[i][1], REJECT_INVALID);
}

Test(job, numbers_beyond_64_bits_name_their_field)
{
	refuse("{\"limits\":{\"wall_ms\":9223372036854775808}}", "limits.wall_ms", REJECT_TOO_LARGE);
	refuse("{\"limits\":{\"pids\":3,\"io\":{\"rbps\":-99999999999999999999}}}", "limits.io.rbps", REJECT_TOO_LARGE);
	refuse("{\"meta\":{\"n\":1e300},\"not_after_ms\":1000000000000000000000}", "not_after_ms", REJECT_TOO_LARGE);
	refuse("{\"meta\":{\"n\":[0,18446744073709551616]}}", "meta.n[1]", REJECT_TOO_LARGE);
	refuse("{\"limits\":{\"cpus\":1e999}}", "", REJECT_TOO_LARGE);
	cr_assert_eq(
		parse("{\"limits\":{\"wall_ms\":99999999999999999999},\"id\":\"a\",\"reply\":\"r\",\"meta\":[1]}"), 1);
	cr_assert_str_eq(job.id, "a");
	cr_assert_str_eq(job.reply, "r");
	cr_assert_null(job.meta, "its integers were read as reals: not to be echoed");
	job_clear(&job);
}

Test(job, a_refusal_keeps_what_identifies_the_job)
{
	cr_assert_eq(parse("{\"argv\":[],\"meta\":{\"k\":1},\"reply\":\"r\",\"id\":\"sub-1\"}"), 1);
	cr_assert_str_eq(reject.field, "argv");
	cr_assert_str_eq(job.id, "sub-1");
	cr_assert_str_eq(job.reply, "r");
	cr_assert_not_null(job.meta);
	job_clear(&job);
	cr_assert_eq(parse("{\"nonesuch\":1,\"id\":\"no good\",\"meta\":7,\"reply\":\"r\"}"), 1);
	cr_assert_str_eq(reject.field, "id");
	cr_assert_str_empty(job.id);
	cr_assert_eq(json_integer_value(job.meta), 7);
	cr_assert_str_eq(job.reply, "r");
	job_clear(&job);
	cr_assert_eq(parse("{\"id\":\"a\",\"reply\":\"\",\"meta\":1}"), 1);
	cr_assert_str_eq(reject.field, "reply");
	cr_assert_str_eq(job.id, "a");
	cr_assert_not_null(job.meta);
	cr_assert_null(job.reply);
	job_clear(&job);
}

Test(job, id_valid)
{
	cr_assert(job_id_valid("A-Za-z0-9._-"));
	cr_assert(job_id_valid("1700000000000-0"));
	cr_assert_not(job_id_valid(""));
	cr_assert_not(job_id_valid("a:b"));
	cr_assert_not(job_id_valid("a\n"));
	cr_assert_not(job_id_valid("a{b}"));
}

Test(job, files_beside_each_other_are_fine)
{
	accept("{\"files\":{\"/a/b\":{\"data\":\"\"},\"/a/bc\":{\"data\":\"\"},\"/a/b-\":{\"data\":\"\"},"
	       "\"/a/c/d\":{\"data\":\"\"},\"/a/...\":{\"data\":\"\"},\"/a/..b\":{\"data\":\"\"}}}");
	job_clear(&job);
}

Test(job, max_limits_cap_wishes_and_defaults)
{
	struct job_limits max = job_limits_ceiling;
	max.wall_ms = 5000;
	max.io.rbps = 1 << 20;
	const char *text = "{\"argv\":[\"a\"]}";
	cr_assert_eq(
		parse_len(text, strlen(text), &max), 0, "a default above the worker's limit is not the job's wish");
	cr_assert_eq(job.limits.wall_ms, 5000);
	cr_assert_eq(job.limits.io.rbps, 1 << 20);
	job_clear(&job);
	text = "{\"limits\":{\"wall_ms\":10000}}";
	cr_assert_eq(parse_len(text, strlen(text), &max), 1);
	cr_assert_str_eq(reject.field, "limits.wall_ms");
	cr_assert_eq(reject.reason, REJECT_TOO_LARGE);
	job_clear(&job);
	text = "{\"limits\":{\"io\":{\"rbps\":1048577}}}";
	cr_assert_eq(parse_len(text, strlen(text), &max), 1);
	cr_assert_str_eq(reject.field, "limits.io.rbps");
	job_clear(&job);
}

Test(job, every_prefix_of_a_document_is_harmless)
{
	static const char text[] =
		"{\"id\":\"a\",\"argv\":[\"a\",\"\\u00e9\"],\"files\":{\"/a\":{\"base64\":\"Zg==\"}},"
		"\"collect\":[{\"path\":\"/a\"}],\"limits\":{\"io\":{\"rbps\":65536}},\"meta\":[1.5]}";
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		/* An exact copy, so that a sanitizer sees a byte read too far. */
		char *copy = malloc(len ? len : 1);
		memcpy(copy, text, len);
		cr_assert_eq(parse_len(copy, len, NULL), 1, "%zu", len);
		job_clear(&job);
		free(copy);
	}
	accept(text);
	job_clear(&job);
}

Test(job, path_normalise)
{
	static const struct {
		const char *path, *want;
		int r;
	} cases[] = {{"/", "/", 0}, {"//", "/", 0}, {"/.", "/", 0}, {"/./", "/", 0}, {"/a", "/a", 0}, {"/a/", "/a", 0},
		{"/a//b/./c/", "/a/b/c", 0}, {"/...", "/...", 0}, {"/..a", "/..a", 0}, {"/a./.b", "/a./.b", 0},
		{"/ ", "/ ", 0}, {"", NULL, -EINVAL}, {"a", NULL, -EINVAL}, {"./a", NULL, -EINVAL},
		{"/..", NULL, -EINVAL}, {"/a/..", NULL, -EINVAL}, {"/a/../b", NULL, -EINVAL}, {"..", NULL, -EINVAL}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char out[JOB_PATH_MAX + 1] = "untouched";
		cr_assert_eq(job_path_normalise(cases[i].path, strlen(cases[i].path), out), cases[i].r, "'%s'",
			cases[i].path);
		cr_assert_str_eq(out, cases[i].want ? cases[i].want : "untouched", "'%s'", cases[i].path);
	}
	char out[JOB_PATH_MAX + 1] = "untouched";
	cr_assert_eq(job_path_normalise("/a\0b", 4, out), -EINVAL);
	char *path = repeat("/x", "", 2048);
	cr_assert_eq(job_path_normalise(path, 4096, out), -ENAMETOOLONG);
	cr_assert_str_eq(out, "untouched");
	cr_assert_eq(job_path_normalise(path, 4095, out), 0, "the last slash goes");
	cr_assert_eq(strlen(out), 4094);
	free(path);
	path = repeat("/", "", 100000);
	cr_assert_eq(job_path_normalise(path, 100000, out), 0);
	cr_assert_str_eq(out, "/");
	free(path);
}

/* A job from flags is held to the same. */
Test(job, check_without_json)
{
	job_init(&job);
	char *argv[] = {strdup("ls"), NULL};
	job.argv = malloc(sizeof(argv));
	memcpy(job.argv, argv, sizeof(argv));
	job.cwd = strdup("//work/");
	job.stdin_source.kind = JOB_SOURCE_STREAM;
	cr_assert_eq(job_check(&job, NULL, &reject), 0);
	cr_assert_str_eq(job.cwd, "/work");
	job.limits.memory_bytes = 1;
	cr_assert_eq(job_check(&job, NULL, &reject), 1);
	cr_assert_str_eq(reject.field, "limits.memory_bytes");
	job.limits.memory_bytes = 1 << 20;
	job.files = calloc(1, sizeof(*job.files));
	job.nfiles = 1;
	job.files[0] = (struct job_file){.path = strdup("/x"), .mode = 04755};
	cr_assert_eq(job_check(&job, NULL, &reject), 1);
	cr_assert_str_eq(reject.field, "files./x");
	job_clear(&job);
}

Test(job, names)
{
	cr_assert_str_eq(reject_reason_name(REJECT_INVALID), "invalid");
	cr_assert_str_eq(reject_reason_name(REJECT_MISSING), "missing");
	cr_assert_str_eq(reject_reason_name(REJECT_UNSUPPORTED), "unsupported");
	cr_assert_str_eq(reject_reason_name(REJECT_TOO_LARGE), "too_large");
	cr_assert_str_eq(job_network_name(JOB_NETWORK_LOOPBACK), "loopback");
	cr_assert_eq(job_network_from_name("none"), JOB_NETWORK_NONE);
	cr_assert_eq(job_network_from_name("host"), JOB_NETWORK_MAX);
	cr_assert_str_eq(job_priority_name(JOB_PRIORITY_LOW), "low");
}
