/*
 * What is not durable yet. A commit is published without a sync, which would cost more than the job; until one has happened its
 * layer holds a file `unsynced` with the id of this boot. After a power cut its description may be whole and its content
 * not, so a layer with another boot's id, or a cut-off one, is none. The name is in the directory before the layer is
 * renamed into its place, so a journal that shows the one shows the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "layers/layer.h"
#include "layers/settle.h"
#include "layers/store_internal.h"
#include "layers/tree.h"

#define MARK "unsynced"
#define BOOT_ID_LEN 36
#define SETTLE_MAX 1000000

/* "" when the kernel does not tell: then nothing unsynced is ever trusted. */
static const char *boot_id(void)
{
	static char id[BOOT_ID_LEN + 1];
	_cleanup_free_ char *text = NULL;
	size_t len;
	if (!id[0] && fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &len, NULL) == 0 && len >= BOOT_ID_LEN)
		memcpy(id, text, BOOT_ID_LEN);
	return id;
}

int settle_mark(int dir, struct err *err)
{
	_cleanup_close_ int fd = openat(dir, MARK, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
	if (fd < 0)
		return err_set(err, errno, "mark a layer as not synced");
	int r = fd_write_all(fd, boot_id(), strlen(boot_id()));
	return r < 0 ? err_set(err, r, "mark a layer as not synced") : 0;
}

/* Return: 1 of this boot, 0 not marked at all, -1 of another one. */
static int look(struct store *store, const char *hex)
{
	char path[33 + sizeof("/" MARK)];
	_cleanup_free_ char *text = NULL;
	size_t len;
	(void)snprintf(path, sizeof(path), "%.32s/" MARK, hex);
	int r = fd_read_file(store->layers, path, 64, &text, &len, NULL);
	if (r == -ENOENT)
		return 0;
	return r == 0 && boot_id()[0] && len == BOOT_ID_LEN && memcmp(text, boot_id(), BOOT_ID_LEN) == 0 ? 1 : -1;
}

bool settle_survived(struct store *store, const char *hex)
{
	return look(store, hex) >= 0;
}

void store_settle(struct store *store)
{
	_cleanup_(tree_names_clear) struct tree_names names = TREE_NAMES_INIT;
	size_t kept = 0;
	if (tree_list(store->layers, SETTLE_MAX, &names) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		char *name = names.names[i];
		int state = store_is_hex(name, 32) ? look(store, name) : 0;
		if (state < 0) {
			log_warn("the layer xxh128:%s had not reached the disk when the machine stopped; it is removed", name);
			(void)layer_move_away(store, name, NULL);
		}
		if (state > 0)
			names.names[kept++] = name; /* those before it are done with */
		else
			free(name);
	}
	names.count = kept;
	if (kept == 0 || syncfs(store->layers) < 0)
		return;
	for (size_t i = 0; i < kept; i++) {
		char path[33 + sizeof("/" MARK)];
		(void)snprintf(path, sizeof(path), "%.32s/" MARK, names.names[i]);
		(void)unlinkat(store->layers, path, 0);
	}
}
