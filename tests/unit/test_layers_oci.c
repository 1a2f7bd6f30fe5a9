/* Documents and archives of container images: what is chosen, what is refused, and the helpers that do it. */
#include "test_layers_util.h"

#include "layers/oci_bundle.h"
#include "layers/oci_import.h"

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define MANIFEST "\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\""
#define INDEX "\"mediaType\":\"application/vnd.oci.image.index.v1+json\""
#define HEAD "{\"schemaVersion\":2,\"manifests\":["

static const struct oci_want amd64 = {.os = "linux", .architecture = "amd64"};

static int choose(const char *text, const char *ref, struct oci_descriptor *ret, struct err *err)
{
	struct oci_want want = amd64;
	snprintf(want.ref, sizeof(want.ref), "%s", ref);
	return oci_index_parse(text, strlen(text), &want, ret, err);
}

Test(layers_oci, chooses_from_an_index)
{
	static const struct {
		const char *text, *ref;
		int first; /* byte of the digest, or an error */
	} cases[] = {
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1}]}", "", 0x11},
		/* The only one is taken, whatever it is for. */
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}}]}", "", 0x11},
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1},{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1}]}", "", 0x11},
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1},{" MANIFEST ",\"digest\":\"" D2 "\",\"size\":1}]}", "", -ENOENT},
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}},{" MANIFEST
		      ",\"digest\":\"" D2 "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}",
			"", 0x22},
		/* What needs more than the plain CPU is second choice. */
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\",\"variant\":\"v3\"}},{" MANIFEST
		      ",\"digest\":\"" D2 "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}",
			"", 0x22},
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},{" MANIFEST
		      ",\"digest\":\"" D2 "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}",
			"", -EINVAL},
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1,\"annotations\":{\"org.opencontainers.image.ref.name\":\"a\"}},{" MANIFEST
		      ",\"digest\":\"" D2 "\",\"size\":1,\"annotations\":{\"org.opencontainers.image.ref.name\":\"b\"}}]}",
			"b", 0x22},
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1,\"annotations\":{\"io.containerd.image.name\":\"reg/x:b\"}}]}", "reg/x:b", 0x11},
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1,\"annotations\":{\"org.opencontainers.image.ref.name\":\"reg:5000/x:b\"}}]}", "b", 0x11},
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1,\"annotations\":{\"org.opencontainers.image.ref.name\":\"reg:5000/x\"}}]}", "5000/x", -ENOENT},
		{HEAD "{" MANIFEST ",\"digest\":\"" D1 "\",\"size\":1}]}", "b", -ENOENT},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct oci_descriptor d;
		struct err err = ERR_INIT;
		int r = choose(cases[i].text, cases[i].ref, &d, &err);
		if (cases[i].first < 0)
			cr_expect_eq(r, cases[i].first, "%zu: %d %s", i, r, err_msg(&err));
		else
			cr_expect(r == 0 && d.sha256[0] == cases[i].first && d.size == 1 && !d.is_index, "%zu: %d %s", i, r, err_msg(&err));
	}
	struct oci_descriptor d;
	cr_expect_eq(choose(HEAD "{" INDEX ",\"digest\":\"" D1 "\",\"size\":9}]}", "", &d, NULL), 0);
	cr_expect(d.is_index);
}

