/*
 * The project ids of the slots; petri-nursery, once at its start. The range is the operator's choice, and is put on record in the store
 * (slots/projects) when it is first used: after a restart, and in every other worker of the store, each slot has the ids that it had,
 * so that what a crash left is charged to nobody else, and two ranges never overlap by mistake.
 */
#include "layers/stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse.h"

#define RECORD "projects"
#define RECORD_MAX 32

/* "FIRST-LAST". Id 0 is everybody's who has none; 4294967295 is the kernel's "none", projid.h. */
int stamp_projects_parse(const char *text, struct stamp_projects *ret, struct err *err)
{
	char first[RECORD_MAX];
	const char *dash = strchr(text, '-');
	uint64_t a, b;
	size_t len = dash ? (size_t)(dash - text) : 0;
	if (len == 0 || len >= sizeof(first))
		return err_say(err, EINVAL, "project ids are a range such as %u-%u, not '%.40s'", STAMP_PROJECT_BASE, STAMP_PROJECT_LAST, text);
	memcpy(first, text, len);
	first[len] = '\0';
	if (parse_u64(first, &a, NULL) < 0 || parse_u64(dash + 1, &b, NULL) < 0 || a == 0 || b > UINT32_MAX - 1 || b < a ||
		b - a + 1 < STAMP_PROJECTS)
		return err_say(err, EINVAL, "project ids are a range within 1-4294967294 of %u or more, %u for each slot, not '%.40s'",
			STAMP_PROJECTS, STAMP_PROJECTS, text);
	*ret = (struct stamp_projects){(uint32_t)a, (uint32_t)b};
	return 0;
}

static int read_record(int slots, struct stamp_projects *ret, struct err *err)
{
	char text[RECORD_MAX + 1];
	_cleanup_close_ int fd = openat(slots, RECORD, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : err_set(err, errno, "open slots/" RECORD);
	ssize_t n = fd_read_all(fd, text, RECORD_MAX);
	if (n < 0)
		return err_set(err, (int)n, "read slots/" RECORD);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	int r = stamp_projects_parse(text, ret, err);
	return r < 0 ? err_wrap(err, "slots/" RECORD) : 0;
}

/* Whole or not at all: another worker may look at the same moment. Return: 0, -EEXIST when it was quicker, or -errno. */
static int write_record(int slots, const struct stamp_projects *p, struct err *err)
{
	char text[RECORD_MAX], path[32];
	int len = snprintf(text, sizeof(text), "%" PRIu32 "-%" PRIu32 "\n", p->first, p->last);
	_cleanup_close_ int fd = openat(slots, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : fd_write_all(fd, text, (size_t)len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (r == 0 && linkat(AT_FDCWD, path, slots, RECORD, AT_SYMLINK_FOLLOW) < 0)
		r = -errno;
	return r < 0 && r != -EEXIST ? err_set(err, r, "write slots/" RECORD) : r;
}

int stamp_projects_choose(int slots, const char *wanted, struct stamp_projects *ret, struct err *err)
{
	struct stamp_projects p = {STAMP_PROJECT_BASE, STAMP_PROJECT_LAST}, there = {0, 0};
	int r = wanted && *wanted ? stamp_projects_parse(wanted, &p, err) : 0;
	if (r < 0)
		return r;
	r = read_record(slots, &there, err);
	if (r == -ENOENT) {
		r = write_record(slots, &p, err);
		r = r == -EEXIST ? read_record(slots, &there, err) : r == 0 ? (there = p, 0)
									    : r;
	}
	if (r < 0)
		return r;
	if (wanted && *wanted && (there.first != p.first || there.last != p.last))
		return err_say(err, EEXIST, "the slots of this store have the project ids %" PRIu32 "-%" PRIu32 ", not %s: to change that, stop all that "
					    "uses the store and remove slots/" RECORD " in it",
			there.first, there.last, wanted);
	*ret = there;
	return 0;
}
