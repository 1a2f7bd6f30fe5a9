/*
 * Counting what trees take; see the header. Root, over trees that others may be removing. One fd is open however deep a tree is;
 * a directory whose ".." is not where we came from was moved away, and the count of that tree ends there.
 */
#include "layers/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "layers/tree.h"

#define NAMES_MAX 100000000u

struct frame {
	dev_t dev;
	ino_t ino;
	size_t at;
	struct tree_names names;
};

struct walk {
	struct usage *usage;
	int dir; /* of the last frame */
	struct frame *frames;
	size_t n, cap;
};

static int count(struct usage *usage, const struct stat *st)
{
	uint64_t bytes = (uint64_t)st->st_blocks * 512, at;
	usage->entries++;
	if (S_ISDIR(st->st_mode) || st->st_nlink <= 1) {
		usage->bytes += bytes;
		return 0;
	}
	int r = inotab_put(&usage->inodes, st->st_dev, st->st_ino, usage->nlinks + 1, &at);
	if (r < 0)
		return r;
	if (r == 0) {
		usage->links[at - 1].seen++;
		return 0;
	}
	if (usage->nlinks == usage->cap) {
		size_t cap = usage->cap ? usage->cap * 2 : 64;
		struct usage_link *bigger = reallocarray(usage->links, cap, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		usage->links = bigger;
		usage->cap = cap;
	}
	usage->links[usage->nlinks++] = (struct usage_link){.bytes = bytes, .links = (uint32_t)st->st_nlink, .seen = 1};
	return 0;
}

/* Takes fd. */
static int push(struct walk *w, int fd)
{
	struct stat st;
	cleanup_close(&w->dir);
	w->dir = fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (w->n == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 64;
		struct frame *bigger = reallocarray(w->frames, cap, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		w->frames = bigger;
		w->cap = cap;
	}
	w->frames[w->n++] = (struct frame){.dev = st.st_dev, .ino = st.st_ino, .names = TREE_NAMES_INIT};
	return tree_list(fd, NAMES_MAX, &w->frames[w->n - 1].names);
}

static int pop(struct walk *w)
{
	struct stat st;
	tree_names_clear(&w->frames[--w->n].names);
	if (w->n == 0)
		return 0;
	int up = openat(w->dir, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close(&w->dir);
	w->dir = up;
	if (up < 0 || fstat(up, &st) < 0)
		return -errno;
	const struct frame *above = &w->frames[w->n - 1];
	return st.st_dev == above->dev && st.st_ino == above->ino ? 0 : -ESTALE;
}

static int step(struct walk *w, const char *name)
{
	struct stat st;
	if (fstatat(w->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	int r = count(w->usage, &st);
	if (r < 0 || !S_ISDIR(st.st_mode))
		return r;
	int fd = tree_open_beneath(w->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV)
		return 0;
	return fd < 0 ? fd : push(w, fd);
}

int usage_add(struct usage *usage, int dirfd, const char *name, struct err *err)
{
	struct walk w = {.usage = usage, .dir = tree_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)};
	int r = w.dir;
	if (r == -ENOENT)
		return 0;
	struct stat st;
	if (r >= 0)
		r = fstat(w.dir, &st) < 0 ? -errno : count(usage, &st);
	if (r == 0) {
		int fd = TAKE_FD(w.dir);
		r = push(&w, fd);
	}
	while (r == 0 && w.n > 0) {
		struct frame *f = &w.frames[w.n - 1];
		r = f->at < f->names.count ? step(&w, f->names.names[f->at++]) : pop(&w);
	}
	while (w.n > 0)
		tree_names_clear(&w.frames[--w.n].names);
	free(w.frames);
	cleanup_close(&w.dir);
	if (r == -ENOENT || r == -ESTALE)
		return 0; /* removed, or moved in order to be */
	return r < 0 ? err_set(err, r, "count what %s takes", name) : 0;
}

uint64_t usage_all(const struct usage *usage)
{
	uint64_t bytes = usage->bytes;
	for (size_t i = 0; i < usage->nlinks; i++)
		bytes += usage->links[i].bytes;
	return bytes;
}

uint64_t usage_own(const struct usage *usage, unsigned elsewhere)
{
	uint64_t bytes = usage->bytes;
	for (size_t i = 0; i < usage->nlinks; i++)
		bytes += usage->links[i].seen + elsewhere >= usage->links[i].links ? usage->links[i].bytes : 0;
	return bytes;
}

void usage_clear(struct usage *usage)
{
	inotab_clear(&usage->inodes);
	free(usage->links);
	*usage = USAGE_INIT;
}
