/* Packs: see base/pack.h. A pack that would pass its bounds is given up silently: the layer is then mounted instead. */
#include "layers/pack.h"

#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "base/pack.h"
#include "layers/store.h"

static int flush(struct pack *pack)
{
	size_t len = pack->buffered;
	pack->buffered = 0;
	return fd_write_all(pack->fd, pack->buf, len);
}

static int put(struct pack *pack, const void *data, size_t len)
{
	pack->bytes += len;
	if (len > sizeof(pack->buf) - pack->buffered) {
		int r = flush(pack);
		if (r < 0)
			return r;
	}
	if (len > sizeof(pack->buf))
		return fd_write_all(pack->fd, data, len);
	memcpy(pack->buf + pack->buffered, data, len);
	pack->buffered += len;
	return 0;
}

void pack_begin(struct pack *pack, int fd)
{
	pack->fd = fd;
	pack->bytes = 0;
	pack->entries = 0;
	pack->buffered = 0;
	memcpy(pack->buf, PACK_MAGIC, PACK_MAGIC_LEN);
	pack->buffered = pack->bytes = PACK_MAGIC_LEN;
}

void pack_give_up(struct pack *pack)
{
	pack->fd = -1;
}

int pack_entry(struct pack *pack, int type, const char *path, uint32_t mode, uint64_t size)
{
	size_t len = strlen(path);
	if (pack->fd < 0)
		return 0;
	if (len > PACK_PATH_MAX || pack->entries >= LAYER_PACK_MAX_ENTRIES || size > LAYER_PACK_MAX_BYTES ||
		pack->bytes + size + len + 2 * sizeof(struct pack_entry) > LAYER_PACK_MAX_BYTES) {
		pack_give_up(pack);
		return 0;
	}
	struct pack_entry entry;
	memset(&entry, 0, sizeof(entry)); /* the padding too: it goes to a file */
	entry.type = (uint8_t)type;
	entry.source = PACK_INLINE;
	entry.path_len = (uint16_t)len;
	entry.mode = mode;
	entry.size = size;
	pack->entries++;
	int r = put(pack, &entry, sizeof(entry));
	return r < 0 ? r : put(pack, path, len);
}

int pack_data(struct pack *pack, const void *data, size_t len)
{
	return pack->fd < 0 ? 0 : put(pack, data, len);
}

int pack_end(struct pack *pack)
{
	struct pack_entry entry;
	if (pack->fd < 0)
		return 0;
	memset(&entry, 0, sizeof(entry)); /* PACK_END */
	int r = put(pack, &entry, sizeof(entry));
	if (r == 0)
		r = flush(pack);
	return r < 0 ? r : 1;
}
