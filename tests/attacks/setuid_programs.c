/*
 * Tries: to gain rights by exec: setuid and setgid programs of the image (every one in its directories of programs; in the imported image one that
 * root owns and that had file capabilities), programs that it makes setuid itself, one in a memfd, by execve and execveat, also with
 * LD_PRELOAD, LD_LIBRARY_PATH, GLIBC_TUNABLES and without argv; file capabilities that it sets itself; owning files as root.
 * Must: run, if at all, with the ids and the empty capabilities that the job has.
 * Stopped by: no_new_privs, nosuid on every mount, the empty bounding set; the import drops setuid bits and file capabilities.
 * Without it: (no no_new_privs, the bounding set kept, nosuid left out) "BROKEN: /usr/bin/newuidmap runs as somebody else", and
 * every other; no_new_privs alone: "after all: no_new_privs is 0".
 */
// expect judge: exited 0 | violation socket
#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "reach.h"

static char *const tricks[] = {"LD_PRELOAD=/work/evil.so", "LD_LIBRARY_PATH=/work", "LD_AUDIT=/work/evil.so",
	"GLIBC_TUNABLES=glibc.malloc.check=3", "PATH=/work", NULL};
static int programs;

/* Of a child after its exec, as long as it lives: another user's would not even be shown. */
static void look(pid_t child, const char *what, const char *before)
{
	char ids[64] = "", groups[64] = "", caps[64] = "", want[64], name[64] = "";
	(void)snprintf(want, sizeof(want), "%u\t%u\t%u\t%u", getuid(), getuid(), getuid(), getuid());
	for (int i = 0; i < 200; i++) {
		if (status_field(child, "Name", name, sizeof(name)) < 0 || strcmp(name, before) != 0)
			break;
		usleep(500);
	}
	int r = status_field(child, "Uid", ids, sizeof(ids));
	if (r == 0)
		r = status_field(child, "Gid", groups, sizeof(groups));
	if (r == 0)
		r = status_field(child, "CapPrm", caps, sizeof(caps));
	if (r == 0 && (strcmp(ids, want) != 0 || strcmp(groups, want) != 0 || strspn(caps, "0") != strlen(caps)))
		broken("%s runs with ids %s, groups %s, capabilities %s", what, ids, groups, caps);
	if (r < 0) /* nobody has waited for it yet, so it is there, but hidden: another user's, by effective id */
		broken("%s runs as somebody else", what);
}

static void run(const char *path, int fd)
{
	int p[2];
	if (pipe(p) < 0)
		return;
	char *const argv[] = {(char *)(uintptr_t)path, NULL}, *const none[] = {NULL};
	for (int i = 0; i < 3; i++) {
		pid_t child = fork();
		if (child == 0) {
			(void)dup2(p[0], 0);
			int null = open("/dev/null", O_WRONLY);
			(void)dup2(null, 1);
			(void)dup2(null, 2);
			if (fd >= 0)
				(void)syscall(SYS_execveat, fd, "", argv, tricks, AT_EMPTY_PATH);
			else
				(void)execve(path, i == 2 ? none : argv, i == 1 ? tricks : none);
			_exit(127);
		}
		char self[64] = "";
		(void)status_field(getpid(), "Name", self, sizeof(self));
		look(child, path, fd >= 0 ? "" : self);
		(void)kill(child, SIGKILL);
		(void)waitpid(child, NULL, 0);
	}
	(void)close(p[0]);
	(void)close(p[1]);
	programs++;
}

static void of_image(void)
{
	static const char *const dirs[] = {"/usr/bin", "/usr/sbin", "/usr/lib/openssh", "/usr/lib/dbus-1.0", "/bin", "/usr/local/bin",
		"/usr/lib/polkit-1"};
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		DIR *dir = opendir(dirs[i]);
		for (struct dirent *e; dir && (e = readdir(dir));) {
			char path[512];
			struct stat st;
			(void)snprintf(path, sizeof(path), "%s/%s", dirs[i], e->d_name);
			if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode))
				continue;
			if ((st.st_mode & (S_ISUID | S_ISGID)) || strcmp(e->d_name, "privileged") == 0 || getxattr(path, "security.capability", NULL, 0) > 0)
				run(path, -1);
		}
		if (dir)
			(void)closedir(dir);
	}
}

static void copy(const char *from, int to)
{
	char buffer[65536];
	long n;
	int fd = open(from, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, (size_t)n) != n)
			break;
	(void)close(fd);
}

static void of_its_own(const char *dir)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "%s/privileged", dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	if (fd < 0)
		return;
	copy("/proc/self/exe", fd);
	(void)close(fd);
	must_fail_as("a file of root's", chown(path, 0, 0), EPERM);
	must_fail_as("a file of another group's", chown(path, (uid_t)-1, 0), EPERM);
	(void)chmod(path, 06755);
	/* VFS_CAP_REVISION_2 and _3, all permitted and effective; root of this user namespace and of the job's. */
	unsigned caps[6] = {0x02000001, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0};
	must_fail_as("file capabilities", setxattr(path, "security.capability", caps, 20, 0), EPERM, EOPNOTSUPP);
	caps[0] = 0x03000001;
	caps[5] = getuid();
	must_fail_as("file capabilities of a namespace", setxattr(path, "security.capability", caps, 24, 0), EPERM, EOPNOTSUPP);
	run(path, -1);
}

int main(int argc, char **argv)
{
	(void)argc;
	if (!argv[0] || strstr(argv[0], "privileged") || strstr(argv[0], "memfd")) {
		pause(); /* to be looked at */
		return 0;
	}
	of_its_own("/work");
	of_its_own("/tmp");
	of_its_own("/dev/shm");
	int memory = memfd_create("memfd", MFD_CLOEXEC);
	copy("/proc/self/exe", memory);
	must_fail_as("a memfd of root's", fchown(memory, 0, 0), EPERM);
	(void)fchmod(memory, 06755);
	run("memfd", memory);
	of_image();
	must(programs >= 4, "%d programs", programs);
	must(!getauxval(AT_SECURE), "no secure execution");
	unprivileged("after all", getuid());
	return finish();
}
