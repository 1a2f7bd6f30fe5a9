/*
 * Records that petri reads back: descriptions of images and layers, what became of imported sources, and the worker's requests to the
 * supervisor. The first byte says which. What is accepted is within what it promises, a refusal says why.
 *
 * Taken out once: the comparison of uid_base with a slot's first id; another is then accepted (found within seconds).
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fuzz_input.h"

#include "base/fd.h"
#include "executor/engine.h"
#include "executor/supervisor.h"
#include "layers/import.h"
#include "layers/store_internal.h"
#include "layers/tree.h"
#include "pool/wire.h"

#define HEX32 "00112233445566778899aabbccddeeff"
#define HEX64 HEX32 HEX32

static char dir[64];
static struct store store;

static void clean_up(void)
{
	(void)tree_remove(AT_FDCWD, dir, NULL);
}

static void set_up(void)
{
	fuzz_tmp(dir, sizeof(dir), "records");
	(void)atexit(clean_up);
	store.fd = store.images = store.layers = store.by_source = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(store.fd >= 0 && mkdirat(store.fd, HEX32, 0755) == 0);
}

static void put(const char *name, const struct input *in)
{
	int fd = openat(store.fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	CHECK(fd >= 0 && fd_write_all(fd, in->at, in->left) == 0);
	close(fd);
}

static void check_image(const struct input *in)
{
	struct image image = {.nlayers = 0};
	struct err err = ERR_INIT;
	put("a.json", in);
	int r = image_load(&store, "a", &image, &err);
	CHECK(r < 0 ? err.msg[0] != '\0' : strcmp(image.name, "a") == 0 && image.nlayers <= IMAGE_LAYERS_MAX && !image.host_usr);
	if (r == 0)
		image_clear(&image);
}

static void check_layer(const struct input *in)
{
	static const uint8_t id[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
	struct layer_info info = {0};
	struct err err = ERR_INIT;
	put(HEX32 "/layer.json", in);
	int r = layer_load(&store, id, &info, &err);
	CHECK(r < 0 ? err.msg[0] != '\0' : memcmp(info.id, id, sizeof(id)) == 0);
}

static void check_known(const struct input *in)
{
	struct import_known known;
	put(HEX64 ".tar", in);
	if (import_known_find(&store, HEX64, false, &known))
		CHECK((known.diff_id[0] == '\0' || store_is_hex(known.diff_id, 64)) && store_is_hex(known.tree, 64));
	(void)import_known_size(&store, 7, false);
}

static void check_commit(struct input *in)
{
	static struct commit_request request;
	memset(&request, 0, sizeof(request));
	take_bytes(in, &request, sizeof(request));
	if (!commit_request_sane(&request))
		return;
	if (request.kind == COMMIT_BLOB) {
		CHECK(request.max_bytes + 1 > request.max_bytes);
		return;
	}
	uint32_t slot = (request.uid_base - POOL_UID_BASE) / POOL_UID_COUNT;
	CHECK(request.uid_base == POOL_UID_BASE + slot * POOL_UID_COUNT && slot < POOL_NUMBERS_MAX);
	CHECK(request.prefix[0] == '/' && strnlen(request.prefix, sizeof(request.prefix)) < sizeof(request.prefix));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	if (!dir[0])
		set_up();
	switch (take_byte(&in) % 4) {
	case 0:
		check_image(&in);
		break;
	case 1:
		check_layer(&in);
		break;
	case 2:
		check_known(&in);
		break;
	default:
		check_commit(&in);
	}
	return 0;
}
