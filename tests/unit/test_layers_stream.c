/* The internal stream, good and garbled. */
#include "test_layers_util.h"

#include <sys/socket.h>
#include <sys/xattr.h>

#include "layers/stream.h"

struct ends {
	struct fixture f;
	int root, out;
	struct stream *s;
	struct unpack *u;
};

/* The "socket" is one whose other end holds all that a test sends. */
static int pair[2];

static void ends_open(struct ends *e)
{
	const struct unpack_options options = {.max_bytes = 1 << 20, .max_entries = 100, .keep_owner = true};
	struct err err = ERR_INIT;
	int size = 1 << 20;
	fixture_open(&e->f, false);
	cr_assert_eq(mkdirat(e->f.dirfd, "tree", 0700), 0);
	e->root = openat(e->f.dirfd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)), 0);
	cr_assert_eq(stream_new(pair[0], &e->s, &err), 0);
	cr_assert_eq(unpack_new(e->root, &options, &e->u, &err), 0);
}

static int ends_read(struct ends *e, struct err *err)
{
	close(pair[0]);
	int r = stream_unpack(pair[1], e->u, err);
	return r < 0 ? r : unpack_finish(e->u, err);
}

static void ends_close(struct ends *e)
{
	close(pair[1]);
	close(e->root);
	stream_free(e->s);
	unpack_free(e->u);
	fixture_close(&e->f);
}

Test(layers_stream, holes_and_attributes_arrive)
{
	struct ends e;
	struct err err = ERR_INIT;
	struct attrs attrs = {.count = 0};
	char value[16];
	ends_open(&e);
	cr_assert_eq(attrs_add(&attrs, "user.b", "2", 1), 0);
	cr_assert_eq(attrs_add(&attrs, "user.a", "1", 1), 0);
	cr_assert_eq(attrs_add(&attrs, "user.b", "two", 3), 0);
	cr_assert_eq(attrs_add(&attrs, "user.overlay.opaque", "y", 1), -EINVAL);
	cr_assert_eq(attrs_add(&attrs, "trusted.a", "y", 1), -EINVAL);
	cr_expect_eq(attrs.count, 2);
	const struct unpack_entry entry = {.path = "f", .mode = 0644, .size = 500000, .attrs = &attrs};
	cr_assert_eq(stream_entry(e.s, &entry, &err), 0);
	cr_assert_eq(stream_data_at(e.s, "begin", 5, 0, &err), 0);
	cr_assert_eq(stream_data_at(e.s, "middle", 6, 300000, &err), 0);
	cr_expect_eq(stream_data_at(e.s, "back", 4, 10, &err), -EINVAL);
	cr_expect_eq(stream_data_at(e.s, "over", 4, 499998, &err), -EINVAL);
	cr_assert_eq(stream_file_end(e.s, &err), 0);
	cr_assert_eq(stream_end(e.s, &err), 0);
	cr_assert_eq(ends_read(&e, &err), 0, "%s", err_msg(&err));
	struct stat st = stat_at(e.root, "f");
	cr_expect_eq(st.st_size, 500000);
	cr_expect_lt(st.st_blocks, 100, "holes were filled");
	int fd = openat(e.root, "f", O_RDONLY);
	cr_expect_eq(pread(fd, value, 6, 300000), 6);
	cr_expect_arr_eq(value, "middle", 6);
	cr_expect_eq(fgetxattr(fd, "user.b", value, sizeof(value)), 3);
	close(fd);
	attrs_clear(&attrs);
	ends_close(&e);
}

/* What a parser that was taken over could send. Heads are seven words of 64 bits. */
static int garbled(uint32_t type, int64_t size, uint32_t path_len, uint32_t target_len, uint32_t nattrs, uint64_t chunk)
{
	struct ends e;
	struct err err = ERR_INIT;
	const struct {
		uint32_t type, mode;
		int64_t uid, gid, mtime, size;
		uint32_t path_len, target_len, nattrs, reserved;
	} head = {type, 0644, 0, 0, 0, size, path_len, target_len, nattrs, 0};
	static char zeros[8192];
	ends_open(&e);
	memset(zeros, 'a', sizeof(zeros));
	cr_assert_eq(write(pair[0], &head, sizeof(head)), (ssize_t)sizeof(head));
	cr_assert_eq(write(pair[0], zeros, MIN(path_len, 200u)), (ssize_t)MIN(path_len, 200u));
	cr_assert_eq(write(pair[0], &chunk, sizeof(chunk)), (ssize_t)sizeof(chunk));
	cr_assert_eq(write(pair[0], zeros, sizeof(zeros)), (ssize_t)sizeof(zeros));
	int r = ends_read(&e, &err);
	ends_close(&e);
	return r;
}

Test(layers_stream, garbled_ones_are_refused)
{
	cr_expect_eq(garbled(1, 100, 1, 0, 0, 101), -EPROTO, "more data than the file has");
	cr_expect_eq(garbled(1, 100, 1, 0, 0, 1ull << 63 | 101), -EPROTO, "a hole larger than the file");
	cr_expect_eq(garbled(1, 100, 1, 0, 0, 1ull << 63), -EPROTO, "a hole of nothing");
	cr_expect_eq(garbled(1, 100, 1, 0, 0, 0), -EPROTO, "data of nothing");
	cr_expect_eq(garbled(1, -1, 1, 0, 0, 1), -EINVAL, "a negative size");
	cr_expect_eq(garbled(1, INT64_MAX, 1, 0, 0, 1), -EFBIG);
	cr_expect_eq(garbled(0, 0, 1, 0, 0, 1), -EPROTO);
	cr_expect_eq(garbled(99, 0, 1, 0, 0, 1), -EPROTO);
	cr_expect_eq(garbled(1, 0, UINT32_MAX, 0, 0, 1), -EPROTO);
	cr_expect_eq(garbled(1, 0, 1, UINT32_MAX, 0, 1), -EPROTO);
	cr_expect_eq(garbled(1, 0, 1, 0, UINT32_MAX, 1), -EPROTO);
	cr_expect_eq(garbled(1, 0, 1, 0, 1, UINT64_MAX), -EPROTO, "an attribute of 4 GiB");
	cr_expect_eq(garbled(1, 0, 1, 0, 1, 5ull), -EPROTO, "an attribute that no layer has");
	cr_expect_eq(garbled(5, 0, 1, 0, 0, 1), -EINVAL, "a whiteout in a plain archive");
	cr_expect_eq(garbled(101, 0, 0, 0, 0, 1), 0, "what follows the end is not looked at");
}
