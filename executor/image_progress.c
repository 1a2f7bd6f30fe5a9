/* The progress of an import, on stderr; see the header. */
#include "executor/image_progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "base/sys.h"

#define BAR_WIDTH 30
#define BAR_EVERY_US 100000
#define LINE_EVERY_US 10000000 /* without a terminal: so that a log shows that it goes on */

void import_progress_begin(struct import_progress *p, const char *name)
{
	*p = (struct import_progress){.name = name, .terminal = isatty(STDERR_FILENO) == 1, .last_us = now_us()};
}

/* "layer 2/5 sha256:0123456789ab…" */
static void head(const struct image_progress *now, char *ret, size_t cap)
{
	(void)snprintf(ret, cap, "layer %u/%u%s%.19s%s", now->layer, now->layers, now->digest[0] ? " " : "", now->digest,
		now->digest[0] ? "…" : "");
}

static void draw(struct import_progress *p, const struct image_progress *now)
{
	char what[80], done[SIZE_TEXT_MAX], total[SIZE_TEXT_MAX], bar[BAR_WIDTH + 1];
	uint64_t most = now->total ? MIN(now->done, now->total) : 0;
	size_t full = now->total ? (size_t)((double)most / (double)now->total * BAR_WIDTH) : 0;
	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', MIN(full, (size_t)BAR_WIDTH));
	bar[BAR_WIDTH] = '\0';
	head(now, what, sizeof(what));
	format_size(now->done, done);
	format_size(now->total, total);
	if (now->total)
		(void)fprintf(stderr, "\r%s [%s] %s of %s\033[K", what, bar, done, total);
	else
		(void)fprintf(stderr, "\r%s %s\033[K", what, done);
	(void)fflush(stderr);
	p->drawn = true;
}

static void clear(struct import_progress *p)
{
	if (p->drawn)
		(void)fputs("\r\033[K", stderr);
	p->drawn = false;
}

void import_progress_on(void *ctx, const struct image_progress *now)
{
	struct import_progress *p = ctx;
	char what[80], size[SIZE_TEXT_MAX];
	uint64_t time = now_us();
	if (now->state == IMAGE_ARCHIVE_UNPACKING) {
		(void)fputs(p->terminal ? "decompressing the archive" : "decompressing the archive\n", stderr);
		p->drawn = p->terminal;
		return;
	}
	if (now->state == IMAGE_LAYER_READING) {
		if (time - p->last_us < (p->terminal ? BAR_EVERY_US : LINE_EVERY_US))
			return;
		p->last_us = time;
		if (p->terminal) {
			draw(p, now);
			return;
		}
	}
	clear(p);
	head(now, what, sizeof(what));
	format_size(now->done, size);
	(void)fprintf(stderr, "%s %s%s\n", what, size,
		now->state == IMAGE_LAYER_EXISTED	    ? " (already there)"
			: now->state == IMAGE_LAYER_READING ? " read so far"
							    : "");
	if (now->state == IMAGE_LAYER_READING)
		return;
	p->read += now->done;
	p->layers++;
	p->existed += now->state == IMAGE_LAYER_EXISTED;
}

void import_progress_end(struct import_progress *p, bool good)
{
	char size[SIZE_TEXT_MAX];
	clear(p);
	if (!good)
		return;
	format_size(p->read, size);
	(void)fprintf(stderr, "image %s: %u layer%s, %s, %u already there\n", p->name, p->layers, p->layers == 1 ? "" : "s", size, p->existed);
}
