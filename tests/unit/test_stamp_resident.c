/* Which files are cached, and reading them again: layers/resident.h. On the filesystem of /var/tmp. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "base/sys.h"
#include "layers/resident.h"

#define SIZE (3u << 20)

static char dir[64], path[128];
static const struct resident_groups nobody;

static int memfd(const char *text, size_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, len), (ssize_t)len);
	return fd;
}

/* A file of random bytes that is not cached. Return: its fd; path is its name. */
static int make_cold(const char *name, size_t size)
{
	static char bytes[SIZE];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0, "%s", strerror(errno));
	for (size_t i = 0; i < size; i++)
		bytes[i] = (char)(i * 31 >> 3);
	cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
	cr_assert_eq(fsync(fd), 0);
	cr_assert_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	return fd;
}

static size_t cached_pages(int fd, size_t size)
{
	unsigned char pages[SIZE / 4096];
	size_t n = 0;
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	cr_assert_neq(map, MAP_FAILED);
	cr_assert_eq(mincore(map, size, pages), 0, "%s", strerror(errno));
	for (size_t i = 0; i < size / 4096; i++)
		n += pages[i] & 1;
	munmap(map, size);
	return n;
}

static void make_dir(void)
{
	(void)snprintf(dir, sizeof(dir), "/var/tmp/test-resident-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
}

static void remove_dir(void)
{
	char command[96];
	(void)snprintf(command, sizeof(command), "rm -rf -- %s", dir);
	cr_assert_eq(system(command), 0);
}

static bool on_disk(void)
{
	struct statfs st;
	return statfs(dir, &st) == 0 && st.f_type != TMPFS_MAGIC && st.f_type != RAMFS_MAGIC;
}

static bool eventually_cached(int fd, size_t size)
{
	for (int i = 0; i < 500 && cached_pages(fd, size) < size / 4096; i++)
		usleep(10000);
	return cached_pages(fd, size) == size / 4096;
}

Test(stamp_resident, a_file_is_read_again)
{
	make_dir();
	int fd = make_cold("cold", SIZE);
	if (on_disk() && cached_pages(fd, SIZE) == 0) {
		int list = memfd(path, strlen(path) + 1);
		resident_read(list, &nobody, SIZE - 1);
		cr_expect_eq(cached_pages(fd, SIZE), 0, "more was read than there is room for");
		resident_read(list, &nobody, SIZE);
		cr_expect(eventually_cached(fd, SIZE), "%zu pages", cached_pages(fd, SIZE));
		close(list);
	}
	close(fd);
	remove_dir();
}

/* What a list names may have become anything, and the list itself may be cut off: none of it blocks, and none is followed. */
Test(stamp_resident, nothing_but_files_is_read, .timeout = 30)
{
	char list[1024], name[128];
	size_t len = 0;
	make_dir();
	int fd = make_cold("cold", SIZE), holes = make_cold("holes", 4096);
	cr_assert_eq(ftruncate(holes, 1ll << 40), 0);
	static const char *const names[] = {"fifo", "gone", "", "link", "under/cold", "holes"};
	(void)snprintf(name, sizeof(name), "%s/fifo", dir);
	cr_assert_eq(mkfifo(name, 0600), 0);
	(void)snprintf(name, sizeof(name), "%s/link", dir);
	cr_assert_eq(symlink("cold", name), 0);
	(void)snprintf(name, sizeof(name), "%s/under", dir);
	cr_assert_eq(symlink(".", name), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s/%s", dir, names[i]) + 1;
	len += (size_t)snprintf(list + len, sizeof(list) - len, "%s/cold", dir); /* without its NUL */
	int lists[] = {memfd(list, len), memfd("", 0), memfd("\0\0\0", 3)};
	for (size_t i = 0; i < 3; i++) {
		resident_read(lists[i], &nobody, UINT64_MAX);
		close(lists[i]);
	}
	if (on_disk())
		cr_expect_eq(cached_pages(fd, SIZE), 0);
	cr_expect_leq(cached_pages(holes, SIZE), 1, "a hole was filled");
	close(holes);
	close(fd);
	remove_dir();
}

/* The inode of this process's own group of the memory controller; 0 when that is not to be found. */
static uint64_t own_group(void)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[4096], group[4200];
	uint64_t inode = 0;
	while (f && fgets(line, sizeof(line), f)) {
		struct stat st;
		char *memory = strstr(line, ":memory:"), *unified = strncmp(line, "0::", 3) == 0 ? line : NULL;
		line[strcspn(line, "\n")] = '\0';
		if (memory)
			(void)snprintf(group, sizeof(group), "/sys/fs/cgroup/memory%s", memory + strlen(":memory:"));
		else if (unified)
			(void)snprintf(group, sizeof(group), "/sys/fs/cgroup%s", unified + 3);
		if ((memory || (unified && inode == 0)) && stat(group, &st) == 0)
			inode = st.st_ino;
	}
	if (f)
		fclose(f);
	return inode;
}

static char *listed(const uint64_t *inodes, size_t n, uint64_t until_us)
{
	const struct resident_groups groups = {.inodes = inodes, .n = n};
	int list = memfd("", 0);
	resident_list_tree(dir, &groups, list, until_us);
	struct stat st;
	cr_assert_eq(fstat(list, &st), 0);
	char *text = calloc(1, (size_t)st.st_size + 1);
	cr_assert_not_null(text);
	cr_assert_eq(pread(list, text, (size_t)st.st_size, 0), st.st_size);
	for (off_t i = 0; i + 1 < st.st_size; i++)
		if (text[i] == '\0')
			text[i] = '\n';
	close(list);
	return text;
}

Test(stamp_resident, what_a_group_is_charged_with)
{
	char want[256], name[128];
	make_dir();
	int warm = make_cold("warm", SIZE);
	(void)snprintf(want, sizeof(want), "%s", path);
	int cold = make_cold("cold", SIZE);
	(void)snprintf(name, sizeof(name), "%s/fifo", dir);
	cr_assert_eq(mkfifo(name, 0600), 0);
	uint64_t own = own_group();
	if (on_disk() && geteuid() == 0 && own && access("/proc/kpagecgroup", R_OK) == 0 && cached_pages(warm, SIZE) == 0 && cached_pages(cold, SIZE) == 0) {
		static char bytes[SIZE];
		cr_assert_eq(pread(warm, bytes, SIZE, 0), SIZE);
		const uint64_t groups[] = {own}, others[] = {own + 1, own + 2, UINT64_MAX};
		struct {
			const uint64_t *inodes;
			size_t n;
			uint64_t until;
			const char *want;
		} cases[] = {{groups, 1, UINT64_MAX, want}, {others, 3, UINT64_MAX, ""}, {NULL, 0, UINT64_MAX, ""}, {groups, 1, 0, ""}};
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			char *text = listed(cases[i].inodes, cases[i].n, cases[i].until);
			cr_expect_str_eq(text, cases[i].want, "case %zu: %s", i, text);
			free(text);
		}
	}
	close(warm);
	close(cold);
	remove_dir();
}

/* Its length is one bound for all trees of an image: a full one takes no more. */
Test(stamp_resident, a_full_list_stays_as_it_is)
{
	make_dir();
	int fd = make_cold("warm", SIZE), list = memfd("", 0);
	static char bytes[SIZE];
	cr_assert_eq(pread(fd, bytes, SIZE, 0), SIZE);
	cr_assert_eq(ftruncate(list, 16 << 20), 0);
	cr_assert_eq(lseek(list, 0, SEEK_END), 16 << 20);
	const uint64_t own = own_group();
	const struct resident_groups groups = {.inodes = &own, .n = 1};
	resident_list_tree(dir, &groups, list, UINT64_MAX);
	struct stat st;
	cr_assert_eq(fstat(list, &st), 0);
	cr_expect_eq(st.st_size, 16 << 20);
	close(list);
	close(fd);
	remove_dir();
}
