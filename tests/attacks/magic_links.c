/*
 * Tries: to read files outside of the root by the links of /proc: root, cwd, exe, fd, map_files, ns and mem of every process that can
 * be seen, by each of the names that lead there; map_files of its own; and by ".." beyond the root from every kind of mount.
 * Must: be refused, or end at the job's own root.
 * Stopped by: the pid namespace, hidepid on /proc, the init's own user and its not being dumpable; the pivoted root.
 * Without it: (the old root not unmounted) "BROKEN: 70 times .. from /", "/proc/self/cwd/../state: went through"; (no hidepid)
 * "/proc/1/cmdline can be reached"; (an init with the job's ids that is dumpable) all links of process 1.
 */
#include "reach.h"

#include <sys/stat.h>

static const char *const prefixes[] = {"/proc/%d/", "/proc/self/../%d/", "/proc/self/root/proc/%d/", "/proc/thread-self/../../../%d/",
	"/proc/%d/task/%1$d/"};
static const char *const names[] = {"root/etc/passwd", "root/work", "cwd/etc", "exe", "fd/0", "fd/1", "fd/3", "fdinfo/0", "map_files",
	"mem", "maps",
	"environ", "auxv", "stack", "ns/mnt", "ns/user", "ns/pid", "ns/net", "cmdline", "mountinfo", "cgroup", "pagemap", "syscall"};

static void look(int pid)
{
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		for (size_t j = 0; j < sizeof(names) / sizeof(names[0]); j++) {
			char path[128], text[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			int n = snprintf(path, sizeof(path), prefixes[i], pid);
#pragma GCC diagnostic pop
			(void)snprintf(path + n, sizeof(path) - (size_t)n, "%s", names[j]);
			if (readlink(path, text, sizeof(text)) >= 0 || open(path, O_RDONLY | O_NONBLOCK) >= 0)
				broken("%s can be reached", path);
		}
	held("links of process %d", pid);
}

/* From a directory fd of the process's own, which was opened without looking at what is in it. */
static void look_by_fd(int pid)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%d", pid);
	int dir = open(path, O_PATH | O_DIRECTORY);
	if (dir < 0) {
		held("%s by fd: %s", path, strerror(errno));
		return;
	}
	for (size_t j = 0; j < sizeof(names) / sizeof(names[0]); j++)
		if (openat(dir, names[j], O_RDONLY | O_NONBLOCK) >= 0)
			broken("%s/%s can be reached by fd", path, names[j]);
	held("%s by fd", path);
}

/* A process that is not in the list but answers to its number. */
static void look_for_hidden(void)
{
	char path[64];
	int found = 0;
	for (int pid = 2; pid < 3000; pid++) {
		(void)snprintf(path, sizeof(path), "/proc/%d/root", pid);
		struct stat st;
		if (pid != getpid() && lstat(path, &st) == 0)
			found++;
	}
	must(found == 0, "%d other processes by number", found);
}

static void own_map_files(void)
{
	DIR *dir = opendir("/proc/self/map_files");
	int opened = 0;
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[300];
		(void)snprintf(path, sizeof(path), "/proc/self/map_files/%s", e->d_name);
		if (e->d_name[0] != '.' && open(path, O_RDWR) >= 0)
			opened++;
	}
	must(opened == 0, "%d of map_files opened for writing", opened);
}

static void climb(const char *from)
{
	struct stat root, end;
	if (stat("/", &root) < 0 || chdir(from) < 0) {
		held("%s is not there", from);
		return;
	}
	for (int i = 0; i < 70; i++)
		if (chdir("..") < 0)
			broken("chdir(..): %s", strerror(errno));
	bool same = stat(".", &end) == 0 && end.st_dev == root.st_dev && end.st_ino == root.st_ino;
	must(same, "70 times .. from %s", from);
	char path[512] = "";
	(void)snprintf(path, sizeof(path), "%s", from);
	for (int i = 0; i < 70; i++)
		(void)strncat(path, "/..", sizeof(path) - strlen(path) - 1);
	same = stat(path, &end) == 0 && end.st_dev == root.st_dev && end.st_ino == root.st_ino;
	must(same, "a path of 70 .. from %s", from);
}

/* What a root of petri's or the host's would have, and the job's has not. */
static void names_outside(void)
{
	static const char *const outside[] = {"/state", "/b", "/w", "/r", "/s", "/sys/fs/cgroup", "/sys/kernel", "/boot", "/host",
		"/oldroot", "/.old",
		"/var/lib/petri", "/run/petri", "/etc/petri", "/etc/shadow", "/proc/self/root/state", "/proc/self/cwd/../state"};
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
		must_fail_as(outside[i], access(outside[i], F_OK), ENOENT, EACCES);
}

int main(void)
{
	int seen = each_pid(look);
	(void)each_pid(look_by_fd);
	look(1); /* hidepid may leave it out of the list */
	look_by_fd(1);
	must(seen <= 1, "%d processes to be seen, which are the init", seen);
	look_for_hidden();
	own_map_files();
	static const char *const places[] = {"/", "/work", "/tmp", "/dev", "/dev/shm", "/proc", "/proc/self", "/proc/self/root",
		"/proc/self/cwd", "/usr", "/etc"};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		climb(places[i]);
	if (chdir("/") == 0)
		names_outside();
	return finish();
}
