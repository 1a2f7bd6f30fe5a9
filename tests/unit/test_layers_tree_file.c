/* The reader of canonical descriptions: what it takes, and what it refuses by name. */
#include "test_layers_util.h"

#include <endian.h>

#include "layers/tree_file.h"

struct bytes {
	size_t len;
	uint8_t data[4096];
};

static void put(struct bytes *b, const void *data, size_t len)
{
	cr_assert(b->len + len <= sizeof(b->data));
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void put_u32(struct bytes *b, uint32_t v)
{
	v = htobe32(v);
	put(b, &v, sizeof(v));
}

static void put_text(struct bytes *b, const char *text)
{
	put_u32(b, (uint32_t)strlen(text));
	put(b, text, strlen(text));
}

static void put_head(struct bytes *b, char type, uint32_t mode, uint32_t owner, const char *path)
{
	put(b, &type, 1);
	put_u32(b, mode);
	put_u32(b, owner);
	put_u32(b, owner);
	put_text(b, path);
}

static void put_plain(struct bytes *b, char type, uint32_t mode, const char *path)
{
	static const uint8_t size_and_sum[40];
	put_head(b, type, mode, 0, path);
	put_u32(b, 0);
	if (type == 'f')
		put(b, size_and_sum, sizeof(size_and_sum));
	if (type == 'l')
		put_text(b, "target");
}

static struct bytes begin(void)
{
	struct bytes b = {.len = 0};
	put(&b, TREE_FILE_MAGIC, strlen(TREE_FILE_MAGIC));
	return b;
}

/* Return: the last one of tree_file_next(), or of tree_file_open(). */
static int read_all(const struct bytes *b, size_t len, size_t *ret_entries, struct err *err)
{
	struct tree_file *t = NULL;
	struct tree_file_entry e;
	int fd = memfd_create("tree", MFD_CLOEXEC);
	cr_assert(fd >= 0 && fd_write_all(fd, b->data, len) == 0 && lseek(fd, 0, SEEK_SET) == 0);
	*ret_entries = 0;
	int r = tree_file_open(fd, NULL, &t, err);
	while (r == 0 && (r = tree_file_next(t, &e, err)) > 0) {
		r = 0;
		++*ret_entries;
	}
	tree_file_free(t);
	close(fd);
	return r;
}

static void refused(const struct bytes *b, const char *why)
{
	struct err err = ERR_INIT;
	size_t n;
	cr_expect_eq(read_all(b, b->len, &n, &err), -EUCLEAN, "%s", why);
	cr_expect(strstr(err_msg(&err), why), "'%s' says nothing of '%s'", err_msg(&err), why);
}

Test(layers_tree_file, every_type)
{
	struct bytes b = begin();
	struct err err = ERR_INIT;
	struct tree_file *t = NULL;
	struct tree_file_entry e;
	put_plain(&b, 'o', 0755, "");
	put_plain(&b, 'd', 01777, "a");
	put_plain(&b, 'f', 0, "a/b");
	put_plain(&b, 'w', 0, "a/c\n");
	put_plain(&b, 'l', 0, "a.b"); /* '.' is less than '/', and yet a/… comes first */
	put_head(&b, 'f', 0644, 65535, "z");
	put_u32(&b, 2);
	put_text(&b, "user.a");
	put_text(&b, "");
	put_text(&b, "user.b");
	put_text(&b, "value");
	put(&b, "\0\0\0\0\0\0\1\2", 8);
	put(&b, "0123456789abcdef0123456789abcdef", 32);
	int fd = memfd_create("tree", MFD_CLOEXEC);
	cr_assert(fd >= 0 && fd_write_all(fd, b.data, b.len) == 0 && lseek(fd, 0, SEEK_SET) == 0);
	cr_assert_eq(tree_file_open(fd, NULL, &t, &err), 0, "%s", err_msg(&err));
	static const struct {
		char type;
		const char *path, *name;
	} want[] = {{'o', "", ""}, {'d', "a", "a"}, {'f', "a/b", "b"}, {'w', "a/c\n", "c\n"}, {'l', "a.b", "a.b"}, {'f', "z", "z"}};
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		cr_assert_eq(tree_file_next(t, &e, &err), 1, "%s", err_msg(&err));
		cr_expect_eq((char)e.type, want[i].type);
		cr_expect_str_eq(e.path, want[i].path);
		cr_expect_str_eq(e.name, want[i].name);
	}
	cr_expect(e.size == 0x102 && e.uid == 65535 && e.gid == 65535 && e.mode == 0644);
	cr_assert_eq(e.nxattrs, 2);
	cr_expect_str_eq(e.xattrs[0].name, "user.a");
	cr_expect_eq(e.xattrs[0].len, 0);
	cr_expect_str_eq(e.xattrs[1].name, "user.b");
	cr_expect(e.xattrs[1].len == 5 && memcmp(e.xattrs[1].value, "value", 5) == 0);
	cr_expect(memcmp(e.sha256, "0123456789abcdef0123456789abcdef", 32) == 0);
	cr_expect_eq(tree_file_next(t, &e, &err), 0);
	tree_file_free(t);
	close(fd);
}

