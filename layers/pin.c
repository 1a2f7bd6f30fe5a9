/* Pins; see the header. Root's verbs. A thing is kept from gc by its own lock while its pin is made: no pin is of something gone. */
#include "layers/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "layers/store_internal.h"
#include "layers/tree.h"
#include "layers/use.h"

static int open_dir(struct store *store, struct err *err)
{
	return tree_ensure_dir(store->fd, "pins", 0700, 0, err);
}

int pin_there(struct store *store, const uint8_t id[16])
{
	char hex[33], path[sizeof("pins/") + 32];
	format_hex(id, 16, hex);
	(void)snprintf(path, sizeof(path), "pins/%s", hex);
	if (faccessat(store->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	return errno == ENOENT ? 0 : -errno;
}

static int make_pin(struct store *store, const uint8_t id[16], struct err *err)
{
	char hex[33];
	format_hex(id, 16, hex);
	_cleanup_close_ int dir = open_dir(store, err);
	if (dir < 0)
		return dir;
	_cleanup_close_ int fd = openat(dir, hex, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fsync(fd) < 0 || fsync(dir) < 0)
		return err_set(err, errno, "pin xxh128:%s", hex);
	return 0;
}

int pin_layer(struct store *store, const uint8_t id[16], struct err *err)
{
	_cleanup_close_ int held = layer_hold(store, id, err);
	return held < 0 ? held : make_pin(store, id, err);
}

int pin_blob(struct store *store, const uint8_t id[16], struct err *err)
{
	char fan[3];
	format_hex(id, 1, fan);
	_cleanup_close_ int dir = tree_open_dir(store->blobs, fan);
	int r = dir == -ENOENT ? 0 : dir < 0 ? dir
					     : store_lock(dir, LOCK_SH);
	if (r < 0)
		return err_set(err, r, "lock a blob");
	_cleanup_close_ int fd = blob_open_unused(store, id, NULL, err);
	return fd < 0 ? fd : make_pin(store, id, err);
}

int pin_remove(struct store *store, const uint8_t id[16], struct err *err)
{
	char hex[33];
	format_hex(id, 16, hex);
	_cleanup_close_ int dir = open_dir(store, err);
	if (dir < 0)
		return dir;
	if (unlinkat(dir, hex, 0) < 0) {
		if (errno == ENOENT)
			return err_say(err, ENOENT, "xxh128:%s is not pinned", hex);
		return err_set(err, errno, "unpin xxh128:%s", hex);
	}
	return fsync(dir) < 0 ? err_set(err, errno, "unpin xxh128:%s", hex) : 0;
}
