/* Weaknesses of hosts that are made of a few files. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "executor/doctor_host.h"

static char top[] = "/tmp/petri-host-XXXXXX";
static int root = -1;
static struct weaknesses found;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	(void)st;
	(void)type;
	(void)walk;
	return remove(path);
}

static void put(const char *path, const void *data, size_t len)
{
	char parent[200];
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		(void)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
		(void)mkdirat(root, parent, 0755);
	}
	_cleanup_close_ int fd = openat(root, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	cr_assert(fd >= 0 && fd_write_all(fd, data, len) == 0, "write %s", path);
}

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

/* A host without fault. */
static void setup(void)
{
	(void)umask(022);
	cr_assert(mkdtemp(top));
	root = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_text("proc/sys/kernel/unprivileged_bpf_disabled", "2\n");
	put_text("proc/sys/kernel/io_uring_disabled", "1\n");
	put_text("proc/sys/kernel/core_pattern", "core\n");
	put_text("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
	put_text("sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n");
	put_text("sys/devices/system/cpu/vulnerabilities/l1tf", "Not affected\n");
	put_text("sys/devices/system/cpu/smt/active", "0\n");
	put_text("sys/fs/cgroup/cgroup.procs", "");
}

static void teardown(void)
{
	(void)close(root);
	(void)nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(doctor_host, .init = setup, .fini = teardown);

static const struct weakness *find(const char *name)
{
	weaknesses_find(root, "6.1.0-18-cloud-amd64", -1, &found);
	for (size_t i = 0; i < found.n; i++)
		if (strcmp(found.items[i].name, name) == 0)
			return &found.items[i];
	return NULL;
}

static void weak(const char *name, const char *text)
{
	const struct weakness *w = find(name);
	cr_assert(w && !w->unknown && strstr(w->found, text), "%s: %s", name, w ? w->found : "nothing");
}

static void unknown(const char *name)
{
	const struct weakness *w = find(name);
	cr_assert(w && w->unknown, "%s: %s", name, w ? w->found : "nothing");
}

Test(doctor_host, nothing_to_say)
{
	weaknesses_find(root, "6.18.2", -1, &found);
	cr_assert_eq(found.n, 0, "%s: %s", found.items[0].name, found.items[0].found);
}

Test(doctor_host, old_kernel)
{
	weaknesses_find(root, "5.15.0-91-generic", -1, &found);
	cr_assert(found.n == 1 && strcmp(found.items[0].name, "kernel") == 0 && !found.items[0].unknown);
	weaknesses_find(root, "petri's own", -1, &found);
	cr_assert(found.n == 1 && found.items[0].unknown);
}

Test(doctor_host, switches)
{
	put_text("proc/sys/kernel/unprivileged_bpf_disabled", "0\n");
	weak("unprivileged-bpf", "unprivileged_bpf_disabled is 0");
	put_text("proc/sys/kernel/io_uring_disabled", "0\n");
	weak("io-uring", "is 0");
	put_text("proc/sys/kernel/unprivileged_userns_clone", "1\n");
	weak("user-namespaces", "is 1");
	put_text("proc/sys/kernel/perf_event_paranoid", "-1\n");
	weak("perf-events", "is -1");
	put_text("proc/sys/kernel/unprivileged_userns_clone", "0\n");
	cr_assert_null(find("user-namespaces"));
}

/* With a number taken from whatever text begins with one, or with none: the first assertion fails. */
Test(doctor_host, bad_files_are_unknown)
{
	put_text("proc/sys/kernel/unprivileged_bpf_disabled", "");
	unknown("unprivileged-bpf");
	put_text("proc/sys/kernel/unprivileged_bpf_disabled", "none of \033[2Jyour business");
	unknown("unprivileged-bpf");
	cr_assert_null(strchr(find("unprivileged-bpf")->found, '\033'));
	put_text("proc/sys/kernel/unprivileged_bpf_disabled", "99999999999999999999999999\n");
	unknown("unprivileged-bpf");
	put("proc/sys/kernel/unprivileged_bpf_disabled", "\0\0\0", 3);
	unknown("unprivileged-bpf");
	cr_assert(unlinkat(root, "proc/sys/kernel/core_pattern", 0) == 0);
	unknown("core-pattern");
	cr_assert(mkdirat(root, "proc/sys/kernel/core_pattern", 0755) == 0);
	unknown("core-pattern");
}

Test(doctor_host, nothing_there_at_all)
{
	_cleanup_close_ int empty = -1;
	cr_assert(mkdirat(root, "empty", 0755) == 0 && (empty = openat(root, "empty", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
	weaknesses_find(empty, "", -1, &found);
	cr_assert_gt(found.n, 0);
	for (size_t i = 0; i < found.n; i++)
		cr_assert(found.items[i].unknown, "%s", found.items[i].name);
	weaknesses_find(-1, "6.1", -1, &found); /* not even a root */
}

Test(doctor_host, mitigations)
{
	put_text("sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable: Clear CPU buffers attempted, no microcode; SMT vulnerable\n");
	put_text("sys/devices/system/cpu/vulnerabilities/taa", "Mitigation: Clear CPU buffers; SMT vulnerable\n");
	weak("cpu-mitigations", "mds");
	weak("cpu-mitigations", "taa");
	cr_assert_null(strstr(find("cpu-mitigations")->found, "meltdown"));
	for (int i = 0; i < 60; i++) {
		char path[100];
		(void)snprintf(path, sizeof(path), "sys/devices/system/cpu/vulnerabilities/with_a_rather_long_name_%d", i);
		put_text(path, "Vulnerable\n");
	}
	weak("cpu-mitigations", "with_a_rather_long_name");
	put_text("sys/devices/system/cpu/smt/active", "1\n");
	weak("smt", "is 1");
}

Test(doctor_host, swap_and_core_pattern)
{
	put_text("proc/swaps", "Filename\tType\n/dev/zram0   partition\n");
	cr_assert_null(find("swap"));
	put_text("proc/swaps", "Filename\tType\n/dev/zram0   partition\n/dev/sda2\tpartition\n");
	weak("swap", "/dev/sda2");
	put_text("proc/sys/kernel/core_pattern", "|/usr/lib/systemd/systemd-coredump %P\n");
	weak("core-pattern", "systemd-coredump");
}

Test(doctor_host, cgroup_tree)
{
	if (geteuid() != 0) /* whose files are nobody's but root's */
		return;
	cr_assert_null(find("cgroup-tree"));
	put_text("sys/fs/cgroup/memory/cgroup.clone_children", "0\n");
	put_text("sys/fs/cgroup/user.slice/cgroup.procs", "");
	cr_assert(fchownat(root, "sys/fs/cgroup/user.slice", 1000, 1000, 0) == 0);
	cr_assert_null(find("cgroup-tree"));
	cr_assert(mkdirat(root, "sys/fs/cgroup/memory/petri", 0755) == 0 && fchmodat(root, "sys/fs/cgroup/memory/petri", 0777, 0) == 0);
	weak("cgroup-tree", "memory/petri");
	cr_assert(fchmodat(root, "sys/fs/cgroup", 0775, 0) == 0);
	weak("cgroup-tree", "/sys/fs/cgroup ");
}

Test(doctor_host, state_directory)
{
	struct statvfs fs;
	_cleanup_close_ int good = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC), bare = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(good >= 0 && bare >= 0 && fstatvfs(good, &fs) == 0);
	weaknesses_find(root, "6.1", good, &found);
	cr_assert_eq(found.n, fs.f_flag & ST_NOSUID && fs.f_flag & ST_NODEV ? 0 : 1);
	weaknesses_find(root, "6.1", bare, &found);
	cr_assert(found.n == 1 && strstr(found.items[0].found, "without nosuid,nodev"), "the root directory cannot have been mounted so");
}
