/*
 * Tries: to find in /proc/self/mountinfo where the layers, the upper directory and overlay's work directory lie, and to open them by
 * these names, as they are and beneath every directory that could be petri's; what lies beneath the mount points; and the devices that
 * the mounts name, by nodes of its own.
 * Must: find nothing by any of them.
 * Stopped by: the mount namespace: the paths are names in the nursery's, and the layers are attached only while the overlay is made.
 * Without it: (the old root not unmounted) "BROKEN: ../../../../..//b/6 is there", the slot's base.
 */
#include "reach.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

static const char *const tops[] = {"", "/", "/proc/1/root/", "/proc/self/root/", "/work/", "/tmp/", "/dev/shm/", "/usr/", "/w/",
	"../../../../../"};
/* The job's own names, which a mount may well be named by. */
static const char *const own[] = {"/", "/work", "/tmp", "/usr", "/proc", "/shm", "/dev", "/nothing", "/null", "/dev/null"};

static bool is_own(const char *path)
{
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (strcmp(path, own[i]) == 0)
			return true;
	return path[0] == '\0';
}

static int tried, found;

static void try_path(const char *path)
{
	if (is_own(path))
		return;
	for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++) {
		char full[1024];
		(void)snprintf(full, sizeof(full), "%s%s", tops[i], path);
		struct stat st;
		tried++;
		if (stat(full, &st) == 0 && !(path[0] != '/' && i == 0)) {
			found++;
			broken("%s is there", full);
		}
	}
}

static void try_device(const char *pair)
{
	unsigned major, minor;
	if (sscanf(pair, "%u:%u", &major, &minor) != 2)
		return;
	if (mknodat(AT_FDCWD, "/work/device", S_IFBLK | 0666, makedev(major, minor)) == 0) {
		found++;
		broken("a node of device %s could be made", pair);
	}
}

static void try_line(char *line)
{
	char *fields[32], *save = NULL;
	int n = 0;
	for (char *p = strtok_r(line, " ", &save); p && n < 32; p = strtok_r(NULL, " ", &save))
		fields[n++] = p;
	if (n < 10)
		return;
	try_device(fields[2]);
	try_path(fields[3]);	 /* the root of the mount in its filesystem */
	try_path(fields[n - 2]); /* the source */
	for (char *o = strtok_r(fields[n - 1], ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		char *value = strchr(o, '=');
		if (value && (strncmp(o, "lowerdir", 8) == 0 || strncmp(o, "upperdir", 8) == 0 || strncmp(o, "workdir", 7) == 0)) {
			char *rest = NULL;
			for (char *p = strtok_r(value + 1, ":", &rest); p; p = strtok_r(NULL, ":", &rest))
				try_path(p);
		}
	}
}

int main(void)
{
	static char text[65536];
	long n = read_text("/proc/self/mountinfo", text, sizeof(text));
	must(n > 0 && !strstr(text, " - cgroup") && !strstr(text, " - sysfs"),
		"mountinfo shows %ld bytes, no cgroup filesystem and no sysfs", n);
	char *rest = NULL;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		try_line(line);
	must(tried > 0 && found == 0, "%d names from mountinfo", tried);
	static const char *const hidden[] = {"/tmp/j", "/tmp/u", "/tmp/w", "/dev/shm/shm", "/proc/nothing", "/work/j", "/j", "/u",
		"/j/work", "/u/work"};
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		must_fail_as(hidden[i], access(hidden[i], F_OK), ENOENT);
	return finish();
}
