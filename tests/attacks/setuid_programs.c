/*
 * Tries: to gain rights by exec: setuid and setgid programs of the image (those that Debian has; in the imported image one that
 * root owns and that had file capabilities), programs that it makes setuid itself, one in a memfd, by execve and execveat, also with
 * LD_PRELOAD, LD_LIBRARY_PATH, GLIBC_TUNABLES and without argv; file capabilities that it sets itself; owning files as root.
 * Must: run, if at all, with the ids and the empty capabilities that the job has.
 * Stopped by: no_new_privs, nosuid on every mount, the empty bounding set; the import drops setuid bits and file capabilities.
 * Without it: (no no_new_privs, the bounding set kept, nosuid left out) "BROKEN: /usr/bin/newuidmap runs as somebody else", and
 * every other; no_new_privs alone: "after all: no_new_privs is 0".
 */
// flags: --wall 40s
// expect judge: exited 0 | violation socket
#include <linux/capability.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "reach.h"

static char *const tricks[] = {"LD_PRELOAD=/work/evil.so", "LD_LIBRARY_PATH=/work", "LD_AUDIT=/work/evil.so",
	"GLIBC_TUNABLES=glibc.malloc.check=3", "PATH=/work", NULL};
static int programs;

/*
 * Of a child after its exec, dead or alive. prlimit(2) answers only where all of its ids are the caller's, and neither that nor capget(2)
 * minds that some programs make themselves not dumpable. Several times: the new ids come a moment after the closing of descriptors.
 */
static void look(pid_t child, const char *what)
{
	for (int i = 0; i < 4; i++) {
		struct rlimit limit;
		struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = child};
		struct __user_cap_data_struct caps[2] = {{0}, {0}};
		if (syscall(SYS_prlimit64, child, RLIMIT_NOFILE, NULL, &limit) < 0) {
			broken("%s runs as somebody else: %s", what, strerror(errno));
			return;
		}
		if (syscall(SYS_capget, &header, caps) < 0 || caps[0].permitted || caps[1].permitted || caps[0].inheritable) {
			broken("%s runs with capabilities %#x", what, caps[0].permitted);
			return;
		}
		usleep(300);
	}
}

static void run_as(const char *path, int fd, char *const argv[], char *const envp[])
{
	int in[2], done[2];
	if (pipe(in) < 0 || pipe2(done, O_CLOEXEC) < 0)
		return;
	pid_t child = fork();
	if (child == 0) {
		(void)dup2(in[0], 0);
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		(void)dup2(null, 1);
		(void)dup2(null, 2);
		if (fd >= 0)
			(void)syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
		else
			(void)execve(path, argv, envp);
		(void)!write(done[1], "x", 1);
		_exit(127);
	}
	char byte;
	(void)close(done[1]);
	if (child > 0 && read(done[0], &byte, 1) == 0) { /* the exec closed it */
		look(child, path);
		programs++;
	}
	(void)kill(child, SIGKILL);
	(void)waitpid(child, NULL, 0);
	(void)close(done[0]);
	(void)close(in[0]);
	(void)close(in[1]);
}

static void run(const char *path, int fd, bool in_all_ways)
{
	char name[128];
	(void)snprintf(name, sizeof(name), "%s", path);
	char *const argv[] = {name, NULL}, *const none[] = {NULL};
	run_as(path, fd, argv, tricks);
	if (in_all_ways) {
		run_as(path, fd, argv, none);
		run_as(path, fd, none, none);
	}
}

/* Those that Debian has setuid or setgid, and the imported image's. By name: a walk over /usr/bin may read thousands of inodes. */
static void of_image(void)
{
	static const char *const paths[] = {"/bin/privileged", "/usr/bin/su", "/usr/bin/mount", "/usr/bin/umount", "/usr/bin/passwd", "/usr/bin/chsh",
		"/usr/bin/chfn", "/usr/bin/gpasswd", "/usr/bin/newgrp", "/usr/bin/newuidmap", "/usr/bin/newgidmap", "/usr/bin/chage", "/usr/bin/expiry",
		"/usr/bin/sudo", "/usr/bin/pkexec", "/usr/bin/fusermount3", "/usr/bin/at", "/usr/bin/crontab", "/usr/bin/ping", "/usr/bin/bwrap",
		"/usr/sbin/unix_chkpwd", "/usr/lib/openssh/ssh-keysign", "/usr/lib/dbus-1.0/dbus-daemon-launch-helper", "/usr/bin/ssh-agent",
		"/usr/bin/write", "/usr/bin/wall"};
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct stat st;
		bool named = i == 0;
		if (lstat(paths[i], &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (named || (st.st_mode & (S_ISUID | S_ISGID)) || getxattr(paths[i], "security.capability", NULL, 0) > 0)
			run(paths[i], -1, false);
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
	run(path, -1, true);
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
	run("memfd", memory, true);
	of_image();
	must(programs >= 4, "%d programs", programs);
	must(!getauxval(AT_SECURE), "no secure execution");
	unprivileged("after all", getuid());
	return finish();
}