Test(layers_oci, reads_a_configuration)
{
	static const char text[] = "{\"os\":\"linux\",\"architecture\":\"amd64\",\"variant\":\"v2\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D1 "\",\"" D2
				   "\"]},\"config\":{\"Env\":[\"A=b\",\"C=\"],\"Cmd\":[],\"Entrypoint\":null,\"WorkingDir\":\"/w\"}}";
	static struct oci_config c;
	struct err err = ERR_INIT;
	cr_assert_eq(oci_config_parse(text, strlen(text), &c, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(c.ndiff_ids, 2);
	cr_expect_eq(c.diff_ids[1][31], 0x22);
	cr_expect(c.env.present && c.env.count == 2 && c.cmd.present && c.cmd.count == 0 && !c.entrypoint.present);
	cr_expect_str_eq(c.text + c.env.at, "A=b");
	cr_expect_str_eq(c.text + c.env.at + 4, "C=");
	cr_expect_str_eq(c.text + c.cwd, "/w");
	cr_expect_str_eq(c.text + c.platform, "linux/amd64/v2");
	cr_expect_eq(c.user, OCI_NO_TEXT);
}

/* ---- archives ---- */

static struct oci_archive *index_of(int fd, int want)
{
	static struct oci_archive archive;
	struct err err = ERR_INIT;
	struct stat st;
	cr_assert_eq(fstat(fd, &st), 0);
	int r = oci_tar_index(fd, (uint64_t)st.st_size, &archive, &err);
	cr_assert_eq(r, want, "%d %s", r, err_msg(&err));
	close(fd);
	return &archive;
}

static const struct oci_file *file_of(const struct oci_archive *a, const char *name)
{
	for (size_t i = a->count; i-- > 0;)
		if (strcmp(a->files[i].name, name) == 0)
			return &a->files[i];
	return NULL;
}

Test(layers_oci, indexes_an_archive)
{
	struct oci_archive *a = index_of(TAR({"./oci-layout", '0', .data = "{}"}, {"./index.json", '0', .data = "old"}, {"./blobs", '5'},
						 {"./blobs/x", '0', .data = "content"}, {"./index.json", '0', .data = "newer"},
						 {"hard", '1', .link = "./blobs/x"}, {"dir/soft", '2', .link = "../hard"}, {"out", '2', .link = "../etc"},
						 {"round", '2', .link = "round"}, {"fifo", '6'}),
		0);
	cr_expect_eq(a->kind, OCI_KIND_LAYOUT);
	const struct oci_file *x = file_of(a, "blobs/x"), *hard = file_of(a, "hard"), *soft = file_of(a, "dir/soft");
	cr_assert(x && hard && soft);
	cr_expect(x->size == 7 && x->offset == 6 * 512, "%zu", (size_t)x->offset);
	cr_expect(hard->offset == x->offset && hard->size == 7 && soft->offset == x->offset);
	cr_expect_eq(file_of(a, "index.json")->size, 5, "the last of equal names counts");
	cr_expect(!file_of(a, "out") && !file_of(a, "round") && !file_of(a, "fifo") && !file_of(a, "blobs"));
}

Test(layers_oci, tells_archives_apart)
{
	cr_expect_eq(index_of(TAR({"manifest.json", '0', .data = "[]"}, {"a/layer.tar", '0', .data = "x"}), 0)->kind, OCI_KIND_DOCKER);
	cr_expect_eq(index_of(TAR({"manifest.json", '0', .data = "[]"}, {"app.js", '0', .data = "x"}), 0)->kind, OCI_KIND_TREE);
	cr_expect_eq(index_of(TAR({"etc/oci", '0', .data = "x"}, {"oci-layout", '0', .data = "{}"}), 0)->kind, OCI_KIND_TREE);
	cr_expect_eq(index_of(TAR({"oci-layout", '5'}), 0)->kind, OCI_KIND_TREE, "a directory of that name");
	cr_expect_eq(index_of(TAR({"x", '0', .data = "x"}), 0)->kind, OCI_KIND_TREE);
	int fd = memfd_create("x", MFD_CLOEXEC);
	cr_assert_eq(write(fd, "\x1f\x8b\x08rest", 8), 8);
	cr_expect_eq(index_of(fd, 0)->packing, OCI_PACKING_COMPRESSED);
	fd = memfd_create("x", MFD_CLOEXEC);
	cr_expect_eq(index_of(fd, 0)->kind, OCI_KIND_TREE, "nothing at all");
}

Test(layers_oci, sizes_out_of_an_archive)
{
	static const char *const sizes[] = {"77777777777", "00000010000", "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "-0000000001", "0x000000000"};
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char raw[12] = "";
		memcpy(raw, sizes[i], 11);
		(void)index_of(TAR({"oci-layout", '0', .data = "{}"}, {"blobs/x", '0', .data = "x", .raw_size = raw}), -EINVAL);
		cr_expect_eq(index_of(TAR({"something", '0', .data = "{}"}, {"blobs/x", '0', .data = "x", .raw_size = raw}), 0)->kind, OCI_KIND_TREE,
			"for the import of a plain tar to judge");
	}
}

/* ---- helpers ---- */

Test(layers_oci, helpers_refuse_by_name_and_leave_nothing)
{
	struct fixture f;
	struct oci_helper h;
	struct oci_descriptor d;
	struct oci_manifest m;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	cr_assert_eq(oci_helper_open(f.store, &h, &err), 0, "%s", err_msg(&err));
	static const char good[] = HEAD "{" MANIFEST ",\"digest\":\"" D2 "\",\"size\":1}]}";
	cr_assert_eq(oci_helper_index(&h, good, strlen(good), &amd64, &d, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(d.sha256[7], 0x22);
	cr_expect_eq(oci_helper_manifest(&h, good, strlen(good), &m, &err), -EOPNOTSUPP, "%s", err_msg(&err));
	cr_expect_eq(oci_helper_index(&h, "{\xff", 2, &amd64, &d, &err), -EINVAL);
	oci_helper_clear(&h);
	cr_expect_eq(count_in(store_layers_fd(f.store), "tmp"), 0);
	fixture_close(&f);
}

Test(layers_oci, bundles_open_through_no_link)
{
	struct fixture f;
	struct oci_helper h;
	struct oci_bundle b;
	struct oci_part part = OCI_PART_INIT;
	struct err err = ERR_INIT;
	fixture_open(&f, true);
	cr_assert_eq(mkdirat(f.dirfd, "l", 0755), 0);
	write_at(f.dirfd, "l/oci-layout", "{}", 0644);
	write_at(f.dirfd, "secret", "secret", 0644);
	cr_assert(symlinkat("../secret", f.dirfd, "l/link") == 0 && symlinkat("..", f.dirfd, "l/up") == 0 && mkfifoat(f.dirfd, "l/fifo", 0600) == 0);
	int fd = openat(f.dirfd, "l", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(oci_helper_open(f.store, &h, &err), 0);
	cr_assert_eq(oci_bundle_open(&h, fd, NULL, &b, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(b.kind, OCI_KIND_LAYOUT);
	cr_expect_eq(oci_bundle_find(&b, "oci-layout", &part, &err), 0);
	cr_expect_eq(part.size, 2);
	oci_part_clear(&part);
	static const char *const bad[] = {"link", "up/secret", "../secret", "fifo", "/etc/passwd", "absent", ".", ""};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect_lt(oci_bundle_find(&b, bad[i], &part, &err), 0, "%s", bad[i]);
	oci_bundle_clear(&b);
	oci_helper_clear(&h);
	close(fd);
	fixture_close(&f);
}

Test(layers_oci, repeated_layers_and_opaque_roots)
{
	struct oci_held held = {.count = 0};
	struct image image = {.nlayers = 0};
	static const char order[] = "abcab";
	for (const char *p = order; *p; p++) {
		struct layer_info layer = {.id = {(uint8_t)*p}};
		cr_assert_eq(oci_held_add(&held, &image, &layer, NULL), 0);
	}
	cr_assert_eq(image.nlayers, 3);
	cr_expect(image.layers[0][0] == 'c' && image.layers[1][0] == 'a' && image.layers[2][0] == 'b');
	struct layer_info opaque = {.id = {'o'}, .opaque = true};
	cr_assert_eq(oci_held_add(&held, &image, &opaque, NULL), 0);
	cr_expect(image.nlayers == 1 && image.layers[0][0] == 'o');
	while (held.count < IMAGE_LAYERS_MAX)
		cr_assert_eq(oci_held_add(&held, &image, &opaque, NULL), 0);
	cr_expect_eq(oci_held_add(&held, &image, &opaque, NULL), -E2BIG);
	oci_held_clear(&held);
}

Test(layers_oci, sizes_of_images)
{
	struct fixture f;
	struct image_size sizes[3];
	struct err err = ERR_INIT;
	char *names[] = {(char *)"a", (char *)"b", (char *)"c"}, path[128];
	fixture_open(&f, true);
	snprintf(path, sizeof(path), "%s/src", f.dir);
	cr_assert_eq(mkdirat(f.dirfd, "src", 0755), 0);
	write_at(f.dirfd, "src/x", "12345", 0644);
	cr_assert_eq(image_import(f.store, "a", path, NULL, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(image_sizes(f.store, names, 1, sizes, &err), 0);
	cr_expect(sizes[0].layers == 1 && sizes[0].bytes == 5 && sizes[0].own == 5);
	cr_assert_eq(image_import(f.store, "b", path, NULL, &err), 0, "%s", err_msg(&err));
	write_at(store_fd(f.store), "images/c.json", "{}", 0444);
	cr_assert_eq(image_sizes(f.store, names, 3, sizes, &err), 0);
	cr_expect(sizes[1].bytes == 5 && sizes[1].own == 0 && sizes[0].own == 0 && !sizes[0].error && sizes[2].error == -EINVAL);
	fixture_close(&f);
}