Test(layers_tree_file, bad_paths_are_refused)
{
	static const struct {
		const char *first, *second, *why;
	} cases[] = {
		{"", "a", "once more"}, {"../a", "b", "directory"}, {"..", "b", "'.' or '..'"}, {"a", "b/c", "directory"},
		{"a", "a", "out of order"}, {"b", "a", "out of order"}, {"b", "b/", "empty name"}, {"/a", "b", "absolute"},
		{"a", "a/..", "'.' or '..'"}, {"a", "/", "absolute"}, {"aa", "a/b", "directory"}, {"a", "a//b", "directory"}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bytes b = begin();
		put_plain(&b, 'd', 0755, "");
		put_plain(&b, 'd', 0755, cases[i].first);
		put_plain(&b, 'd', 0755, cases[i].second);
		refused(&b, cases[i].why);
	}
	struct bytes b = begin();
	put_plain(&b, 'd', 0755, "");
	put_plain(&b, 'f', 0644, "a");
	put_plain(&b, 'f', 0644, "a/b"); /* beneath a file */
	refused(&b, "directory");
}

Test(layers_tree_file, climbing_out_keeps_the_order)
{
	struct bytes b = begin();
	struct err err = ERR_INIT;
	size_t n;
	put_plain(&b, 'd', 0755, "");
	put_plain(&b, 'd', 0755, "a");
	put_plain(&b, 'd', 0755, "a/b");
	put_plain(&b, 'f', 0755, "a/b/c");
	put_plain(&b, 'f', 0755, "a/bb");
	size_t good = b.len;
	cr_expect_eq(read_all(&b, good, &n, &err), 0, "%s", err_msg(&err));
	cr_expect_eq(n, 5);
	put_plain(&b, 'f', 0755, "a/b/d"); /* a/b is closed */
	refused(&b, "directory");
	b.len = good;
	put_plain(&b, 'f', 0755, "a/ba");
	refused(&b, "out of order");
}

Test(layers_tree_file, bad_fields_are_refused)
{
	static const struct {
		char type;
		uint32_t mode, owner;
		const char *why;
	} cases[] = {{'f', 04755, 0, "mode"}, {'f', 0100644, 0, "mode"}, {'d', 02755, 0, "mode"}, {'f', 0644, 65536, "owner"},
		{'l', 0777, 0, "link"}, {'w', 0600, 0, "whiteout"}, {'w', 0, 1, "whiteout"}, {'c', 0, 0, "type"}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bytes b = begin();
		put_plain(&b, 'd', 0755, "");
		put_head(&b, cases[i].type, cases[i].mode, cases[i].owner, "x");
		put_u32(&b, 0);
		put(&b, b.data, 40);
		refused(&b, cases[i].why);
	}
	struct bytes b = begin();
	put_plain(&b, 'f', 0755, "");
	refused(&b, "root");
	b = begin();
	refused(&b, "no entries");
}

static void xattr_refused(const char *first, const char *second, const char *why)
{
	struct bytes b = begin();
	put_head(&b, 'd', 0755, 0, "");
	put_u32(&b, second ? 2 : 1);
	put_text(&b, first);
	put_text(&b, "v");
	if (second) {
		put_text(&b, second);
		put_text(&b, "v");
	}
	refused(&b, why);
}

Test(layers_tree_file, bad_attributes_are_refused)
{
	xattr_refused("trusted.overlay.opaque", NULL, "no layer has");
	xattr_refused("user.overlay.opaque", NULL, "no layer has");
	xattr_refused("security.capability", NULL, "no layer has");
	xattr_refused("user.", NULL, "no layer has");
	xattr_refused("user.b", "user.a", "out of order");
	xattr_refused("user.a", "user.a", "out of order");
	struct bytes b = begin();
	put_head(&b, 'd', 0755, 0, "");
	put_u32(&b, UINT32_MAX);
	refused(&b, "too many");
	b = begin();
	put_head(&b, 'd', 0755, 0, "");
	put_u32(&b, 1);
	put_text(&b, "user.x");
	put_u32(&b, UINT32_MAX);
	refused(&b, "too large");
}

Test(layers_tree_file, every_cut_is_noticed)
{
	struct bytes b = begin();
	struct err err = ERR_INIT;
	size_t n, whole[8] = {0}, ends = 0;
	put_plain(&b, 'd', 0755, "");
	whole[ends++] = b.len;
	put_plain(&b, 'f', 0644, "a");
	whole[ends++] = b.len;
	put_plain(&b, 'l', 0, "b");
	whole[ends++] = b.len;
	for (size_t len = 0, next = 0; len <= b.len; len++) {
		bool good = next < ends && len == whole[next];
		next += good;
		cr_expect_eq(read_all(&b, len, &n, &err), good ? 0 : -EUCLEAN, "cut to %zu bytes", len);
	}
}

Test(layers_tree_file, paths_are_shown_harmless)
{
	char shown[32];
	cr_expect_str_eq(tree_file_show("", 0, shown, sizeof(shown)), ".");
	cr_expect_str_eq(tree_file_show("a\n\\\xff", 4, shown, sizeof(shown)), "a\\x0a\\\\\\xff");
	cr_expect_str_eq(tree_file_show("0123456789012345678901234567890123456789", 40, shown, sizeof(shown)) + 20, "01234...");
}
