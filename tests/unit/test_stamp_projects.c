/* The range of project ids: what is a range, and that a store keeps the one that it has. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "layers/stamp.h"

static char dir[64];

static int make_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/test-projects-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	return fd;
}

static void remove_dir(int fd)
{
	(void)unlinkat(fd, "projects", 0);
	cr_assert_eq(rmdir(dir), 0, "something else was left");
	close(fd);
}

Test(projects, what_is_a_range)
{
	static const struct {
		const char *text;
		int r;
	} cases[] = {{"1-16", 0}, {"1000-1999", 0}, {"1-4294967294", 0}, {"1-15", -EINVAL}, {"0-100", -EINVAL}, {"", -EINVAL}, {"5", -EINVAL},
		{"-100", -EINVAL}, {"100-", -EINVAL}, {"200-100", -EINVAL}, {"1-4294967295", -EINVAL}, {"1-99999999999999999999", -EINVAL},
		{"1--100", -EINVAL}, {"a-b", -EINVAL}, {"1-100x", -EINVAL}, {" 1-100", -EINVAL}, {"11111111111111111111111111111111111111111-2", -EINVAL}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stamp_projects p = {7, 7};
		struct err err = ERR_INIT;
		cr_expect_eq(stamp_projects_parse(cases[i].text, &p, &err), cases[i].r, "'%s'", cases[i].text);
		if (cases[i].r < 0)
			cr_expect(p.first == 7 && strstr(err_msg(&err), "project ids"), "%s", err_msg(&err));
	}
}

Test(projects, a_store_keeps_its_range)
{
	int fd = make_dir();
	struct stamp_projects p;
	struct err err = ERR_INIT;
	cr_assert_eq(stamp_projects_choose(fd, "1000-1999", &p, &err), 0, "%s", err_msg(&err));
	cr_expect(p.first == 1000 && p.last == 1999);
	p.first = 0;
	cr_assert_eq(stamp_projects_choose(fd, NULL, &p, &err), 0, "%s", err_msg(&err));
	cr_expect(p.first == 1000 && p.last == 1999);
	cr_assert_eq(stamp_projects_choose(fd, "", &p, &err), 0);
	cr_assert_eq(stamp_projects_choose(fd, "1000-1999", &p, &err), 0);
	cr_assert_eq(stamp_projects_choose(fd, "1000-2999", &p, &err), -EEXIST);
	cr_expect(strstr(err_msg(&err), "1000-1999") && strstr(err_msg(&err), "slots/projects"), "%s", err_msg(&err));
	cr_assert_eq(stamp_projects_choose(fd, "x", &p, &err), -EINVAL);
	remove_dir(fd);
}

Test(projects, the_default)
{
	int fd = make_dir();
	struct stamp_projects p;
	struct err err = ERR_INIT;
	cr_assert_eq(stamp_projects_choose(fd, NULL, &p, &err), 0, "%s", err_msg(&err));
	cr_expect(p.first == STAMP_PROJECT_BASE && p.last == STAMP_PROJECT_LAST);
	remove_dir(fd);
}

Test(projects, a_damaged_record_is_refused)
{
	int fd = make_dir();
	struct stamp_projects p;
	int file = openat(fd, "projects", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	cr_assert_eq(write(file, "12\n", 3), 3);
	close(file);
	struct err err = ERR_INIT;
	cr_assert_eq(stamp_projects_choose(fd, NULL, &p, &err), -EINVAL);
	cr_expect(strstr(err_msg(&err), "slots/projects"), "%s", err_msg(&err));
	cr_assert_eq(unlinkat(fd, "projects", 0), 0);
	cr_assert_eq(symlinkat("/etc/hostname", fd, "projects"), 0);
	cr_assert_eq(stamp_projects_choose(fd, NULL, &p, &err), -ELOOP);
	remove_dir(fd);
}

/* All that start at once agree, whoever is first. */
Test(projects, many_at_once)
{
	int fd = make_dir(), good = 0;
	for (unsigned i = 0; i < 16; i++) {
		if (fork() == 0) {
			char text[40];
			struct stamp_projects p;
			snprintf(text, sizeof(text), "%u-%u", 1000 * (i % 4 + 1), 1000 * (i % 4 + 1) + 99);
			int r = stamp_projects_choose(fd, text, &p, NULL);
			_exit(r == 0 ? 0 : r == -EEXIST ? 1
							: 2);
		}
	}
	for (int i = 0; i < 16; i++) {
		int status;
		cr_assert_gt(wait(&status), 0);
		cr_assert(WIFEXITED(status) && WEXITSTATUS(status) < 2);
		good += WEXITSTATUS(status) == 0;
	}
	cr_expect_eq(good, 4, "%d of 16 got their range", good);
	remove_dir(fd);
}
