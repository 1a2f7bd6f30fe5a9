/* What an image says of its runtime: parsing, keeping, and descriptions from before there was one. */
#include "test_layers_util.h"

static int parse(const char *text, struct image_runtime *ret, struct err *err)
{
	*err = (struct err)ERR_INIT;
	return image_runtime_parse(text, strlen(text), ret, err);
}

Test(layers_image_runtime, parses)
{
	struct image_runtime runtime = {0};
	struct err err;
	cr_assert_eq(parse("{\"argv\": [\"/a\", \"\"], \"serves\": [\"b\", \"c\"]}", &runtime, &err), 0, "%s", err_msg(&err));
	cr_expect_null(runtime.shipped);
	cr_expect_str_eq(runtime.argv[0], "/a");
	cr_expect_str_eq(runtime.argv[1], "");
	cr_expect_null(runtime.argv[2]);
	cr_expect_str_eq(runtime.serves[1], "c");
	image_runtime_clear(&runtime);
	cr_expect_null(runtime.argv);
}

Test(layers_image_runtime, names_the_field)
{
	static const struct {
		const char *text, *said;
	} bad[] = {
		{"", "line"},
		{"[]", "runtime must be an object"},
		{"{}", "runtime.argv is missing"},
		{"{\"argv\": \"x\", \"serves\": [\"x\"]}", "runtime.argv must be a list"},
		{"{\"argv\": [], \"serves\": [\"x\"]}", "runtime.argv must be a list"},
		{"{\"argv\": [\"\"], \"serves\": [\"x\"]}", "runtime.argv[0]"},
		{"{\"argv\": [\"x\", 1], \"serves\": [\"x\"]}", "runtime.argv[1]"},
		{"{\"argv\": [\"x\"]}", "runtime.serves is missing"},
		{"{\"argv\": [\"x\"], \"serves\": [\"x\"], \"cwd\": \"/\"}", "runtime.cwd is not known"},
		{"{\"argv\": [\"x\"], \"argv\": [\"x\"], \"serves\": [\"x\"]}", "duplicate"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct image_runtime runtime = {0};
		struct err err;
		cr_expect_lt(parse(bad[i].text, &runtime, &err), 0, "%s", bad[i].text);
		cr_expect(strstr(err_msg(&err), bad[i].said), "%s: %s", bad[i].text, err_msg(&err));
		cr_expect_null(runtime.argv);
	}
}

Test(layers_image_runtime, is_bounded)
{
	struct image_runtime runtime = {0};
	struct err err;
	static char text[IMAGE_RUNTIME_BYTES_MAX + 100], word[IMAGE_RUNTIME_BYTES_MAX + 1];
	for (size_t len = IMAGE_RUNTIME_BYTES_MAX - 1; len <= IMAGE_RUNTIME_BYTES_MAX; len++) {
		memset(word, 'x', len);
		snprintf(text, sizeof(text), "{\"argv\": [\"%s\"], \"serves\": [\"x\"]}", word);
		cr_expect_eq(parse(text, &runtime, &err) == 0, len < IMAGE_RUNTIME_BYTES_MAX, "%s", err_msg(&err));
		image_runtime_clear(&runtime);
	}
}

Test(layers_image_runtime, is_kept_with_the_image)
{
	struct fixture f;
	struct image image;
	struct err err = ERR_INIT;
	char source[160];
	struct image_runtime shipped = {.shipped = (char *)"python3"}, own = {0};
	fixture_open(&f, true);
	cr_assert_eq(mkdirat(f.dirfd, "src", 0755), 0);
	snprintf(source, sizeof(source), "%s/src", f.dir);
	cr_assert_eq(image_import(f.store, "a", source, NULL, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(image_load(f.store, "a", &image, &err), 0, "%s", err_msg(&err));
	cr_expect_null(image.runtime.shipped);
	cr_expect_null(image.runtime.argv);
	image_clear(&image);
	cr_assert_eq(image_set_runtime(f.store, "a", &shipped, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(image_load(f.store, "a", &image, &err), 0, "%s", err_msg(&err));
	cr_expect_str_eq(image.runtime.shipped, "python3");
	cr_expect_str_eq(image.name, "a");
	cr_expect_eq(image.nlayers, 1);
	image_clear(&image);
	cr_assert_eq(parse("{\"argv\": [\"/a\", \"b\"], \"serves\": [\"c\"]}", &own, &err), 0);
	cr_assert_eq(image_set_runtime(f.store, "a", &own, &err), 0, "%s", err_msg(&err));
	image_runtime_clear(&own);
	cr_assert_eq(image_load(f.store, "a", &image, &err), 0, "%s", err_msg(&err));
	cr_expect_str_eq(image.runtime.argv[1], "b");
	cr_expect_str_eq(image.runtime.serves[0], "c");
	image_clear(&image);
	cr_expect_eq(image_set_runtime(f.store, "none", &shipped, &err), -ENOENT);
	fixture_close(&f);
}
